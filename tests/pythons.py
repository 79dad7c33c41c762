"""Which Pythons of other versions has this machine, for workers to run in? Asked by running them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OLDEST, NEWEST = 9, 14  # minor versions that a worker's syntax may meet
TOLD = """
import importlib.util, json, sys
print(json.dumps([list(sys.version_info[:3]), sys.prefix, importlib.util.find_spec("torch") is not None]))
"""


@dataclass(frozen=True)
class Other:
    """A Python of another minor version than ours."""

    path: str
    version: tuple[int, int, int]
    torch: bool

    @property
    def name(self) -> str:
        return ".".join(map(str, self.version))


@functools.cache
def others() -> tuple[Other, ...]:
    """One of each minor version but ours from 3.9 on, oldest first; with torch where one has it."""
    best: dict[int, Other] = {}
    for path in _candidates():
        found = _asked(path)
        if found is None or found.version[1] == sys.version_info.minor or not OLDEST <= found.version[1] <= NEWEST:
            continue
        if found.version[1] not in best or (found.torch and not best[found.version[1]].torch):
            best[found.version[1]] = found
    return tuple(best[minor] for minor in sorted(best))


def _candidates() -> Iterator[str]:
    """Of PATH, of pyenv and uv, of GitHub's runners, and environments in the home folder and beside us."""
    names = [f"python3.{minor}" for minor in range(OLDEST, NEWEST + 1)]
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if "shims" not in folder]
    home = Path.home()
    places = [
        (home / ".pyenv" / "versions", "*/bin/python"),
        (home / ".local" / "share" / "uv" / "python", "*/bin/python3"),
        (Path(os.environ.get("AGENT_TOOLSDIRECTORY", "/opt/hostedtoolcache")), "Python/*/*/bin/python"),
        (home, "*/bin/python"),
        (home, "*/venv/bin/python"),
        (Path(__file__).parent.parent, ".venv*/bin/python"),
    ]
    yield from (str(folder / name) for folder in folders for name in names if os.access(folder / name, os.X_OK))
    yield from (str(path) for place, pattern in places for path in sorted(place.glob(pattern)))


def _asked(path: str) -> Other | None:
    try:
        ended = subprocess.run([path, "-c", TOLD], capture_output=True, text=True, timeout=20)
        (major, minor, micro), _, torch = json.loads(ended.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return Other(path, (major, minor, micro), torch) if major == 3 else None
