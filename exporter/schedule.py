"""When does which check run? The only importer of APScheduler, which decides when; lanes of ours run the runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler

from exporter.lanes import Lanes, lanes_of
from exporter.result import Check, Latest, Result
from exporter.triggers import GridTrigger, Hand, pace, spread
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


@dataclass(slots=True, eq=False)
class _Run:
    """A run in progress, of the check as it was when the run began."""

    check: Check
    entry: _Entry
    since: float
    token: Token = field(init=False)
    progress: tuple[float, float] | None = None
    given_up: bool = False

    def __post_init__(self) -> None:
        self.token = Token(self.check.timeout, self._report)

    def _report(self, done: float, total: float) -> None:
        self.progress = (done, total)


@dataclass(slots=True)
class _Entry:
    """A scheduled check and its run, if there is one."""

    check: Check
    trigger: GridTrigger
    waiting: bool = False
    run: _Run | None = None


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
        lanes_for: Callable[[Check], frozenset[str]] = lanes_of,
    ) -> None:
        self._lanes_of = lanes_for
        self._execute, self._record, self._late, self._skipped, self._latest = execute, record, late, skipped, latest
        self.lanes = lanes
        self.lag = 0.0  # seconds the newest run started behind its slot
        self._entries: dict[str, _Entry] = {}
        self._runs: set[_Run] = set()  # those of removed checks too
        # APScheduler calls `_due` with its own lock held. So nobody who holds `_lock` may call APScheduler, and those who
        # do hold `_planning` instead.
        self._planning, self._lock = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._scheduler = BackgroundScheduler(timezone=UTC, daemon=True)
        self._scheduler.add_executor(Hand(self._due))

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
            runs = list(self._runs)
        for run in runs:
            run.token.cancel("shutdown")

    def update(self, checks: Iterable[Check]) -> None:
        """Make these the checks. A removed check's run is cancelled; a changed one's finishes and is dropped."""
        wanted = {check.name: check for check in checks}
        with self._planning:
            for name in self._entries.keys() - wanted.keys():
                self._remove(name)
            rush = max(1.0, sum(check.lane == "light" for check in wanted.values()) / STARTS_PER_SECOND)
            for name, check in wanted.items():
                entry = self._entries.get(name)
                if entry is None:
                    self._add(check, rush)
                elif entry.check != check:
                    before, entry.check = entry.check, check
                    if before.fingerprint != check.fingerprint:  # it asks something else now
                        self._retime(entry, GridTrigger(name, check.every, time.time() + 1.0))
                    elif before.every != check.every:
                        self._retime(entry, GridTrigger(name, check.every, self._first(check, rush)))

    def _add(self, check: Check, rush: float) -> None:
        trigger = GridTrigger(check.name, pace(check, self._latest(check.name)), self._first(check, rush))
        with self._lock:
            self._entries[check.name] = _Entry(check, trigger)
        self._scheduler.add_job(_nothing, trigger, id=check.name, misfire_grace_time=None, coalesce=True)

    def _remove(self, name: str) -> None:
        with self._lock:
            run = self._entries.pop(name).run
        self._scheduler.remove_job(name)
        if run:
            run.token.cancel("removed")

    def _retime(self, entry: _Entry, trigger: GridTrigger) -> None:
        entry.trigger = trigger
        self._scheduler.reschedule_job(entry.check.name, trigger=trigger)

    def _first(self, check: Check, rush: float) -> float:
        """When a check runs first after a start: soon, unless history holds a result that is still fresh."""
        latest, now = self._latest(check.name), time.time()
        if latest and latest.measured and 0 <= now - latest.measured.started < check.every:
            # its next slot, but no later than an interval after the run: the jitter of this start is another
            return min(GridTrigger(check.name, check.every).after(now), latest.measured.started + check.every)
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
            return {name: _running(entry.run, now) for name, entry in self._entries.items() if entry.run}

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
            if entry.run or entry.waiting:
                return "overlap" if entry.run else "lane_busy"
            entry.waiting = True
            lanes, due = self._lanes_of(entry.check), time.time()
        self.lanes.submit(lanes, lambda: self._begin(entry, lanes, due))
        return ""

    def _begin(self, entry: _Entry, lanes: frozenset[str], due: float) -> None:
        """Called in `lanes`. A check that changed its lanes while in line goes to the end of the right one."""
        with self._lock:
            entry.waiting = False
            check = entry.check
            if self._entries.get(check.name) is not entry or self._stop.is_set():
                return
            moved = self._lanes_of(check) != lanes
            if not moved:
                run = entry.run = _Run(check, entry, time.monotonic())
                self._runs.add(run)
        if moved:
            self._fire(check.name)
        else:
            self.lag = time.time() - due
            self._run(run)

    def _run(self, run: _Run) -> None:
        entry, check = run.entry, run.check
        try:
            result = self._execute(check, run.token)
        finally:
            with self._lock:
                self._runs.discard(run)
                wanted = entry.run is run and self._current(run) and not run.given_up
                if entry.run is run:
                    entry.run = None
                if run.given_up and check.lane == "light":
                    self.lanes.widen("light", -1)
        if wanted and not self._stop.is_set():
            self._record(result)
            self._repace(entry)

    def _current(self, run: _Run) -> bool:
        """Is its check still configured as it was?"""
        return self._entries.get(run.check.name) is run.entry and run.entry.check is run.check

    def _repace(self, entry: _Entry) -> None:
        """Move a check to the retry lane, or back, when its latest result asks for it."""
        name = entry.check.name
        every = pace(entry.check, self._latest(name))
        if entry.trigger.every == every:
            return
        with self._planning:
            if self._entries.get(name) is entry:
                self._retime(entry, GridTrigger(name, every))

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
        with self._planning:
            for entry in self._entries.values() if drift < 0 else ():
                first = self._first(entry.check, len(self._entries) / STARTS_PER_SECOND)
                self._retime(entry, GridTrigger(entry.check.name, entry.trigger.every, first))
        self._scheduler.wakeup()

    def _give_up_on_the_hung(self) -> None:
        """A hung light run is replaced by another slot, and so is that of a check removed or changed meanwhile."""
        now = time.monotonic()
        with self._lock:
            hung = [r for r in self._runs if not r.given_up and now - r.since > r.check.timeout + HUNG_GRACE]
            current = {run: self._current(run) for run in hung}
            for run in hung:
                run.given_up = True
                if not current[run]:
                    run.entry.run = None  # the changed check need not wait for what the old one left behind
                if run.check.lane == "light":
                    self.lanes.widen("light", 1)
        for run in hung:
            if current[run]:
                self._record(self._late(run.check, now - run.since))


def _running(run: _Run, now: float) -> Running:
    since = now - run.since
    if run.progress is None or run.progress[1] <= 0:
        return Running(since)
    ratio = min(1.0, max(0.0, run.progress[0] / run.progress[1]))
    return Running(since, ratio, since / ratio - since if ratio > 0 else None)


def _nothing() -> None:
    """APScheduler wants a callable; our executor never calls it."""
