"""At which times does a check run? On a coarse grid, at a stable offset of its own, at a fixed rate."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.triggers.base import BaseTrigger

from exporter.result import Check, Latest

# A wake-up costs more than a scheduled run (DESIGN.md section 8): runs share two wake-ups a second.
GRID = 0.5
# Each start of the exporter shifts its offsets by up to this much, so that a fleet restarted at once does not align.
JITTER = random.SystemRandom().uniform(0, 5)


def spread(name: str, over: float) -> float:
    """A stable point in [0, over) for a name."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * over


class GridTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no type hints
    """Fixed rate: `offset + k * every`, rounded up to the grid. Missed times are one time: the next one after now.

    `first` (Unix seconds) replaces the first slot. `every` may be changed while the job lives (the retry lane).
    """

    __slots__ = ("_first", "_offset", "every", "next")

    def __init__(self, name: str, every: float, first: float | None = None) -> None:
        self.every = every
        self.next = 0.0
        self._first = first
        self._offset = spread(name, every) + JITTER

    def after(self, moment: float) -> float:
        """The first slot later than `moment`, in Unix seconds."""
        k = math.floor((moment - self._offset) / self.every) + 1
        slot = math.ceil((self._offset + k * self.every) / GRID) * GRID
        return slot if slot > moment else slot + max(GRID, self.every)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """APScheduler's question. The answer lies after now even when many slots were missed (suspend, clock jump)."""
        first, self._first = self._first, None
        self.next = first if previous is None and first is not None else self.after(now.timestamp())
        return datetime.fromtimestamp(self.next, UTC)


class Hand(BaseExecutor):  # type: ignore[misc]  # APScheduler 3 has no type hints
    """APScheduler's executor: hands the due check over at once."""

    def __init__(self, fire: Callable[[str], Any]) -> None:
        super().__init__()
        self._fire = fire

    def submit_job(self, job: Any, run_times: list[datetime]) -> None:
        self._fire(job.id)

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        raise NotImplementedError("submit_job does it all")


def pace(check: Check, latest: Latest | None) -> float:
    """Seconds between runs: faster while the check fails, and while its first measured result is only put off."""
    if latest is None:
        return check.every
    if latest.last.deferred:
        return min(check.every, 300.0 if latest.measured else 30.0)
    if latest.last.outcome in ("failed", "error"):
        return min(check.every, check.retry_every or max(30.0, check.every / 10))
    return check.every
