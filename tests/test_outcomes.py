"""Does every benchmark end in the right outcome, with a remedy and without a trace, whatever befalls its worker?

The benchmarks are those of the registry and their workers the real ones; their Python is sick (tests/patient).
"""

from __future__ import annotations

import itertools
import shutil
import sys
import venv
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from exporter import oneshot
from exporter.interpreters import Interpreter
from exporter.registry import load
from exporter.result import Check, Result
from exporter.world import posix
from exporter.world.gpus import GpuDoor, Pace, Places
from exporter.world.host import HostDoor
from exporter.world.mounts import Places as Host
from exporter.world.real import Doors
from exporter.world.token import Token
from exporter.world.workers import WORKERS, Launcher
from probes.api import Json
from probes.rules import HOUSE_RULES
from tests.checks import eventually
from tests.conftest import ROOT
from tests.nvml import UUIDS, Stub, build_stub
from tests.test_claims import holding

pytestmark = [pytest.mark.nvml, pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")]

PATIENT = ROOT / "tests" / "patient"
PROBES = {
    name: probe
    for name, probe in load().probes.items()
    if probe.family == "benchmarks" and (WORKERS / f"{name}.py").exists()
}
TORCHLESS = {name for name in PROBES if "kit.torch(" not in (WORKERS / f"{name}.py").read_text()}
SECONDS = 60.0  # far more than any fault needs but the one that never ends
LATE = 12.0  # enough to start all of them at once on a busy machine

# What the benchmarks must be told beside their defaults, so that they run at all.
PARAMS: dict[str, dict[str, Json]] = {
    "command": {"command": ["true"]},
    "vram_leak": {"process": "a service", "command": ["true"]},
}
# fault: (outcome, rule, what the finding says)
FAULTS = {
    "host_out_of_memory": ("degraded", "worker-out-of-memory", "MemoryError"),
    "card_out_of_memory": ("degraded", "worker-out-of-memory", "CUDA out of memory. Tried to allocate 20.00 GiB"),
    "killed": ("degraded", "worker-out-of-memory", "SIGKILL"),
    "segfault": ("failed", "worker-crashed", "SIGSEGV"),
    "abort": ("failed", "worker-crashed", "SIGABRT"),
    "launch_failure": ("failed", "worker-crashed", "CUDA error: unspecified launch failure"),
    "card_lost": ("failed", "worker-crashed", "CUDA error: no CUDA-capable device is detected"),
    "hangs": ("failed", "worker-late", "not done after"),
}
# The same trouble under the probe's own name: there a program of the user's did not end.
OWN_WORDS = {("command", "worker-late"): ("failed", "command-timeout")}
UNTOLD = {"vram_leak"}  # its worker only starts the user's program: nothing of it is told but how that ended


def sick(folder: Path, fault: str) -> str:
    """A Python that meets that fault; its path."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for file in ("torch.py", "fault.py"):
        shutil.copy(PATIENT / file, site)
    (site / "torchless.pth").write_text("import fault; fault.begin()\n")
    (folder / "fault").write_text(fault)
    return str(folder / "bin" / "python")


class Ward:
    """Two stub cards, a Python that is sick, and a folder for each thing that a run may leave behind."""

    def __init__(self, folder: Path, library: Path, fault: str) -> None:
        self.folder = folder
        self.python = sick(folder / "venv", fault)
        for name in ("scratch", "models", "locks", "proc/self/ns"):
            (folder / name).mkdir(parents=True)
        (folder / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
        gpus = GpuDoor(Places((str(library),), str(folder), str(folder / "proc"), ()), Pace(sample=0.1, watch=0.1))
        launcher = Launcher(
            lambda: (Interpreter("sick", self.python),), gpus=gpus.look, scratch=str(folder / "scratch")
        )
        self.doors = Doors(gpus, HostDoor(), launcher, Host(locks=str(folder / "locks")))

    def check(self, name: str, timeout: float) -> Check:
        probe, params = PROBES[name], dict(PARAMS.get(name, {}))
        if "path" in probe.params.model_fields:
            params |= {"path": str(self.folder / "models"), "size": "32MiB"}
        return Check(name, probe, probe.params(**params), 3600.0, timeout)

    def run(self, name: str, timeout: float) -> Result:
        return oneshot.execute(self.check(name, timeout), Token(timeout), self.doors, str)

    def left(self) -> list[str]:
        """What is still there of workers: processes, folders, files."""
        processes = [p.info["cmdline"] for p in psutil.process_iter(["cmdline", "status"]) if _runs(p, self.python)]
        files = [str(path) for place in ("scratch", "models") for path in (self.folder / place).iterdir()]
        return [*map(str, processes), *files]


def _runs(process: psutil.Process, python: str) -> bool:
    told = process.info
    return told["status"] != psutil.STATUS_ZOMBIE and python in (told["cmdline"] or ())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stub(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def stub(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    found = Stub(library, f"{tmp_path.name}.answers")
    monkeypatch.setenv("GPU_CANARY_STUB_NVML", str(found.file))
    return found


@pytest.fixture
def ward(
    library: Path, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Ward]:
    made = Ward(tmp_path, library, request.param)
    monkeypatch.setattr(sys, "executable", made.python)  # what runs in the exporter's own Python is sick too
    kills = itertools.count()
    monkeypatch.setattr(posix, "oom_kills", lambda: next(kills))  # the kernel's OOM killer is at work all the time
    yield made
    made.doors.close()


def remedies(result: Result) -> Mapping[str, str]:
    known = {rule.name: rule.remedy for rule in (*HOUSE_RULES, *PROBES[result.probe].rules)}
    return {found.rule: known[found.rule] for found in result.findings}


@pytest.mark.parametrize(("ward", "fault"), [(fault, fault) for fault in FAULTS], indirect=["ward"], ids=FAULTS)
def test_every_benchmark_ends_in_the_right_outcome_and_without_a_trace(ward: Ward, fault: str) -> None:
    outcome, rule, words = FAULTS[fault]
    timeout = LATE if fault == "hangs" else SECONDS
    with ThreadPoolExecutor(len(PROBES) if fault == "hangs" else 3) as pool:
        results = dict(zip(PROBES, pool.map(lambda name: ward.run(name, timeout), PROBES), strict=True))
    expected = {name: OWN_WORDS.get((name, rule), (outcome, rule)) for name in PROBES}
    assert {name: (r.outcome, *(f.rule for f in r.findings)) for name, r in results.items()} == expected
    for name, result in results.items():
        assert words in result.findings[0].detail, name
        assert "`" in remedies(result)[result.findings[0].rule], name
        if name in UNTOLD:
            continue
        known = {**result.identity, **result.conditions}
        assert known["revision"], f"{name}: the rows before the fault are kept"
        if name not in TORCHLESS:
            assert (known["torch"], known["device"]) == ("2.13.0+cu128", "cuda")
        if fault == "hangs":
            assert "the driver does not answer" in result.evidence["worker log"]
    eventually(lambda: not ward.left())
    locks = ward.folder / "locks"
    assert {f"gpu-canary-{card}.lock" for card in UUIDS} <= {file.name for file in locks.iterdir()}
    for card in UUIDS:
        with holding(card, locks):  # another process takes it at once
            pass


@pytest.mark.parametrize("ward", ["card_lost"], indirect=True)
def test_a_card_that_falls_off_the_bus_fails_its_benchmark_and_is_told_by_name(ward: Ward, stub: Stub) -> None:
    before = oneshot.execute(hardware("gpu"), Token(SECONDS), ward.doors, str)
    stub.set({"gpu0.lost": 1})
    stub.raise_xid(0, 79)
    result = ward.run("matmul", SECONDS)
    assert (result.outcome, [f.rule for f in result.findings]) == ("failed", ["worker-crashed"])
    assert "`dmesg | tail` shows XIDs" in remedies(result)["worker-crashed"]
    assert (result.identity["uuid"], result.measurements) == (UUIDS[0], ())
    after = oneshot.execute(hardware("gpu"), Token(SECONDS), ward.doors, str)
    assert "gpu-lost" not in {f.rule for f in before.findings}
    assert [f.subject for f in after.findings if f.rule == "gpu-lost"] == [UUIDS[0]]


def hardware(name: str) -> Check:
    probe = load().probes[name]
    return Check(name, probe, probe.params(), 60.0, SECONDS)
