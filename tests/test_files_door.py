"""Does the files door tell the truth about every kind of path, and never hang on one?"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.world import files, patience
from exporter.world.token import Token
from probes.api import Aborted, Blind


@pytest.fixture
def token() -> Token:
    return Token(10)


@pytest.fixture
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory owned by us, seen by somebody who is not root and not us."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    if os.geteuid() != 0:
        yield folder
    else:
        us, nobody = os.geteuid(), 65534
        os.chown(folder, nobody, nobody)
        os.seteuid(nobody)
        try:
            yield folder
        finally:
            os.seteuid(us)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700)
    shutil.rmtree(folder)


def test_a_chunk_carries_size_and_identity_of_the_file_it_was_read_from(tmp_path: Path, token: Token) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"0123456789")
    chunk = files.read(str(path), 3, 4, token)
    facts = path.stat()
    assert chunk is not None
    assert (chunk.data, chunk.size, chunk.identity) == (b"3456", 10, f"{facts.st_dev}:{facts.st_ino}")


def test_identity_survives_a_rename_and_not_a_replacement(tmp_path: Path, token: Token) -> None:
    path = tmp_path / "app.log"
    path.write_text("old")
    before = files.stat(str(path), token)
    path.rename(tmp_path / "app.log.1")
    path.write_text("new")
    moved, after = files.stat(str(tmp_path / "app.log.1"), token), files.stat(str(path), token)
    assert before is not None
    assert moved is not None
    assert after is not None
    assert before.identity == moved.identity != after.identity


def test_reading_past_the_end_is_empty_and_an_absent_path_is_none(tmp_path: Path, token: Token) -> None:
    path = tmp_path / "f"
    path.write_text("abc")
    chunk = files.read(str(path), 10, 10, token)
    assert chunk is not None
    assert (chunk.data, chunk.size) == (b"", 3)
    for absent in (str(tmp_path / "nothing"), str(path / "below a file"), "", "x" * 5000):
        assert files.read(absent, 0, 10, token) is None
        assert files.stat(absent, token) is None
        assert files.disk(absent, token) is None
        assert files.list_directory(absent, token) is None


def test_a_proc_file_of_size_zero_is_read_whole(token: Token) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    text = files.read_text("/proc/self/status", 1 << 20, token)
    assert text is not None
    assert f"Pid:\t{os.getpid()}\n" in text


def test_bad_utf8_is_replaced_and_the_limit_is_kept(tmp_path: Path, token: Token) -> None:
    (tmp_path / "f").write_bytes(b"\xff\x00ok" + b"x" * 100)
    assert files.read_text(str(tmp_path / "f"), 4, token) == "\ufffd\x00ok"


def test_a_tilde_is_the_home_of_our_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: Token) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "f").write_text("home")
    assert files.read_text("~/f", 10, token) == "home"
    assert files.list_directory("~", token) == ("f",)


def test_fifos_sockets_devices_and_directories_are_refused_at_once(tmp_path: Path, token: Token) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "fifo", tmp_path / "socket", Path("/dev/zero"), tmp_path):
            with pytest.raises(Blind, match="not a regular file") as stop:
                files.read(str(path), 0, 10, token)
            assert stop.value.reason == "no_source"


def test_a_nul_in_a_path_is_the_callers_mistake(token: Token) -> None:
    for look in (files.stat, files.disk, files.list_directory):
        with pytest.raises(ValueError, match="NUL"):
            look("/tmp/\0x", token)


def test_a_symlink_loop_leads_nowhere(tmp_path: Path, token: Token) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert files.read(str(tmp_path / "loop"), 0, 1, token) is None


def test_a_forbidden_file_is_blindness_with_the_command_that_cures_it(ordinary_user: Path, token: Token) -> None:
    secret = ordinary_user / "secret"
    secret.write_text("x")
    as_root = os.getuid() == 0  # then the file's group is root's, which opens too much to be given away
    for bits, group, command in (
        (0o000, 0, "setfacl"),
        (0o040, 0, "setfacl" if as_root else "usermod"),
        (0o040, 4, "usermod"),
    ):
        secret.chmod(bits)
        if as_root:
            os.seteuid(0)
            os.chown(secret, -1, group)
            os.seteuid(65534)
        with pytest.raises(Blind) as stop:
            files.read(str(secret), 0, 1, token)
        assert stop.value.reason == "permission"
        assert command in stop.value.detail


def test_a_forbidden_directory_is_named_when_it_bars_the_way(ordinary_user: Path, token: Token) -> None:
    closed = ordinary_user / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0)
    with pytest.raises(Blind, match=f"may not enter {closed};"):
        files.read(str(closed / "inner" / "f"), 0, 1, token)
    with pytest.raises(Blind, match=f":rx {closed}`"):
        files.list_directory(str(closed), token)


def test_a_disk_has_bytes_and_inodes_that_can_be_true(tmp_path: Path, token: Token) -> None:
    disk = files.disk(str(tmp_path), token)
    assert disk is not None
    assert 0 < disk.free <= disk.total
    assert not disk.read_only
    if disk.free_inodes is not None and disk.total_inodes is not None:
        assert 0 < disk.free_inodes <= disk.total_inodes


def test_a_hung_mount_is_a_missed_deadline_and_costs_one_thread_however_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, hung = threading.Event(), []

    def hang(path: str) -> os.statvfs_result:
        hung.append(threading.get_ident())
        release.wait(20)
        raise OSError(errno.ENOENT, "it came back without the directory")

    monkeypatch.setattr(os, "statvfs", hang)
    try:
        for _ in range(5):
            with pytest.raises(Aborted) as stop:
                files.disk("/mnt/dead", Token(0.02))
            assert stop.value.reason == "deadline"
        assert len(hung) == 1
        token = Token(20)
        threading.Timer(0.05, token.cancel, ("shutdown",)).start()
        started = time.monotonic()
        with pytest.raises(Aborted) as stop:
            files.disk("/mnt/dead", token)
        assert stop.value.reason == "shutdown"
        assert time.monotonic() - started < 5
        threading.Timer(0.05, release.set).start()
        assert files.disk("/mnt/dead", Token(20)) is None  # the old thread's answer, once it comes
    finally:
        release.set()


def test_an_answer_is_never_kept_for_the_next_question() -> None:
    answers = iter([1, 2])
    assert patience.within(Token(5), "count", lambda: next(answers)) == 1
    assert patience.within(Token(5), "count", lambda: next(answers)) == 2


def test_what_goes_wrong_behind_the_deadline_is_raised_in_front_of_it() -> None:
    def fail() -> None:
        raise OSError("input/output error")

    with pytest.raises(OSError, match="input/output"):
        patience.within(Token(5), "fail", fail)
