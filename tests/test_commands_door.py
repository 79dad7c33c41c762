"""Does the commands door bring programs back: in time, within bounds, and with nothing left behind?"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from exporter.world import commands
from exporter.world.token import Token
from probes.api import Aborted, Blind


@pytest.fixture
def token() -> Token:
    return Token(30)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def eventually_gone(pid: int) -> bool:
    """Is the process dead (or a zombie somebody else must reap) within five seconds?"""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE and psutil.Process(pid).ppid() != os.getpid():
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def number_in(path: Path) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.01)
    raise AssertionError(f"{path} was never written")


def test_a_program_leaves_its_exit_code_and_both_streams(token: Token) -> None:
    done = commands.run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), 10, token)
    assert done is not None
    assert (done.code, done.stdout, done.stderr, done.timed_out) == (3, "out\n", "err\n", False)


def test_a_program_that_is_not_installed_is_none(token: Token) -> None:
    assert commands.run(["no-such-program-anywhere"], 10, token) is None


def test_a_signal_is_a_negative_code(token: Token) -> None:
    done = commands.run(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), 10, token)
    assert done is not None
    assert done.code == -signal.SIGSEGV


def test_sigkill_from_elsewhere_is_not_taken_for_our_timeout(token: Token) -> None:
    done = commands.run(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), 10, token)
    assert done is not None
    assert done.code == -signal.SIGKILL


def test_no_shell_reads_the_arguments(token: Token) -> None:
    done = commands.run(["echo", "$HOME; `id` *"], 10, token)
    assert done is not None
    assert done.stdout == "$HOME; `id` *\n"


def test_the_program_speaks_english_and_cannot_ask(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    done = commands.run(python("import os, sys; print(os.environ['LC_ALL'], repr(sys.stdin.read()))"), 10, token)
    assert done is not None
    assert done.stdout == "C ''\n"


def test_a_flood_on_both_streams_neither_blocks_nor_fills_memory(token: Token) -> None:
    flood = "import os\nfor _ in range(200): os.write(1, b'o' * 65536); os.write(2, b'e' * 65536)"
    done = commands.run(python(flood), 20, token)
    assert done is not None
    assert done.code == 0
    assert done.stdout == "o" * commands.LIMIT
    assert done.stderr == "e" * commands.LIMIT


def test_bytes_that_are_no_text_are_replaced(token: Token) -> None:
    done = commands.run(python("import os; os.write(1, b'\\xff\\x00ok')"), 10, token)
    assert done is not None
    assert done.stdout == "\ufffd\x00ok"


def test_a_late_program_is_killed_with_its_children_and_keeps_what_it_said(tmp_path: Path, token: Token) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        f"import subprocess, sys, time\nprint('so far', flush=True)\nsubprocess.Popen([sys.executable, '-S', '-c', {child!r}])"
        f"\nimport os\nwhile not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)\ntime.sleep(60)"
    )
    done = commands.run(python(parent), 3, token)
    assert done is not None
    assert done.timed_out
    assert done.stdout == "so far\n"
    assert eventually_gone(number_in(tmp_path / "pid"))


def test_a_program_that_ignores_sigterm_and_closes_its_streams_is_killed_all_the_same(token: Token) -> None:
    stubborn = "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nos.close(1); os.close(2)\ntime.sleep(60)"
    started = time.monotonic()
    done = commands.run(python(stubborn), 0.5, token)
    assert done is not None
    assert done.timed_out
    assert time.monotonic() - started < 10


def test_a_program_that_ended_but_left_a_child_on_its_streams_keeps_its_own_exit_code(token: Token) -> None:
    done = commands.run(["sh", "-c", "sleep 60 & echo started"], 0.5, token)
    assert done is not None
    assert (done.code, done.stdout) == (0, "started\n")


def test_a_cancelled_run_kills_the_program_at_once(tmp_path: Path) -> None:
    token = Token(60)
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    waiting = threading.Thread(target=lambda: (number_in(tmp_path / "pid"), token.cancel("shutdown")))
    waiting.start()
    with pytest.raises(Aborted) as stop:
        commands.run(python(code), 60, token)
    waiting.join()
    assert stop.value.reason == "shutdown"
    assert eventually_gone(number_in(tmp_path / "pid"))


def test_the_runs_deadline_outranks_the_commands_own_timeout() -> None:
    with pytest.raises(Aborted) as stop:
        commands.run(["sleep", "60"], 60, Token(0.2))
    assert stop.value.reason == "deadline"


def test_no_zombie_stays(token: Token) -> None:
    commands.run(["true"], 10, token)
    commands.run(["sleep", "60"], 0.1, token)
    names = [child.name() for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
    assert not {"true", "sleep"}.intersection(names)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="execute bits are POSIX")
def test_a_program_we_may_not_execute_is_blindness(tmp_path: Path, token: Token) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    with pytest.raises(Blind) as stop:
        commands.run([str(tmp_path / "tool")], 10, token)
    assert stop.value.reason == "permission"


def test_a_file_that_is_no_program_says_so_like_a_shell(tmp_path: Path, token: Token) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF garbage")
    broken.chmod(0o755)
    done = commands.run([str(broken)], 10, token)
    assert done is not None
    assert done.code == commands.NOT_EXECUTABLE
    assert "format" in done.stderr.lower()
