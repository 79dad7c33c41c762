"""From when on does a check's past count? A file in the storage directory that `gpu-canary baseline update` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "baselines.json"
LATEST = 4e9  # the year 2096: nobody accepted anything then


@dataclass(frozen=True, slots=True)
class Accepted:
    """Runs that began before `since` (Unix time) are nothing to compare with any more."""

    since: float
    why: str = ""


def read(storage: Path) -> dict[str, Accepted]:
    """What was accepted, by check; a damaged file or entry counts as none: then the whole past judges."""
    try:
        data = json.loads((storage / FILE).read_text(encoding="utf-8"))
        entries = data.items()
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    found: dict[str, Accepted] = {}
    for check, entry in entries:
        try:
            since = float(entry["since"])
            if 0 <= since < LATEST:
                found[check] = Accepted(since, str(entry["why"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return found


def add(storage: Path, fresh: Mapping[str, Accepted]) -> None:
    """Accept these, and keep those of other checks. OSError when the storage directory cannot be written."""
    everything = {check: asdict(entry) for check, entry in {**read(storage), **fresh}.items()}
    storage.mkdir(parents=True, exist_ok=True)
    written = storage / f"{FILE}.new"
    written.write_text(json.dumps(everything), encoding="utf-8")
    written.replace(storage / FILE)
