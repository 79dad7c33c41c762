"""Where is the host, when we look at it from a container, and what has it mounted?

A container sees the host's /proc and root where they were mounted into it (`--path.procfs`, `--path.rootfs`, named as in
node_exporter). Its own /proc tells of its own network and mounts; those of the host stand below its process 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.world import files
from exporter.world.token import Token
from probes.api import MIB, Blind
from probes.world.files import Disk

ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Places:
    """The host's /proc and root, as paths of ours; and where exporters agree who measures (`claims.py`), "" for its default."""

    procfs: str = "/proc"
    rootfs: str = "/"
    locks: str = ""

    @property
    def mounted(self) -> bool:
        """Is the host's root another than ours?"""
        return self.rootfs != "/"

    def of_init(self, name: str) -> str:
        """What the host's first process sees: `/host/proc/1/net/dev`."""
        return f"{self.procfs}/1/{name}"


OURS = Places()


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo. `device` is major:minor."""

    device: str
    point: str
    kind: str
    source: str
    read_only: bool


def mounts(text: str) -> Iterator[Mount]:
    """What a mountinfo says; lines that say nothing are left out. https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html"""
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        about, rest = left.split(" "), right.split(" ")
        if not dash or len(about) < 6 or len(rest) < 3:
            continue
        options = {*about[5].split(","), *rest[2].split(",")}
        yield Mount(about[2], _plain(about[4]), rest[0], _plain(rest[1]), "ro" in options)


def disk(path: str, places: Places, token: Token) -> Disk | None:
    """The filesystem of the host that holds `path`; None when there is no such path.

    Our own mount of it is read-only, so whether the host's is comes from the host's table.
    """
    if not places.mounted:
        return files.disk(path, token)
    found = files.disk(f"{places.rootfs.rstrip('/')}/{path.lstrip('/')}", token)
    return None if found is None else replace(found, read_only=_read_only(path, places, token))


def _read_only(path: str, places: Places, token: Token) -> bool:
    try:
        text = files.read_text(places.of_init("mountinfo"), MIB, token) or ""
    except Blind:
        return False  # nobody knows; the sizes are still true
    above = [mount for mount in mounts(text) if Path(path).is_relative_to(mount.point)]
    # of two mounts on one point the later one covers the earlier
    return max(enumerate(above), key=lambda pair: (len(pair[1].point), pair[0]))[1].read_only if above else False


def _plain(text: str) -> str:
    """Blanks, tabs, newlines and backslashes are written as octal numbers."""
    return ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
