"""What does the file system say? Looks are bounded by the run's deadline: a dead mount hangs no run.

Nothing but a regular file is ever read: a FIFO or a device could block, or do something when it is opened.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat as mode
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from exporter.world.patience import within
from exporter.world.token import Token
from probes.api import Blind
from probes.world.files import Chunk, Disk, Stat

with suppress(ImportError):  # Windows, where no path is forbidden in a way that names a user
    import pwd

T = TypeVar("T")
# Nothing stands at that path, or no longer: also what a path on a mount says whose server or helper process has gone.
ABSENT = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN}
)


def read(path: str, offset: int, limit: int, token: Token) -> Chunk | None:
    """Up to `limit` bytes from `offset`, with size and identity of the very file that was read; None when it is absent.

    Blind(permission) when we may not read it, Blind(no_source) when it is no regular file, ValueError on a NUL in the path.
    """
    return _ask(token, path, _read, offset, limit)


def read_text(path: str, limit: int, token: Token) -> str | None:
    """The file as UTF-8 (bad bytes replaced), at most `limit` bytes of it; None when it is absent."""
    chunk = read(path, 0, limit, token)
    return None if chunk is None else chunk.data.decode("utf-8", "replace")


def list_directory(path: str, token: Token) -> tuple[str, ...] | None:
    """Sorted names in a directory; None when there is no such directory."""
    return _ask(token, path, _list)


def stat(path: str, token: Token) -> Stat | None:
    """Size, mode, owner and times of what a path leads to; None when it leads nowhere."""
    return _ask(token, path, _stat)


def disk(path: str, token: Token) -> Disk | None:
    """Bytes and inodes of the filesystem that holds `path`; None when the path does not exist."""
    return _ask(token, path, _disk)


def environ() -> Mapping[str, str]:
    """The exporter's environment variables, as they are now."""
    return dict(os.environ)


def _ask(token: Token, path: str, look: Callable[..., T], *details: int) -> T | None:
    expanded = os.path.expanduser(path)
    if "\0" in expanded:
        raise ValueError(f"{path!r} is not a path: it contains a NUL byte")

    def answer() -> T | None:
        try:
            return look(expanded, *details)
        except PermissionError:
            raise Blind("permission", _way_in(expanded)) from None
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise

    return within(token, (look.__name__, expanded, *details), answer)


def _read(path: str, offset: int, limit: int) -> Chunk:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not mode.S_ISREG(facts.st_mode):
                raise _no_file(path)
            file.seek(offset)
            return Chunk(file.read(limit), facts.st_size, _identity(facts))
    except IsADirectoryError:
        raise _no_file(path) from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # what open says of a socket
            raise _no_file(path) from None
        raise


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # else opening a FIFO waits for somebody to write to it


def _list(path: str) -> tuple[str, ...]:
    return tuple(sorted(os.listdir(path)))


def _stat(path: str) -> Stat:
    facts = os.stat(path)
    return Stat(
        facts.st_size,
        mode.S_IMODE(facts.st_mode),
        facts.st_uid,
        facts.st_mtime,
        is_dir=mode.S_ISDIR(facts.st_mode),
        identity=_identity(facts),
    )


def _disk(path: str) -> Disk:
    if not hasattr(os, "statvfs"):  # Windows, which knows neither inodes nor this kind of read-only
        usage = shutil.disk_usage(path)
        return Disk(usage.free, usage.total)
    facts = os.statvfs(path)
    countless = facts.f_files == 0  # btrfs and most network filesystems make inodes as they need them
    return Disk(
        free=facts.f_bavail * facts.f_frsize,
        total=facts.f_blocks * facts.f_frsize,
        free_inodes=None if countless else facts.f_favail,
        total_inodes=None if countless else facts.f_files,
        read_only=bool(facts.f_flag & os.ST_RDONLY),
    )


def _identity(facts: os.stat_result) -> str:
    return f"{facts.st_dev}:{facts.st_ino}"


def _no_file(path: str) -> Blind:
    return Blind("no_source", f"{path} is not a regular file; `ls -l {path}` shows what it is")


def _way_in(path: str) -> str:
    """Which command lets us look? One that opens this path to our user alone, never to everybody."""
    user = _user()
    for part in (*reversed(Path(path).absolute().parents), Path(path).absolute()):
        try:
            facts = part.stat()
        except OSError:
            return f"{user} may not enter {part.parent}; `sudo setfacl -m u:{user}:x {part.parent}` lets it"
    if (
        mode.S_ISREG(facts.st_mode) and facts.st_mode & mode.S_IRGRP and facts.st_gid != 0
    ):  # root's group opens too much
        return (
            f"{user} may not read {path}; `sudo usermod -aG {facts.st_gid} {user}` and a new start of gpu-canary let it"
        )
    needed = "rx" if mode.S_ISDIR(facts.st_mode) else "r"
    return f"{user} may not read {path}; `sudo setfacl -m u:{user}:{needed} {path}` lets it"


def _user() -> str:
    """Who may not look: the name of the effective user, or its number, as a container's user often has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except (KeyError, NameError):
        return str(os.geteuid()) if hasattr(os, "geteuid") else "this user"
