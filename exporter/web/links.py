"""Where is that page, seen from this one? Links are relative, so they hold behind any proxy and under any prefix."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote


def top(scope: MutableMapping[str, Any]) -> str:
    """The way from the requested path up to the status page: `./`, `../`, `../../`."""
    depth = scope["raw_path"].count(b"/") - scope["root_path"].count("/") - 1
    return "../" * depth or "./"


def of_check(name: str) -> str:
    """A check's page, seen from the status page. Names hold slashes: they are written as %2F."""
    return f"checks/{quote(name, safe='')}"
