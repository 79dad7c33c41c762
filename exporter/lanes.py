"""Which runs may run together? A run claims a set of lanes, all or none, and waits in line until they are free."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from exporter.result import Check

log = logging.getLogger("gpu_canary.lanes")

IDLE_SECONDS = 60.0  # how long a thread without work is kept
# Runs come in bursts, and most take a millisecond: one thread does them in turn, and another only helps when they last.
# Ten threads for ten short runs would spend twice the CPU on waiting for each other (the interpreter's lock).
HELP_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _Waiting:
    lanes: tuple[str, ...]
    call: Callable[[], None]


class Lanes:
    """Runs calls on daemon threads of ours: a thread pool of the standard library would join hung threads at exit.

    `capacity` is how many runs a lane holds; a lane not named holds one (a GPU, the browser).
    """

    def __init__(self, capacity: Mapping[str, int]) -> None:
        self._capacity = dict(capacity)
        self._held: Counter[str] = Counter()
        self._taken: dict[str, float] = {}  # seconds, by lane that holds one run
        self._since: dict[str, float] = {}
        self._line: list[_Waiting] = []
        self._ready: deque[_Waiting] = deque()
        self._idle = 0
        self._invited, self._after = False, 0.0
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, lanes: frozenset[str], call: Callable[[], None]) -> None:
        """Run `call` on a thread of ours once all `lanes` are free. Those who came first and can run, run first."""
        with self._changed:
            if self._closed:
                return
            self._line.append(_Waiting(tuple(sorted(lanes)), call))
            self._dispatch()

    def widen(self, lane: str, by: int) -> None:
        """Change what a lane holds: a run that hangs for good is replaced (+1) until it comes back (-1)."""
        with self._changed:
            self._capacity[lane] = self._capacity.get(lane, 1) + by
            self._dispatch()

    def close(self) -> None:
        """Start nothing more. Threads that run are left alone; they are daemons."""
        with self._changed:
            self._closed = True
            self._line.clear()
            self._changed.notify_all()

    def occupancy(self) -> dict[str, tuple[int, int]]:
        """Per lane: runs that hold it now, and how many it can hold."""
        with self._changed:
            names = {*self._capacity, *self._held}
            return {name: (self._held[name], self._capacity.get(name, 1)) for name in sorted(names)}

    def held_seconds(self) -> dict[str, float]:
        """Per lane that holds one run at a time: how long runs have held it, the one in progress included."""
        with self._changed:
            now = time.monotonic()
            return {lane: taken + now - self._since.get(lane, now) for lane, taken in sorted(self._taken.items())}

    def _hold(self, lanes: Iterable[str]) -> None:
        self._held.update(lanes)
        for lane in lanes:
            if lane not in self._capacity:
                self._taken.setdefault(lane, 0.0)
                self._since[lane] = time.monotonic()

    def _release(self, lanes: Iterable[str]) -> None:
        self._held.subtract(lanes)
        now = time.monotonic()
        for lane in lanes:
            if lane in self._since:
                self._taken[lane] += now - self._since.pop(lane)

    def _free(self, lane: str) -> bool:
        return self._held[lane] < self._capacity.get(lane, 1)

    def _dispatch(self) -> None:
        still: list[_Waiting] = []
        blocked: set[str] = set()
        for waiting in self._line:
            # a lane somebody ahead waits for is not given to those behind: no starvation
            if all(self._free(lane) for lane in waiting.lanes) and blocked.isdisjoint(waiting.lanes):
                self._hold(waiting.lanes)
                self._start(waiting)
            else:
                blocked.update(waiting.lanes)
                still.append(waiting)
        self._line = still

    def _start(self, waiting: _Waiting) -> None:
        self._ready.append(waiting)
        if not self._invited:
            self._invite(after=0.0)

    def _invite(self, after: float) -> None:
        """Have one more thread look at what is ready, `after` seconds from now."""
        self._invited, self._after = True, after
        if self._idle:
            self._changed.notify()
        else:
            try:
                threading.Thread(target=self._work, name="run", daemon=True).start()
            except RuntimeError as error:  # a limit of processes; what is ready stays so until the next run comes
                self._invited = False
                log.error(
                    "no thread for a run: %s; `ulimit -u` and TasksMax= of the unit say how many we may have", error
                )

    def _work(self) -> None:
        while self._accept_invitation():
            while (waiting := self._take()) is not None:
                try:
                    waiting.call()
                except BaseException:
                    log.exception("a run ended outside the runner; please report this")
                with self._changed:
                    self._release(waiting.lanes)
                    self._dispatch()

    def _accept_invitation(self) -> bool:
        """Wait until this thread is wanted; False when it is not for a long time."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._invited or self._closed, timeout=IDLE_SECONDS)
            self._idle -= 1
            if not self._invited or self._closed:
                return False
            after = self._after
        time.sleep(after)
        with self._changed:
            self._invited = False
        return True

    def _take(self) -> _Waiting | None:
        """The next run for this thread. What it leaves behind gets another thread if it is still there in a moment."""
        with self._changed:
            waiting = self._ready.popleft() if self._ready else None
            if self._ready and not self._invited:
                self._invite(after=HELP_SECONDS)
            return waiting


def lanes_of(check: Check, uuid_of: Callable[[str], str] = str) -> frozenset[str]:
    """The lanes a run of this check claims. Benchmarks of one card, or of the CPU, share one exclusive lane.

    `uuid_of` makes one name of a card's index and its uuid; it answers "" while it does not know.
    """
    if check.lane == "gpu":
        cards = filter(None, (getattr(check.params, "gpu", "") or "0", getattr(check.params, "peer", "")))
        return frozenset(f"gpu:{uuid_of(card) or card}" for card in cards)
    return frozenset({check.lane})


def light_slots(checks: Iterable[Check]) -> int:
    """How many light runs may be in flight: the share of time they may take if all hang, between 16 and 128."""
    return max(16, min(128, round(sum(c.timeout / c.every for c in checks if c.lane == "light") + 0.5)))
