"""Does CONTRIBUTING tell the truth: is a new probe one file and one line?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the packages in which somebody followed CONTRIBUTING to the letter."""
    for package in ("exporter", "probes", "dashboards"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = re.search(r"This is a whole one, `(probes/(\w+)/(\w+)\.py)`", PAGE)
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    line = re.search(r"```diff\n-(.*)\n\+(.*)\n```", PAGE)
    assert path
    assert code
    assert line
    family, stem = path[2], path[3]
    assert line[1].strip() == f'"{family}": (...),'
    assert line[2].strip() == f'"{family}": (..., "{stem}"),'
    (tmp_path / path[1]).write_text(code[1], encoding="utf-8")
    listing = tmp_path / "probes" / "__init__.py"
    before = listing.read_text(encoding="utf-8")
    after, found = re.subn(rf'("{family}": \([^)]*?)(,?\s*\),)', rf'\1, "{stem}"\2', before)
    assert found == 1, "the line in CONTRIBUTING is not like the line in probes/__init__.py"
    listing.write_text(after, encoding="utf-8")
    return tmp_path


def gpu_canary(house: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(house)}
    argv = [sys.executable, "-P", "-m", "exporter", *words]
    return subprocess.run(argv, env=env, cwd=house, capture_output=True, text=True, timeout=60)


def test_the_probe_of_contributing_keeps_the_contract(house: Path) -> None:
    ended = gpu_canary(house, "verify", "probes.environment.uptime:PROBE")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/uptime is Linux's")
def test_the_probe_of_contributing_runs_for_real(house: Path) -> None:
    ended = gpu_canary(house, "run", "uptime", "--param", "minimum=0s", "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"since_boot_seconds"' in json.dumps(json.loads(ended.stdout))


def test_the_probe_of_contributing_is_on_its_family_s_dashboard(house: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(house)}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "dashboards"], env=env, cwd=house, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = {path.stem: path.read_text(encoding="utf-8") for path in (house / "dashboards" / "json").iterdir()}
    assert [stem for stem, text in written.items() if "gpucanary_uptime_since_boot_seconds" in text] == [
        "gpucanary-environment"
    ]


def test_the_probe_of_contributing_is_formatted_as_the_house_is(house: Path) -> None:
    path = house / "probes" / "environment" / "uptime.py"
    ruff = Path(sys.executable).with_name("ruff")
    for words in (("format", "--check"), ("check",)):
        argv = [str(ruff), *words, "--config", str(ROOT / "pyproject.toml"), str(path)]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stdout + ended.stderr
