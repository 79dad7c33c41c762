"""Is what killed workers left behind removed, and nothing else, and never while a benchmark runs?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exporter.cleanup import FRESH, Cleanup
from exporter.world.child import Child
from tests.checks import eventually
from tests.process import ROOT

RUN = """
import sys
from exporter.world.child import Child
child = Child(sys.argv[1])
child.start(["sleep", "60"], {"PATH": "/usr/bin:/bin"})
print(child.folder, child._process.pid, flush=True)
sys.stdin.read()
"""


def aged(folder: Path) -> Path:
    """As if it lay there for longer than a folder may be fresh."""
    past = time.time() - FRESH - 1
    os.utime(folder, (past, past), follow_symlinks=False)
    return folder


def never() -> bool:
    return False


def test_a_folder_goes_when_the_exporter_that_made_it_was_killed_and_not_before(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    exporter = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, text=True, **pipes)
    assert exporter.stdout
    name, pid = exporter.stdout.readline().split()
    folder = Path(name)
    (folder / "rows.jsonl").write_bytes(b"x" * 1000)
    cleanup = Cleanup(tmp_path, never)
    cleanup.look()  # it is fresh
    aged(folder)
    cleanup.look()  # it is held
    assert folder.exists()
    assert cleanup.removed_bytes == 0
    exporter.kill()
    exporter.communicate()
    cleanup.look()
    assert not folder.exists()
    assert (cleanup.runs, cleanup.removed_bytes) == (3, 1000)
    os.kill(int(pid), signal.SIGKILL)  # a worker knows its parent's death itself; `sleep` does not


def test_a_worker_that_ended_leaves_no_folder_and_no_descriptor(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    child = Child(str(tmp_path))
    child.end()
    assert not list(tmp_path.iterdir())
    assert set(os.listdir("/proc/self/fd")) == before


def test_what_is_not_ours_stays(tmp_path):
    target = tmp_path / "precious"
    target.mkdir()
    (target / "model.safetensors").write_bytes(b"x")
    (tmp_path / "gpu-canary-link").symlink_to(target)
    (tmp_path / "gpu-canary-file").write_bytes(b"x")
    for path in (target, tmp_path / "gpu-canary-link", tmp_path / "gpu-canary-file"):
        aged(path)
    if os.geteuid() == 0:
        (tmp_path / "gpu-canary-theirs").mkdir()
        os.chown(aged(tmp_path / "gpu-canary-theirs"), 12345, 12345)
    before = sorted(tmp_path.rglob("*"))
    Cleanup(tmp_path, never).look()
    assert sorted(tmp_path.rglob("*")) == before
    Cleanup(tmp_path / "absent", never).look()


@pytest.mark.parametrize("busy", [True, False])
def test_it_looks_again_and_again_but_never_while_a_benchmark_runs(tmp_path, busy):
    (tmp_path / "gpu-canary-left").mkdir()
    aged(tmp_path / "gpu-canary-left")
    asked = []
    cleanup = Cleanup(tmp_path, lambda: bool(asked.append(1)) or busy, every=0.02)
    cleanup.start()
    eventually(lambda: len(asked) > 3)
    cleanup.stop()
    assert (tmp_path / "gpu-canary-left").exists() is busy
    assert (cleanup.runs == 0) is busy
