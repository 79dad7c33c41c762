"""What does the file system say?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stat:
    """One path. `mode` is the permission bits (0o600); `modified` is Unix time; `identity` survives a rename."""

    size: int
    mode: int
    uid: int
    modified: float
    is_dir: bool = False
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes read from an open file, with the file's own size and identity, so that a rotation in between cannot lie."""

    data: bytes
    size: int
    identity: str


@dataclass(frozen=True, slots=True)
class Disk:
    """The filesystem that holds a path: bytes an ordinary user may still write, bytes in all, inodes (None: no such limit)."""

    free: int
    total: int
    free_inodes: int | None = None
    total_inodes: int | None = None
    read_only: bool = False
