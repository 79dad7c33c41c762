"""Do workers run in other Pythons than the one that our tests' torch lives in, with torch and without?

Which there are: tests/pythons.py. One of another version is enough; `uv python install 3.13` makes one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from exporter.interpreters import Interpreter
from exporter.registry import load
from exporter.world.token import Token
from exporter.world.workers import WORKERS, Launcher
from probes.api import Blind, Finding, Json, Row
from probes.benchmarks import command, disk_io
from probes.testing import RecordedWorld
from tests.pythons import Other, others
from tests.test_outcomes import PROBES, TORCHLESS
from tests.torch_side import WorkingWorld, measured, run

MIB = 2**20
# What torch's workers are told, so that each takes a moment on the CPU.
TINY: dict[str, dict[str, Json]] = {
    "matmul": {"size": 64},
    "memory_copy": {"size": MIB},
    "host_copy": {"size": MIB},
    "peer_copy": {"size": MIB},
    "attention": {"share_of_tokens": 128},
    "llm_decode": {"prompt_tokens": 8},
    "model_load": {"path": ".", "size": 32 * MIB, "keep_free": 0},
    "max_batch": {"memory": 64 * MIB},
    "sustained": {"size": 64},
    "optimisations": {"pixels": 64},
    "monitor_accuracy": {"device": "cpu", "rounds": 1, "seconds": 0.1, "memory": MIB, "vram": 0},
}


@pytest.fixture(scope="module")
def pythons() -> tuple[Other, ...]:
    found = others()
    if not found:
        pytest.skip("no second Python: uv python install 3.13")
    return found


def rows(other: Other, name: str, **params: Json) -> list[Row]:
    launcher = Launcher(lambda: (Interpreter("other", other.path),))
    return list(launcher.rows(name, params, token=Token(60.0)))


def rules(facts: Any) -> list[str]:
    return [f.rule for f in facts if isinstance(f, Finding)]


def test_the_disk_and_a_program_are_measured_in_each(
    pythons: tuple[Other, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in pythons:
        monkeypatch.setattr(sys, "executable", other.path)  # what runs in the exporter's own Python
        disks = {str(tmp_path): {"free": 2**50, "total": 2**50}}
        world: RecordedWorld = WorkingWorld({"disks": disks}, python=other.path)
        values = measured(run(disk_io.PROBE, world, path=str(tmp_path), size="4MiB", chunk="1MiB", seconds="1s"))
        assert [metric for metric, _ in values] == ["write_bytes_per_second", "read_bytes_per_second"], other
        assert list(tmp_path.iterdir()) == []
        asked = {"command": ["python", "-c", "import sys; print('minor', sys.version_info[1])"]}
        figures = {"minor": {"regex": "minor ([0-9]+)"}}
        facts = run(command.PROBE, world, interpreter="here", figures=figures, **asked)
        assert rules(facts) == []
        assert [value for key, value in measured(facts).items() if key[-1] == "minor"] == [other.version[1]]
        assert rows(other, "vram_leak", command=["true"], settle=0.0)[-2].data == {"code": 0}


def test_kit_says_which_python_it_is_and_lists_its_packages(pythons: tuple[Other, ...]) -> None:
    for other in pythons:
        first, *_, told, last = rows(other, "packages")
        assert (first.data["python"], first.data["executable"], last.kind) == (other.name, other.path, "end")
        assert "pip" in str(told.data["packages"])


def test_known_loads_come_and_go_in_the_oldest(pythons: tuple[Other, ...]) -> None:
    told = rows(pythons[0], "monitor_accuracy", **TINY["monitor_accuracy"])
    assert [row.data["phase"] for row in told if row.kind == "data"] == [0, 0, 1, 1, 2, 2]


def test_each_worker_of_torch_measures_where_there_is_torch_and_says_so_where_there_is_none(
    pythons: tuple[Other, ...],
) -> None:
    """Under the oldest without torch, and under all with it: the worker's own code runs up to its `import torch`."""
    without = [other for other in pythons if not other.torch][:1]
    for other in [*without, *(other for other in pythons if other.torch)]:
        for name in sorted(PROBES.keys() - TORCHLESS):
            params: dict[str, Json] = {"device": "cpu", "seconds": 0.05, **TINY.get(name, {})}
            if name == "monitor_accuracy" and not other.torch:
                params["device"] = "auto"  # on the CPU it needs none
            if other.torch:
                assert "fact" in {row.kind for row in rows(other, name, **params)}, (name, other)
            else:
                with pytest.raises(Blind, match="no_torch"):
                    rows(other, name, **params)


def test_no_worker_is_forgotten() -> None:
    known = {name for name, probe in load().probes.items() if (WORKERS / f"{name}.py").exists()}
    assert known == {*PROBES, "packages", "torch_import"}
    assert TINY.keys() <= PROBES.keys()
