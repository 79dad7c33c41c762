"""Where are the rules, runbooks and dashboards that come with gpu-canary?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PACKED = _HERE / "_shipped"  # in a wheel (pyproject.toml, force-include)
_TOP = _PACKED if _PACKED.is_dir() else _HERE.parent

ALERTS = _TOP / "alerts"
"""Rule files, `alertmanager.yml` and `runbooks/`."""

DASHBOARDS = _TOP / "dashboards" if _PACKED.is_dir() else _TOP / "dashboards" / "json"
"""One JSON file for each dashboard."""


class Differs(Exception):
    """Files that are there already and say something else; nothing was written."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__(", ".join(map(str, paths)))
        self.paths = paths


def rules() -> dict[str, Path]:
    """What a Prometheus and an Alertmanager take, by its place below `alerts/`: without tests and plans."""
    named = {path.relative_to(ALERTS): path for path in sorted(ALERTS.rglob("*")) if path.is_file()}
    wanted = {place: path for place, path in named.items() if place.parts[0] != "tests" and place.name != "planned.yml"}
    return {str(place): path for place, path in wanted.items() if not place.name.startswith(".")}


def dashboards() -> dict[str, Path]:
    """The dashboards' JSON by file name."""
    return {path.name: path for path in sorted(DASHBOARDS.glob("*.json"))}


def write(files: Mapping[str, Path], folder: Path, force: bool) -> list[Path]:
    """Copy them; the paths that changed. What lies there and differs is kept (Differs), unless `force`. OSError."""
    fresh = {folder / name: source.read_bytes() for name, source in files.items()}
    there = {path: path.read_bytes() for path in fresh if path.exists()}
    differing = [path for path in there if there[path] != fresh[path]]
    if differing and not force:
        raise Differs(differing)
    changed = [path for path in fresh if there.get(path) != fresh[path]]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fresh[path])
    return changed
