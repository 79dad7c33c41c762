"""Is somebody working on this machine? A file in the storage directory that says until when; it ends by itself."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "maintenance.json"


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Alerts are muted until `until` (Unix time); measuring goes on."""

    until: float
    why: str
    since: float

    @property
    def on(self) -> bool:
        return time.time() < self.until

    @property
    def left(self) -> float:
        return max(0.0, self.until - time.time())


def read(storage: Path) -> Maintenance | None:
    """The maintenance that is on now, or None. A damaged file counts as none: muted alarms must be asked for."""
    try:
        data = json.loads((storage / FILE).read_text(encoding="utf-8"))
        found = Maintenance(float(data["until"]), str(data["why"]), float(data["since"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return found if found.on and math.isfinite(found.until + found.since) else None


def begin(storage: Path, seconds: float, why: str) -> Maintenance:
    """Switch maintenance on for `seconds`. OSError when the storage directory cannot be written."""
    now = time.time()
    maintenance = Maintenance(now + seconds, why, now)
    storage.mkdir(parents=True, exist_ok=True)
    fresh = storage / f"{FILE}.new"
    fresh.write_text(json.dumps(asdict(maintenance)), encoding="utf-8")
    fresh.replace(storage / FILE)
    return maintenance


def end(storage: Path) -> None:
    """Switch it off; no error when it was off."""
    (storage / FILE).unlink(missing_ok=True)
