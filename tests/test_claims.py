"""Is one card measured by one gpu-canary at a time, whoever started it and however it ended?"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.world import claims
from exporter.world.claims import claimed
from tests.process import ROOT, Exporter

CARD = "GPU-00000000-1111-2222-3333-444444444444"
HOLD = """
import sys
from exporter.world.claims import claimed
with claimed(sys.argv[1], "matmul", sys.argv[2]) as holder:
    print(holder or "mine", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(card: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the card."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", HOLD, card, str(folder)], cwd=ROOT, text=True, **pipes)
    assert child.stdout
    assert child.stdout.readline() == "mine\n"
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_card_that_another_process_measures_is_taken_and_the_other_card_is_not(tmp_path):
    with holding(CARD, tmp_path) as child:
        with claimed(CARD, "matmul", str(tmp_path)) as holder:
            assert holder.startswith(f"the check matmul of process {child.pid}, for ")
        with claimed("", "matmul", str(tmp_path)) as holder:
            assert holder == ""
    with claimed(CARD, "matmul", str(tmp_path)) as holder:
        assert holder == ""


def test_a_process_that_was_killed_leaves_the_card_free(tmp_path):
    with holding(CARD, tmp_path) as child:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        with claimed(CARD, "matmul", str(tmp_path)) as holder:
            assert holder == ""


def test_a_worker_that_outlives_its_exporter_does_not_keep_the_card(tmp_path):
    with claimed(CARD, "matmul", str(tmp_path)):
        sleeper = subprocess.Popen(["sleep", "60"])
    try:
        with claimed(CARD, "matmul", str(tmp_path)) as holder:
            assert holder == ""
    finally:
        sleeper.kill()
        sleeper.wait()


def test_runs_of_one_process_share_a_card_and_only_the_last_of_them_lets_go(tmp_path):
    with claimed("", "matmul", str(tmp_path)), claimed("", "memory_copy", str(tmp_path)) as holder:
        assert holder == ""  # its own lanes keep them apart where that matters
    with claimed("", "matmul", str(tmp_path)):
        with claimed("", "memory_copy", str(tmp_path)):
            pass
        asked = "from exporter.world.claims import claimed; import sys\nwith claimed('', 'x', sys.argv[1]) as who: print(who)"
        told = subprocess.check_output([sys.executable, "-c", asked, str(tmp_path)], cwd=ROOT, text=True, timeout=60)
        assert f"process {os.getpid()}" in told


def test_the_file_of_another_user_is_enough_to_take_turns(tmp_path):
    with claimed(CARD, "matmul", str(tmp_path)):
        pass
    (lock,) = tmp_path.iterdir()
    lock.chmod(0o444)
    lock.write_text("{}") if os.geteuid() == 0 else None
    with holding(CARD, tmp_path), claimed(CARD, "matmul", str(tmp_path)) as holder:
        assert holder != ""
    assert stat.S_IMODE(lock.stat().st_mode) == 0o444


AS_ANOTHER = """
import fcntl, os, sys  # all of it before we lose the right to read it
from exporter.world import claims
os.setuid(65534)
claims.FOLDERS = sys.argv[2:]
with claims.claimed(sys.argv[1], "matmul") as holder:
    print(holder or "mine")
"""


def another_user(*folders: Path) -> str:
    argv = [sys.executable, "-c", AS_ANOTHER, CARD, *map(str, folders)]
    return subprocess.check_output(argv, cwd=ROOT, text=True, timeout=60).strip()


@pytest.fixture
def places(monkeypatch) -> Iterator[tuple[Path, Path]]:
    """Two folders in the default's place: one that root alone may write into, as /run/lock on Fedora, and one for all."""
    with tempfile.TemporaryDirectory() as top:  # tmp_path lets nobody else in
        Path(top).chmod(0o755)
        ours, everybodys = Path(top, "lock"), Path(top, "tmp")
        ours.mkdir()
        everybodys.mkdir()
        everybodys.chmod(0o1777)
        monkeypatch.setattr(claims, "FOLDERS", (str(ours), str(everybodys)))
        yield ours, everybodys


@pytest.mark.root
def test_users_with_other_rights_and_a_narrow_umask_take_turns_all_the_same(places):
    before = os.umask(0o077)
    try:
        with claimed(CARD, "matmul"):
            assert f"process {os.getpid()}" in another_user(*places)
            assert f"process {os.getpid()}" in another_user(places[0])
    finally:
        os.umask(before)
    assert another_user(*places) == "mine"
    (places[0] / f"gpu-canary-{CARD}.lock").unlink()
    assert another_user(*places) == "mine"  # it may not make that one again, and need not


