"""When does which check run? The only importer of APScheduler, which decides when; lanes of ours run the runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from exporter.lanes import Lanes
from exporter.result import Check, Latest, Result
from exporter.triggers import GridTrigger, spread
from exporter.world.token import Token

log = logging.getLogger("gpu_canary.schedule")

TICK = 2.0
JUMP = 2.0  # seconds the wall clock may drift from the monotonic one between two ticks
HUNG_GRACE = 10.0  # past its deadline a run may take this long to notice, kill its worker and come back
STARTS_PER_SECOND = 50


@dataclass(frozen=True, slots=True)
class Running:
    """A run in progress: `ratio` and `eta` (seconds) once it reported progress."""

    since: float
    ratio: float | None = None
    eta: float | None = None


@dataclass(slots=True)
class _Entry:
    """A scheduled check and its run, if there is one. `generation` grows with each change of the check."""

    check: Check
    trigger: GridTrigger
    generation: int = 0
    waiting: bool = False
    token: Token | None = None
    since: float = 0.0
    progress: tuple[float, float] | None = None
    given_up: bool = False


class _Hand(BaseExecutor):  # type: ignore[misc]  # APScheduler 3 has no type hints
    """APScheduler's executor: hands the due check over at once."""

    def __init__(self, fire: Callable[[str], Any]) -> None:
        super().__init__()
        self._fire = fire

    def submit_job(self, job: Any, run_times: list[datetime]) -> None:
        self._fire(job.id)

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        raise NotImplementedError("submit_job does it all")


