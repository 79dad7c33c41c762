"""Is what killed workers left behind removed, and nothing else, and never while a benchmark runs?"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
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


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


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
    eventually(lambda: not alive(pid))  # which no death of its parent ends


def test_a_worker_that_ended_leaves_no_folder_and_no_descriptor(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    child = Child(str(tmp_path))
    child.end()
    assert not list(tmp_path.iterdir())
    assert set(os.listdir("/proc/self/fd")) == before


READ_ONLY = """
import os, sys
from exporter.cleanup import Cleanup
from exporter.world.child import Child
if os.geteuid() == 0:
    os.setuid(65534)
child, left = Child(sys.argv[1]).folder, sys.argv[1] + "/gpu-canary-worker-left____"
os.mkdir(left)
for folder in (str(child), left):
    os.makedirs(folder + "/go/mod")
    open(folder + "/go/mod/file", "w").write("x" * 1000)
    os.symlink(sys.argv[2], folder + "/go/link")
    for name in ("/go/mod", "/go", ""):
        os.chmod(folder + name, 0o500)
"""


def test_what_a_program_made_read_only_goes_too_and_no_link_out_of_it_is_followed():
    """Caches of packages are made so. Root may delete anyhow, so this is another user's."""
    code = (
        READ_ONLY
        + """
from exporter.world.child import remove
remove(child)
os.utime(left, (1, 1))
cleanup = Cleanup(child.parent, lambda: False)
cleanup.look()
print(cleanup.removed_bytes, os.listdir(sys.argv[1]), os.listdir(sys.argv[2]))
"""
    )
    with tempfile.TemporaryDirectory() as top:  # tmp_path lets nobody else in
        for path, mode in ((Path(top), 0o755), (Path(top, "scratch"), 0o777), (Path(top, "precious"), 0o555)):
            path.mkdir(exist_ok=True)
            path.chmod(mode)
        argv = [sys.executable, "-c", code, f"{top}/scratch", f"{top}/precious"]
        told = subprocess.check_output(argv, cwd=ROOT, text=True, timeout=60)
        assert stat.S_IMODE(Path(top, "precious").stat().st_mode) == 0o555
    assert told == "1000 [] []\n"


def test_what_is_not_ours_stays(tmp_path):
    target = tmp_path / "precious"
    target.mkdir()
    (target / "model.safetensors").write_bytes(b"x")
    (tmp_path / "gpu-canary-worker-link____").symlink_to(target)
    (tmp_path / "gpu-canary-worker-file____").write_bytes(b"x")
    for name in ("gpu-canary-dreambooth", "gpu-canary-demo-abcdefgh", "gpu-canary-worker-results"):  # somebody else's
        (tmp_path / name).mkdir()
    for path in tmp_path.iterdir():
        aged(path)
    if os.geteuid() == 0:
        (tmp_path / "gpu-canary-worker-theirs__").mkdir()
        os.chown(aged(tmp_path / "gpu-canary-worker-theirs__"), 12345, 12345)
    before = sorted(tmp_path.rglob("*"))
    Cleanup(tmp_path, never).look()
    assert sorted(tmp_path.rglob("*")) == before
    Cleanup(tmp_path / "absent", never).look()


@pytest.mark.parametrize("busy", [True, False])
def test_it_looks_again_and_again_but_never_while_a_benchmark_runs(tmp_path, busy):
    (tmp_path / "gpu-canary-worker-left____").mkdir()
    aged(tmp_path / "gpu-canary-worker-left____")
    asked = []
    cleanup = Cleanup(tmp_path, lambda: bool(asked.append(1)) or busy, every=0.02)
    cleanup.start()
    eventually(lambda: len(asked) > 3)
    cleanup.stop()
    assert (tmp_path / "gpu-canary-worker-left____").exists() is busy
    assert (cleanup.runs == 0) is busy