@pytest.mark.root
def test_a_file_on_a_file_system_that_is_read_only_for_us_is_locked_too(tmp_path):
    """As /run/lock is in a unit with ProtectSystem=strict."""
    with holding(CARD, tmp_path) as child:
        mounted = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} || exit 77"
        asked = "import sys; from exporter.world.claims import claimed\nwith claimed(*sys.argv[1:]) as who: print(who)"
        argv = ["unshare", "-m", "sh", "-c", f'{mounted}; exec "$@"', "sh", sys.executable, "-c", asked]
        ended = subprocess.run(
            [*argv, CARD, "matmul", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        if ended.returncode in (1, 77):
            pytest.skip(f"no mounts here: {ended.stderr}")
        assert f"process {child.pid}" in ended.stdout


@pytest.mark.parametrize("trap", ["link", "pipe", "folder"])
def test_a_trap_in_the_place_of_the_file_is_not_stepped_into(tmp_path, trap, caplog):
    place, target = tmp_path / "locks", tmp_path / "target"
    place.mkdir()
    target.write_text("precious")
    lock = place / f"gpu-canary-{CARD}.lock"
    {"link": lambda: lock.symlink_to(target), "pipe": lambda: os.mkfifo(lock), "folder": lock.mkdir}[trap]()
    with claimed(CARD, "matmul", str(place)) as holder:
        assert holder == ""
    assert target.read_text() == "precious"
    assert "--path.locks names a folder" in caplog.text


def test_a_folder_that_takes_no_file_stops_nobody_and_is_told(tmp_path, caplog):
    with claimed(CARD, "matmul", str(tmp_path / "absent")) as holder:
        assert holder == ""
    assert "nothing keeps two benchmarks apart" in caplog.text


def test_a_hand_run_waits_for_nobody_and_says_who_measures(tmp_path):
    with holding("", tmp_path) as child:
        argv = ["run", "matmul", "--param", "device=cpu", "--json", f"--path.locks={tmp_path}"]
        ended = subprocess.run(
            [sys.executable, "-m", "exporter", *argv], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        (told,) = json.loads(ended.stdout)
    assert told["skip"] == {"class": "deferred", "reason": "other_run"}
    assert f"process {child.pid}" in told["detail"]


def test_a_second_exporter_puts_its_benchmark_off_and_counts_it(tmp_path):
    config = tmp_path / "config.yml"
    config.write_text("checks: [{probe: matmul, params: {device: cpu}}]\n")
    with holding("", tmp_path):
        exporter = Exporter(tmp_path, f"--config.file={config}", f"--path.locks={tmp_path}")
        try:
            labels = (("check", "matmul"), ("class", "deferred"), ("reason", "other_run"))
            exporter.until(lambda found: found.get(("gpucanary_check_skips_total", labels), 0) >= 1)
            assert (
                "the processor is measured by the check matmul of process" in exporter.check("matmul")["last"]["detail"]
            )
        finally:
            exporter.end()


def test_a_lock_file_and_quiet_hours_are_told_on_metrics_and_end_by_a_reload(tmp_path):
    config, lock = tmp_path / "config.yml", tmp_path / "busy"
    lock.touch()
    checks = "checks: [{probe: matmul, params: {device: cpu}}]\n"
    config.write_text(f"gate: {{lock_file: busy}}\n{checks}")  # it stands beside the config
    flags = (f"--config.file={config}", f"--path.locks={tmp_path}", "--web.enable-lifecycle")
    with holding("", tmp_path):  # who gets past the gate meets this one
        exporter = Exporter(tmp_path, *flags)
        try:
            for reason, then in (
                ("lock_file", "gate: {quiet_hours: ['00:00-24:00']}\n"),
                ("quiet_hours", "gate: {}\n"),
                ("other_run", ""),
            ):
                labels = (("check", "matmul"), ("class", "deferred"), ("reason", reason))
                exporter.until(lambda found, key=labels: ("gpucanary_check_skip_info", key) in found)
                config.write_text(then + checks)
                exporter.get("/-/reload", "POST")
                exporter.get("/api/v1/checks/matmul/run", "POST")
        finally:
            exporter.end()
