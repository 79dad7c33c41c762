"""Where in a log did we stop reading, and what was added since, across rotation and truncation? The probe `log_tail` asks.

A file is known by its identity and by a hash of the bytes just before the place: one that was truncated and filled
again, or that inherited a deleted file's inode, is not taken for the old one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace

from probes.api import Blind, Json, World
from probes.world.files import Chunk

MARK = 64  # bytes before the place that are compared
COPIES = 4  # of the newest files beside the log, to look for the copy that was made before it was truncated


def _hash(data: bytes) -> str:
    return hashlib.sha256(data[-MARK:]).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Place:
    """The next byte to read of one file; by default, the beginning of whatever file there will be.

    `inside`: what comes next belongs to a line that was already judged. `held`: bytes of an unfinished line left unread.
    """

    identity: str = ""
    offset: int = 0
    mark: str = _hash(b"")
    inside: bool = False
    held: int = 0

    @classmethod
    def recalled(cls, memory: Json) -> Place | None:
        """The place that was remembered as its fields, or None when that is nothing this version would remember."""
        if not isinstance(memory, dict) or memory.keys() != {field.name for field in fields(cls)}:
            return None
        alike = all(type(memory[name]) is type(value) for name, value in asdict(cls()).items())
        return cls(**memory) if alike else None  # type: ignore[arg-type]  # mypy cannot see what was just compared


@dataclass(frozen=True, slots=True)
class Reading:
    """New lines, where to go on, how many bytes wait there, and whether there is no file."""

    lines: tuple[bytes, ...]
    place: Place
    unread: int = 0
    absent: bool = False


def end_of(world: World, path: str) -> Place:
    """The place after all that is in the file now; the beginning, where there is no file yet."""
    head = _read(world, path, 0, 0)
    size = head.size if head else 0
    tail = _read(world, path, max(0, size - MARK), min(size, MARK))
    if tail is None:
        return Place()
    return Place(tail.identity, size, _hash(tail.data), inside=tail.data[-1:] not in (b"", b"\n"))


def follow(world: World, path: str, place: Place, limit: int) -> Reading:
    """The lines added since `place`, from at most `limit` bytes of a file; what is left is for the next time.

    When another file has taken the log's place, the rest of the old one comes first.
    """
    here = _resume(world, path, place, limit)
    if here is not None:
        return _take(here, place, limit)
    lines: tuple[bytes, ...] = ()
    head = _read(world, path, 0, 0)
    waiting = head.size if head else 0
    left = _left_behind(world, path, place, limit)
    if left is not None:
        old = _take(left, place, limit, last=waiting > 0)
        # While the new file is empty and the old one grows, the writer has not noticed the rotation yet.
        if old.unread or (old.lines and not waiting):
            return replace(old, unread=old.unread + waiting, absent=head is None)
        lines, place = old.lines, old.place
    start = Place(head.identity) if head else place
    here = _resume(world, path, start, limit) if head else None
    if here is None:  # absent, or rotated once more at this very moment: then it is found beside the next one
        return Reading(lines, start, waiting, absent=head is None)
    new = _take(here, start, limit)
    return replace(new, lines=(*lines, *new.lines))


def _read(world: World, path: str, offset: int, limit: int) -> Chunk | None:
    chunk = world.read(path, offset, limit)
    if chunk is not None and chunk.size < 0:
        raise ValueError(f"{path}: a size of {chunk.size} bytes cannot be true")
    return chunk


def _resume(world: World, path: str, place: Place, limit: int, *, copied: bool = False) -> Chunk | None:
    """What is in the file from MARK bytes before the place on; None when it is not the file of that place."""
    before = min(place.offset, MARK)
    chunk = _read(world, path, place.offset - before, before + limit)
    if chunk is None or chunk.size < place.offset or not (copied or chunk.identity == place.identity):
        return None
    return chunk if _hash(chunk.data[:before]) == place.mark else None


def _left_behind(world: World, path: str, place: Place, limit: int) -> Chunk | None:
    """The old file under its new name, or the copy that was made of it; None where neither can be found and read."""
    if not place.identity:
        return None
    beside = sorted(_beside(world, path), reverse=True)
    for _, identity, sibling in beside:
        if identity == place.identity:
            with suppress(Blind):
                return _resume(world, sibling, place, limit)
    for _, _, sibling in beside[: COPIES if place.offset else 0]:
        with suppress(Blind):
            if (chunk := _resume(world, sibling, place, limit, copied=True)) is not None:
                return chunk
    return None


def _beside(world: World, path: str) -> Iterator[tuple[float, str, str]]:
    """When modified, identity and path of each file whose name begins like the log's: app.log.1, app-20250101.log."""
    folder, name = os.path.split(path)
    with suppress(Blind):
        for other in world.list(folder or ".") or ():
            sibling = os.path.join(folder, other)
            if other != name and other.startswith(name.split(".")[0]):
                stat = world.stat(sibling)
                if stat is not None and not stat.is_dir:
                    yield stat.modified, stat.identity, sibling


def _take(chunk: Chunk, place: Place, limit: int, *, last: bool = False) -> Reading:
    """Split into lines. An unfinished one waits, unless it is the `last`, did not grow, or is longer than one reading."""
    before = min(place.offset, MARK)
    data = chunk.data[before:].replace(b"\r", b"\n")  # progress bars end their lines with a carriage return alone
    whole = data.rfind(b"\n") + 1
    ended = last and place.offset + len(data) >= chunk.size
    stuck = whole == 0 and len(data) > 0 and (len(data) == place.held or len(data) >= limit)
    end = len(data) if ended or stuck else whole
    lines = data[:end].split(b"\n")[1 if place.inside else 0 :]
    offset = place.offset + end
    inside = data[end - 1 : end] != b"\n" if end else place.inside
    there = Place(chunk.identity, offset, _hash(chunk.data[: before + end]), inside, len(data) - end)
    return Reading(tuple(filter(None, lines)), there, max(0, chunk.size - offset))
