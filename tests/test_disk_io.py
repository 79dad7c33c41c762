"""Does disk_io measure a real disk, leave nothing on it, and never fill it?"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporter.world.workers import WORKERS
from probes.api import Blind, Evidence, Finding, SubjectFailed
from probes.benchmarks import disk_io
from probes.testing import RecordedWorld
from tests.torch_side import TICK, WorkingWorld, measured, run

MIB = 2**20
WORKER = Path(disk_io.__file__).parent.parent / "workers" / "disk_io.py"


def world(path: Path, free: int = 2**50) -> RecordedWorld:
    return WorkingWorld({"disks": {str(path): {"free": free, "total": 2**50}}}, python=sys.executable)


def worker() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "bench"}
    exec(compile(WORKER.read_text(), str(WORKER), "exec"), names)
    return names


class Kit:
    """A kit whose clock goes on by a tick whenever it is read."""

    def __init__(self) -> None:
        self.facts: dict[str, tuple[float, str]] = {}
        self.said: dict[str, Any] = {}
        self.ticks = 0

    def clock(self) -> float:
        self.ticks += 1
        return self.ticks * TICK

    def fact(self, metric: str, value: float, cache: str) -> None:
        self.facts[metric] = (value, cache)

    def data(self, **said: Any) -> None:
        self.said.update(said)

    def progress(self, done: float, total: float) -> None:
        pass


def bench(path: Path, **params: Any) -> Kit:
    kit = Kit()
    asked = {"path": str(path), "size": 4 * MIB, "chunk": MIB, "seconds": 100.0, "keep_free": 0}
    worker()["bench"](kit, {**asked, **params})
    return kit


def test_a_real_disk_is_written_and_read_and_nothing_stays(tmp_path: Path) -> None:
    facts = run(disk_io.PROBE, world(tmp_path), path=str(tmp_path), size="32MiB", chunk="4MiB", seconds="5s")
    values = measured(facts)
    assert [metric for metric, _ in values] == ["write_bytes_per_second", "read_bytes_per_second"]
    assert all(1e5 < value < 1e12 for value in values.values())
    assert [f.text for f in facts if isinstance(f, Evidence) and f.name == "written"] == ["32 MiB"]
    assert list(tmp_path.iterdir()) == []


def test_the_rates_are_bytes_by_seconds(tmp_path: Path) -> None:
    kit = bench(tmp_path)
    # The clock is read at the start, before each chunk but the first, and at the end; for reading, at start and end.
    assert kit.facts["write_bytes_per_second"][0] == 4 * MIB / (4 * TICK)
    assert kit.facts["read_bytes_per_second"][0] == 4 * MIB / TICK
    assert kit.said == {"written": 4 * MIB}


def test_the_budget_ends_the_writing_and_what_was_written_is_read(tmp_path: Path) -> None:
    kit = bench(tmp_path, size=1000 * MIB, seconds=4 * TICK)
    assert MIB <= kit.said["written"] <= 3 * MIB


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    names = worker()
    buffer = names["mmap"].mmap(-1, 8192)
    buffer.write(os.urandom(8192))
    sent = buffer[:]
    file, _ = names["nameless"](str(tmp_path), buffer)
    names["write"](Kit(), file, buffer, 16384, 100.0, 0)
    buffer[:] = bytes(8192)
    names["read"](Kit(), file, buffer, 16384)
    os.close(file)
    assert buffer[:] == sent


def test_a_killed_worker_leaves_no_file_and_no_bytes(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"names = runpy.run_path({str(WORKER)!r}, run_name='bench')\n"
        "buffer = names['mmap'].mmap(-1, 4096)\n"
        f"file, _ = names['nameless']({str(tmp_path)!r}, buffer)\n"
        "print('open', flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    seen = list(tmp_path.iterdir())
    process.kill()
    process.wait()
    process.stdout.close()
    assert seen == list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_there_is_too_little_room(tmp_path: Path) -> None:
    facts = run(disk_io.PROBE, world(tmp_path, 127 * MIB), path=str(tmp_path), size="32MiB")
    assert [f.rule for f in facts if isinstance(f, Finding)] == ["disk-io-no-room"]
    assert measured(facts) == {}


def test_it_stops_when_somebody_else_fills_the_disk(tmp_path: Path) -> None:
    kit = bench(tmp_path, keep_free=2**62)
    assert kit.facts == {}
    assert "somebody else fills it" in kit.said["full"]
    rows = [{"kind": "start"}, {"kind": "data", "data": dict(kit.said)}, {"kind": "end"}]
    recorded = RecordedWorld({"disks": {"/m": {"free": 2**50, "total": 2**50}}, "workers": {"disk_io": rows}})
    with pytest.raises(SubjectFailed, match="disk-io-no-room"):
        run(disk_io.PROBE, recorded, path="/m")


def test_a_directory_that_we_may_not_write_makes_us_blind(tmp_path: Path) -> None:
    with pytest.raises(Blind, match="may not write there"):
        run(disk_io.PROBE, world(tmp_path / "gone"), path=str(tmp_path / "gone"), size="1MiB")


def test_the_cache_is_named_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = runpy.run_path(str(WORKERS / "kit.py"))["Kit"].dropped
    with (tmp_path / "file").open("w+b") as file:
        file.write(bytes(MIB))
        file.flush()
        os.fsync(file.fileno())
        assert dropped(file.fileno()) in ("dropped", "asked", "kept")

        def cached(*_: Any) -> int:
            return 1

        def absent(*_: Any) -> int:
            raise BlockingIOError

        def silent(*_: Any) -> int:
            raise OSError

        for answer, expected in ((cached, "kept"), (absent, "dropped"), (silent, "asked")):
            monkeypatch.setattr(os, "preadv", answer)
            assert dropped(file.fileno()) == expected
