"""Is a stranger's package as good as one of ours? It is really installed, and the real program meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import ROOT, Exporter
from tests.scrape import value

PACKAGE = Path(__file__).parent / "example_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, as pip leaves it."""
    folder = tmp_path_factory.mktemp("plugins")
    words = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(folder),
    ]
    ended = subprocess.run([sys.executable, *words, str(PACKAGE)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return folder


def gpu_canary(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(installed), "XDG_STATE_HOME": str(installed / "state"), "TORCH": "0"}
    argv = [sys.executable, "-m", "exporter", *words]
    return subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_strangers_probe_is_listed_beside_ours_with_the_package_it_came_from(installed: Path) -> None:
    ended = gpu_canary(installed, "list")
    rows = {line.split()[0]: line for line in ended.stdout.splitlines()}
    assert "canary-room 1.2.3" in rows["room"]
    assert "gpu-canary" in rows["disk"]
    assert "a_library_nobody_has" in ended.stderr
    assert ended.returncode == 0


def test_a_strangers_probe_runs_with_its_params_and_its_remedy(installed: Path) -> None:
    thermometer = installed / "celsius"
    thermometer.write_text("31.5")
    ended = gpu_canary(installed, "run", "room", "--param", f"path={thermometer}")
    assert ended.returncode == 1, ended.stderr
    assert "room  degraded" in ended.stdout
    assert "air_celsius  31.5 °C" in ended.stdout
    assert "Open a window." in ended.stdout


def test_a_good_probe_keeps_the_contract(installed: Path) -> None:
    ended = gpu_canary(installed, "verify", "canary_room.room:PROBE")
    assert (ended.returncode, ended.stdout) == (0, "canary_room.room:PROBE keeps the contract\n"), ended.stderr


def test_a_careless_probe_hears_every_promise_it_breaks(installed: Path) -> None:
    ended = gpu_canary(installed, "verify", "canary_room.careless:PROBE", "--json")
    assert ended.returncode == 1
    told = json.loads(ended.stdout)
    assert told["ok"] is False
    for sentence in (
        "the module's docstring must start with the question",
        "parameter path has no description",
        "the help must be a sentence",
        "example 'a file' yields unexpected",
        "an empty world is taken for ok",
        "a world whose doors are all blind must be skipped",
    ):
        assert any(sentence in problem for problem in told["problems"]), sentence


@pytest.mark.parametrize(
    ("word", "code", "said"),
    [
        ("canary_room.broken:PROBE", 1, "broken.py:3: ModuleNotFoundError: No module named 'a_library_nobody_has'"),
        ("canary_room.room:WARM", 1, "is a Rule, not a probes.api.Probe"),
        ("canary_room.room:PROBES", 2, "did you mean PROBE?"),
        ("canary_rom.room:PROBE", 2, "there is no module 'canary_rom'"),
        ("canary_room.room", 2, "write MODULE:PROBE"),
    ],
)
def test_what_is_no_probe_is_told_by_name(installed: Path, word: str, code: int, said: str) -> None:
    ended = gpu_canary(installed, "verify", word)
    assert ended.returncode == code
    assert said in ended.stdout + ended.stderr


def test_a_broken_plugin_is_a_check_one_can_run(installed: Path) -> None:
    ended = gpu_canary(installed, "run", "plugin:broken", "--json")
    assert ended.returncode == 3
    (result,) = json.loads(ended.stdout)
    assert result["outcome"] == "error"
    assert "canary-room 1.2.3" in result["findings"][0]["subject"]


def test_a_broken_plugin_is_a_check_in_error_and_the_exporter_lives(installed: Path, tmp_path: Path) -> None:
    config = tmp_path / "canary.yml"
    config.write_text("checks: [{probe: room, every: 1s, timeout: 500ms, params: {path: /nowhere/celsius}}]\n")
    exporter = Exporter(tmp_path, f"--config.file={config}", env={"PYTHONPATH": str(installed)})
    try:
        exporter.until(
            lambda s: (
                value(s, "gpucanary_check_outcome", {"check": "plugin:broken", "outcome": "error"}) == 1
                and value(s, "gpucanary_check_outcome", {"check": "room", "outcome": "failed"}) == 1
            )
        )
    finally:
        exporter.end()
