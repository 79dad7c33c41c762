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
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger("gpu_canary")

# Debian lets everybody write into the first, Fedora only root; so both are taken where both can be. Not the TMPDIR of the
# one or the other: it must be the same place for all. https://refspecs.linuxfoundation.org/FHS_3.0/fhs/ch05s09.html
FOLDERS = ("/run/lock", "/tmp")  # noqa: S108
NOTE_BYTES = 1024
MODE = 0o644

_ours: Counter[tuple[str, str]] = Counter()  # how many runs of this process hold a card; its lanes keep those apart
_files: dict[tuple[str, str], Sequence[int]] = {}
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
        if not _ours[folder, name] and sys.platform != "win32":
            holder, held = _locked(_open((folder,) if folder else FOLDERS, name))
            if holder:
                return holder
            for fd in held:
                _write(fd, {"pid": os.getpid(), "check": check, "since": time.time()})
            _files[folder, name] = held
        _ours[folder, name] += 1
        return ""


def _leave(folder: str, name: str) -> None:
    with _lock:
        _ours[folder, name] -= 1
        if not _ours[folder, name]:
            _close(_files.pop((folder, name), ()))


def _locked(files: Sequence[int]) -> tuple[str, Sequence[int]]:
    """Who has one of these files, "" when they are all ours now; and those that are."""
    if sys.platform != "win32":
        import fcntl

        for fd in files:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(fd)
                _close(files)
                return holder, ()
    return "", files


def _open(folders: Sequence[str], name: str) -> Sequence[int]:
    opened: list[int] = []
    failed: dict[str, str] = {}
    for place in folders:
        try:
            opened.append(_opened(Path(place) / name))
        except OSError as error:
            failed[place] = error.strerror or str(error)
    if not opened:
        log.warning("nothing keeps two benchmarks apart: %s; --path.locks names a folder that takes a file", failed)
    return opened


def _opened(path: Path) -> int:
    """The file, made if need be. Another user's is opened without O_CREAT, which a sticky folder refuses for such files
    (https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-regular); reading is enough to lock, also where the file
    system is read-only for us."""
    reason = OSError(0, "cannot be made or opened")
    for flags in (os.O_RDWR, os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDONLY):
        try:
            fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, MODE)
        except OSError as error:
            reason = error
            continue
        if stat.S_ISREG(os.fstat(fd).st_mode):
            if flags & os.O_CREAT:
                os.fchmod(fd, MODE)  # whatever the umask is: who cannot read the file cannot take turns
            return fd
        os.close(fd)
    raise reason


def _close(files: Sequence[int]) -> None:
    for fd in files:
        os.close(fd)


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
