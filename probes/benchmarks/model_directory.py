"""May a benchmark write a file as large as a model into the directory of the models?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from probes.api import GIB, Blind, Finding, Json, NotApplicable, Rule, SubjectFailed, World


class Wanted(Protocol):
    """What the params of such a benchmark have in common."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def times_free(self) -> float: ...


def room(params: Wanted, world: World, absent: Rule, no_room: Rule) -> tuple[str, int] | Finding:
    """The directory as the worker opens it, and the bytes that must be free there; or what is wrong with it, by those rules.

    Raises NotApplicable(not_configured).
    """
    if not params.path:
        raise NotApplicable("not_configured", "set `path:` to the directory of the models")
    path = os.path.expanduser(params.path)
    disk = world.disk(path)
    if disk is None:
        return absent("no such directory", subject=params.path)
    needed = int(params.times_free * params.size)
    if disk.free < needed:
        return no_room(f"{disk.free / GIB:.1f} GiB free, {needed / GIB:.1f} GiB needed", subject=params.path)
    return path, needed


def written(data: Mapping[str, Json], params: Wanted, no_room: Rule) -> None:
    """The worker's word of how writing went. Raises Blind(permission), or SubjectFailed where the disk became full."""
    if "refused" in data:
        raise Blind("permission", f"we may not write there: {data['refused']}")
    if "full" in data:
        raise SubjectFailed(no_room(str(data["full"]), subject=params.path))
