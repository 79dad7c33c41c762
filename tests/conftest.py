"""Which tests did not run, and why? A marker names what a test needs; the session's last line says what was not found.

STRICT=1 (CI sets it) makes every test that did not run a failure.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nvml import compiler

ROOT = Path(__file__).parent.parent
TORCH_PYTHON = ROOT / ".venv-torch" / "bin" / "python"
UNFINISHED = ROOT / ".venv-torch" / ".gpu-canary-preparing"
GRAFANA_PYTHON = ROOT / ".venv-grafana" / "bin" / "python"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# What tests start takes turns among itself, not with whatever else measures on this machine.
LOCKS = os.environ["GPU_CANARY_PATH_LOCKS"] = tempfile.mkdtemp(prefix="locks-")

# A shell that runs pytest in the background has it ignore Ctrl-C, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PREPARE = ROOT.parent / "shared" / "containers" / "prepare"


def containers() -> bool:
    """Can images be built and run? Where a workplace has stand-ins for them, they must have been made."""
    if not shutil.which("podman") or os.geteuid() != 0:
        return False
    base = ["podman", "image", "exists", "docker.io/library/python:3.13-slim-bookworm"]
    return not PREPARE.exists() or subprocess.run(base, capture_output=True).returncode == 0


# marker: (is it there?, what to say when it is not)
MEANS: dict[str, tuple[Callable[[], object], str]] = {
    "containers": (containers, "no podman, not root, or no stand-in images: .ci/run sees to them"),
    "browser": (lambda: CHROMIUM, "no Chromium: apt-get install chromium"),
    "grafana": (
        lambda: (ROOT / ".venv-grafana" / ".gpu-canary-made").exists(),
        "no .venv-grafana: deploy/setup.sh test",
    ),
    "nvml": (compiler, "no C compiler: apt-get install gcc libc6-dev, or pip install ziglang"),
    "prometheus": (lambda: shutil.which("promtool"), "no promtool: apt-get install prometheus"),
    "root": (lambda: hasattr(os, "geteuid") and os.geteuid() == 0, "not root"),
    "torch": (lambda: TORCH_PYTHON.exists() and not UNFINISHED.exists(), "no .venv-torch: deploy/setup.sh test"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {marker: reason for marker, (found, reason) in MEANS.items() if not found()}
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def skipped(config: pytest.Config) -> list[str]:
    """Why tests did not run, one reason each; empty in the workers of pytest-xdist."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return [str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    strict = os.environ.get("STRICT", "0") not in ("", "0")
    if strict and exitstatus == pytest.ExitCode.OK and skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(LOCKS, ignore_errors=True)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly:
        return
    ran = sum(len(reporter.stats.get(outcome, [])) for outcome in ("passed", "failed", "error", "xfailed", "xpassed"))
    reasons = Counter(skipped(config))
    why = "; ".join(f"{number}: {reason}" for reason, number in reasons.most_common())
    reporter.write_line(f"{ran} tests ran, {reasons.total()} did not{f' ({why})' if why else ''}")
