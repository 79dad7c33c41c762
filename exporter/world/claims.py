"""Does another gpu-canary measure on this card now? One locked file for each card, in a folder that all of them share.

The lock is the kernel's (flock) and ends with the process that holds it, however that ends; what stands in the file is a
note for people. Whoever may open the file may lock it, so a hand-run of another user counts too.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger("gpu_canary")

FOLDERS = (
    "/run/lock",
    "/var/lock",
)  # writable for everybody on Debian and Fedora; https://refspecs.linuxfoundation.org/fhs.shtml
NOTE_BYTES = 1024


_ours: Counter[tuple[str, str]] = Counter()  # how many runs of this process hold a card; its lanes keep those apart
_files: dict[tuple[str, str], int] = {}
_lock = threading.Lock()


@contextmanager
def claimed(card: str, check: str, folder: str = "") -> Iterator[str]:
    """Hold the card (a uuid, "" for the processor) while the block runs. Yields "" when it is ours, else who has it.

    Where no folder takes the file there is nobody to agree with: the run goes on, and the log says so.
    """
    name = f"gpu-canary-{re.sub('[^A-Za-z0-9-]', '_', card) or 'cpu'}.lock"
    holder = _take(folder, name, check)
    try:
        yield holder
    finally:
        if not holder:
            _leave(folder, name)


def _take(folder: str, name: str, check: str) -> str:
    with _lock:
        fd = None if _ours[folder, name] or sys.platform == "win32" else _open(folder, name)
        if fd is not None and sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(fd)
                os.close(fd)
                return holder
            _write(fd, {"pid": os.getpid(), "check": check, "since": time.time()})
            _files[folder, name] = fd
        _ours[folder, name] += 1
        return ""


def _leave(folder: str, name: str) -> None:
    with _lock:
        _ours[folder, name] -= 1
        if not _ours[folder, name] and (folder, name) in _files:
            os.close(_files.pop((folder, name)))


def _open(folder: str, name: str) -> int | None:
    failed: dict[str, str] = {}
    for place in (folder,) if folder else (*FOLDERS, tempfile.gettempdir()):
        try:
            return _opened(Path(place) / name)
        except OSError as error:
            failed[place] = error.strerror or str(error)
    log.warning("nothing keeps two benchmarks apart: %s; --path.locks names a folder that takes a file", failed)
    return None


def _opened(path: Path) -> int:
    """The file, made if need be. Another user's is opened without O_CREAT, which a sticky folder refuses for such files
    (https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-regular); reading is enough to lock."""
    no_follow = os.O_NOFOLLOW | os.O_NONBLOCK
    for flags in (os.O_RDWR, os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDONLY):
        with suppress(FileNotFoundError, FileExistsError, PermissionError):
            fd = os.open(path, flags | no_follow, 0o644)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
    raise OSError(0, "cannot be made or opened")


def _write(fd: int, note: dict[str, object]) -> None:
    with suppress(OSError):  # another user's file: the note before stays, and is nobody's now
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(note).encode(), 0)


def _holder(fd: int) -> str:
    try:
        note = json.loads(os.pread(fd, NOTE_BYTES, 0))
        return f"the check {str(note['check'])[:80]} of process {int(note['pid'])}, for {time.time() - float(note['since']):.0f} s"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
