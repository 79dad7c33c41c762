"""What does a program answer? No shell, no terminal, bounded time and output, and nothing is left of it when it is late."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO

from exporter.world import posix
from exporter.world.token import Token
from probes.api import KIB, Blind
from probes.world.commands import Completed

LIMIT = 64 * KIB  # of each stream; the rest is read and dropped, so that no program blocks on a full pipe
GRACE = 1.0  # seconds a killed program has to go; one stuck in the kernel does not, and nothing can be done about it
NOT_EXECUTABLE = 126  # as shells say: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/V3_chap02.html


def run(argv: Sequence[str], timeout: float, token: Token) -> Completed | None:
    """Run a program to its end. None when it is not installed, `code` None when it was killed after `timeout` seconds.

    Blind(permission) when we may not execute it, Aborted when the token fires first.
    """
    token.check()
    try:
        process = subprocess.Popen(
            list(argv),
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            **posix.own_group(),  # to kill it whole, and with no terminal to ask for a password on
        )
    except FileNotFoundError:
        return None
    except PermissionError:
        raise Blind(
            "permission", f"we may not execute {argv[0]}; `namei -l $(command -v {argv[0]})` shows why"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            return Completed(NOT_EXECUTABLE, stderr=str(error))
        raise
    return _await(process, min(timeout, token.remaining()), token)


def _await(process: subprocess.Popen[bytes], seconds: float, token: Token) -> Completed:
    """The program ended when both its streams did: waiting for them needs no polling, and the pid is still its own."""
    deadline = time.monotonic() + seconds
    streams = [_Stream(pipe) for pipe in (process.stdout, process.stderr) if pipe is not None]
    forget = token.on_cancel(lambda: posix.kill(process))
    try:
        in_time = all(stream.ended(deadline) for stream in streams) and _reap(process, deadline)
    finally:
        forget()
    late = not in_time and not posix.has_exited(process)
    if process.returncode is None:
        posix.kill(process)
        _reap(process, time.monotonic() + GRACE)
    token.check()
    for stream in streams:  # a grandchild that left the group may hold one open: its reader ends with it, not we
        stream.ended(time.monotonic() + GRACE)
    return Completed(None if late else process.returncode, *(stream.text() for stream in streams))


class _Stream:
    """The first LIMIT bytes of a pipe, read in a thread of its own so that neither stream can block the other."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._kept = bytearray()
        self._reader = threading.Thread(target=self._read, args=(pipe,), name="command output", daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while data := pipe.read(LIMIT):
                self._kept += data[: LIMIT - len(self._kept)]

    def ended(self, deadline: float) -> bool:
        """Did everybody who could write to it close it before the deadline (of the monotonic clock)?"""
        self._reader.join(max(0.0, deadline - time.monotonic()))
        return not self._reader.is_alive()

    def text(self) -> str:
        return bytes(self._kept).decode("utf-8", "replace")


def _reap(process: subprocess.Popen[bytes], deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
