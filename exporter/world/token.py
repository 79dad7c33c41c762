"""May this run go on? One token per run: every door looks at it and raises Aborted when it fired."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from probes.api import Aborted
from probes.stops import AbortReason


class Token:
    """Deadline and cancellation of one run. Thread-safe; the first reason wins.

    `timeout` in seconds. Doors that block elsewhere (libcurl, a child process) poll `remaining()` or register a wake-up
    with `on_cancel`.
    """

    def __init__(self, timeout: float, progress: Callable[[float, float], None] | None = None) -> None:
        self._deadline = time.monotonic() + timeout
        self._fired = threading.Event()
        self._reason: AbortReason = "aborted"
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []
        self.progress = progress or (lambda done, total: None)

    def cancel(self, reason: AbortReason) -> None:
        """Ask the run to end. Later calls change nothing."""
        with self._lock:
            if self._fired.is_set():
                return
            self._reason = reason
            self._fired.set()
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def on_cancel(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` once when the token is cancelled (at once if it already is). Returns the function that unregisters."""
        with self._lock:
            self._wakers.append(wake)
            fired = self._fired.is_set()
        if fired:
            wake()
        return lambda: self._wakers.remove(wake) if wake in self._wakers else None

    def remaining(self) -> float:
        """Seconds left, 0 when the deadline passed or the token fired."""
        return 0.0 if self._fired.is_set() else max(0.0, self._deadline - time.monotonic())

    @property
    def stopped(self) -> AbortReason | None:
        """Why the run must end, or None while it may go on."""
        if self._fired.is_set():
            return self._reason
        return "deadline" if time.monotonic() >= self._deadline else None

    def check(self, late: float = 0.0) -> None:
        """Raise Aborted when the run must end, by its deadline `late` seconds after that. Doors call it around what blocks."""
        if (reason := self.stopped) and (reason != "deadline" or time.monotonic() >= self._deadline + late):
            raise Aborted(reason)

    def wait(self, seconds: float) -> None:
        """Sleep, but wake at once and raise Aborted when the token fires; the deadline cuts the sleep short."""
        self._fired.wait(min(seconds, self.remaining()))
        self.check()