class Schedule:
    """Runs every check in its lane at its time, never two runs of one check at once.

    execute(check, token): one run, recorded. late(check): the result on behalf of a run that hangs. record(result).
    skipped(check, reason): a run that did not even start (counted). latest(name): decides retry and first run.
    """

    def __init__(
        self,
        execute: Callable[[Check, Token], Result],
        record: Callable[[Result], Any],
        late: Callable[[Check, float], Result],
        skipped: Callable[[str, str], None],
        latest: Callable[[str], Latest | None],
        lanes: Lanes,
    ) -> None:
        self._execute, self._record, self._late, self._skipped, self._latest = execute, record, late, skipped, latest
        self.lanes = lanes
        self.lag = 0.0  # seconds the newest run started behind its slot
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._scheduler = BackgroundScheduler(timezone=UTC, daemon=True)
        self._scheduler.add_executor(_Hand(self._due))

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self, checks: Iterable[Check]) -> None:
        """Begin. Light checks that have no fresh result run within a second or two, benchmarks within a minute."""
        self.update(checks)
        self._scheduler.start()
        threading.Thread(target=self._tick_forever, name="clock", daemon=True).start()

    def stop(self) -> None:
        """Start nothing more and cancel what runs. Does not wait: whoever hangs is a daemon thread."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._scheduler.shutdown(wait=False)
        self.lanes.close()
        with self._lock:
            tokens = [entry.token for entry in self._entries.values() if entry.token]
        for token in tokens:
            token.cancel("shutdown")

    def update(self, checks: Iterable[Check]) -> None:
        """Make these the checks. A removed check's run is cancelled; a changed one's finishes and is dropped."""
        wanted = {check.name: check for check in checks}
        with self._lock:
            for name in self._entries.keys() - wanted.keys():
                self._remove(name)
            rush = max(1.0, sum(check.lane == "light" for check in wanted.values()) / STARTS_PER_SECOND)
            for name, check in wanted.items():
                entry = self._entries.get(name)
                if entry is None:
                    self._add(check, rush)
                elif entry.check != check:
                    entry.check, entry.trigger = check, GridTrigger(name, check.every, time.time() + 1.0)
                    entry.generation += 1
                    self._scheduler.reschedule_job(name, trigger=entry.trigger)

    def _add(self, check: Check, rush: float) -> None:
        trigger = GridTrigger(check.name, check.every, self._first(check, rush))
        self._entries[check.name] = _Entry(check, trigger)
        self._scheduler.add_job(_nothing, trigger, id=check.name, misfire_grace_time=None, coalesce=True)

    def _remove(self, name: str) -> None:
        entry = self._entries.pop(name)
        entry.generation += 1
        self._scheduler.remove_job(name)
        if entry.token:
            entry.token.cancel("removed")

    def _first(self, check: Check, rush: float) -> float | None:
        """When a check runs first after a start: soon, unless history holds a result that is still fresh."""
        latest, now = self._latest(check.name), time.time()
        if latest and latest.measured and 0 <= now - latest.measured.started < check.every:
            return None
        wait = {"light": (0.0, min(rush, check.every)), "worker": (1.0, 4.0)}.get(check.lane, (5.0, 10.0))
        return now + wait[0] + spread(check.name, wait[1] - wait[0])

    # -- what others ask ------------------------------------------------------------------------------------------

    def next_runs(self) -> dict[str, float]:
        """Unix time of every check's next run."""
        with self._lock:
            return {name: entry.trigger.next for name, entry in self._entries.items()}

    def running(self) -> dict[str, Running]:
        """The runs in progress, with ratio and ETA where they report progress."""
        now = time.monotonic()
        with self._lock:
            return {name: _running(entry, now) for name, entry in self._entries.items() if entry.token}

    def run_now(self, name: str) -> bool:
        """Run a check out of turn; False when it is unknown or already waiting or running."""
        return self._fire(name) == ""

    # -- one run --------------------------------------------------------------------------------------------------

    def _due(self, name: str) -> None:
        reason = self._fire(name)
        if reason not in ("", "removed"):
            self._skipped(name, reason)

    def _fire(self, name: str) -> str:
        """Put a check in line. "" when it is; otherwise the reason why not."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return "removed"
            if entry.token or entry.waiting:
                return "overlap" if entry.token else "lane_busy"
            entry.waiting = True
            due = time.time()
        self.lanes.submit(lanes_of(entry.check), lambda: self._run(entry, due))
        return ""

    def _run(self, entry: _Entry, due: float) -> None:
        with self._lock:
            if self._entries.get(entry.check.name) is not entry or self._stop.is_set():
                entry.waiting = False
                return
            check, generation = entry.check, entry.generation
            token = Token(check.timeout, lambda done, total: setattr(entry, "progress", (done, total)))
            entry.waiting, entry.token, entry.since, entry.progress, entry.given_up = (
                False,
                token,
                time.monotonic(),
                None,
                False,
            )
        self.lag = time.time() - due
        try:
            result = self._execute(check, token)
        finally:
            with self._lock:
                entry.token = None
                wanted = entry.generation == generation and not entry.given_up
                if entry.given_up and check.lane == "light":
                    self.lanes.widen("light", -1)
        if wanted and not self._stop.is_set():
            self._record(result)
            self._repace(entry)

    def _repace(self, entry: _Entry) -> None:
        """Move a check to the retry lane, or back, when its latest result asks for it."""
        every = pace(entry.check, self._latest(entry.check.name))
        with self._lock:
            if entry.trigger.every == every or self._entries.get(entry.check.name) is not entry:
                return
            entry.trigger = GridTrigger(entry.check.name, every)
            self._scheduler.reschedule_job(entry.check.name, trigger=entry.trigger)

    # -- the clock ------------------------------------------------------------------------------------------------

    def _tick_forever(self) -> None:
        offset = time.time() - time.monotonic()
        while not self._stop.wait(TICK):
            drift = time.time() - time.monotonic() - offset
            if abs(drift) > JUMP:
                offset += drift
                self._clock_jumped(drift)
            self._give_up_on_the_hung()

    def _clock_jumped(self, drift: float) -> None:
        """A suspend or a set clock: every next run is reckoned anew, so that no check waits for yesterday's tomorrow."""
        log.warning("the wall clock jumped by %.1f s; the schedule is reckoned anew", drift)
        with self._lock:
            for name, entry in self._entries.items():
                if drift < 0:
                    self._scheduler.reschedule_job(name, trigger=entry.trigger)
        self._scheduler.wakeup()

    def _give_up_on_the_hung(self) -> None:
        now = time.monotonic()
        with self._lock:
            hung = [
                e
                for e in self._entries.values()
                if e.token and not e.given_up and now - e.since > e.check.timeout + HUNG_GRACE
            ]
            for entry in hung:
                entry.given_up = True
        for entry in hung:
            if entry.check.lane == "light":
                self.lanes.widen("light", 1)
            self._record(self._late(entry.check, now - entry.since))


def pace(check: Check, latest: Latest | None) -> float:
    """Seconds between runs: faster while the check fails, and while its first measured result is only put off."""
    if latest is None:
        return check.every
    if latest.last.deferred:
        return min(check.every, 300.0 if latest.measured else 30.0)
    if latest.last.outcome in ("failed", "error"):
        return min(check.every, check.retry_every or max(30.0, check.every / 10))
    return check.every


def lanes_of(check: Check) -> frozenset[str]:
    """The lanes a run of this check claims. Benchmarks of one card, or of the CPU, share one exclusive lane."""
    if check.lane == "gpu":
        return frozenset({f"gpu:{getattr(check.params, 'gpu', '') or '0'}"})
    return frozenset({check.lane})


def light_slots(checks: Iterable[Check]) -> int:
    """How many light runs may be in flight: the share of time they may take if all hang, between 16 and 128."""
    return max(16, min(128, round(sum(c.timeout / c.every for c in checks if c.lane == "light") + 0.5)))


def _running(entry: _Entry, now: float) -> Running:
    since = now - entry.since
    if entry.progress is None or entry.progress[1] <= 0:
        return Running(since)
    ratio = min(1.0, max(0.0, entry.progress[0] / entry.progress[1]))
    return Running(since, ratio, since / ratio - since if ratio > 0 else None)


def _nothing() -> None:
    """APScheduler wants a callable; our executor never calls it."""
