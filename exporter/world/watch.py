"""Does anybody disturb the benchmark that runs on this card now? The gate asks here twice a second."""

from __future__ import annotations

import time

from exporter.world.nvml_session import Session
from exporter.world.presence import SHARED, Presence, told
from exporter.world.samples import BUSY

GLANCE = 0.02  # seconds between two looks for an answer of the NVML thread
# Seconds without a look after which nobody knows who is there. More than the door's deadline: a run that looks at its card
# itself meets a driver that hangs before, and says so.
SILENCE = 6.0


class Watch:
    """One card from before a run until after it. Its numbers come from the NVML thread; nobody here calls the driver."""

    def __init__(self, session: Session, uuid: str) -> None:
        self._session, self._uuid = session, uuid
        self._since = self._told = time.monotonic()  # the second is when the newest look was
        self.before: Presence | None = None
        self._suspected = 0.0  # when a weak look first found a disturber

    def begin(self, seconds: float) -> bool:
        """Wait for the first look. False when none came: who cannot be watched is not measured."""
        end = time.monotonic() + seconds
        while self.before is None and time.monotonic() < end:
            self.before = self._newest()
            time.sleep(0 if self.before else GLANCE)
        return self.before is not None

    def disturbance(self) -> str:
        """Who disturbs by the newest look, in words; "" when nobody does, or nobody can be told."""
        now = self._newest()
        self._told = now.at if now else self._told
        if self.before and time.monotonic() - self._told > SILENCE:
            return f"NVML has not told for {SILENCE:g} s who is on the card"
        found = self._session.disturbance(self.before, now) if self.before and now else ""
        if not found or now is None or self._session.pids_known:
            self._suspected = 0.0
            return found
        # counted, not known: a worker that just ended may be listed still, so two looks must agree
        sure = 0.0 < self._suspected < now.at
        self._suspected = self._suspected or now.at
        return found if sure else ""

    @property
    def weakness(self) -> str:
        """Why this watch sees less than it should; "" when it sees all."""
        if self.before is None or self.before.processes is None:
            return "this driver lists no processes"
        if not self._session.pids_known:
            return "pids are those of another pid namespace"
        if self.before.work is None:
            return "this driver does not tell who works"
        if any(p.name.startswith(SHARED) for p in self.before.residents):
            return "MPS hides who works"
        return ""

    def busy_afterwards(self, seconds: float) -> str:
        """How busy the card still is when our own work is over, in words; "" when it fell silent: what a weak watch cannot
        see meanwhile."""
        ended, rate = time.monotonic(), None
        while time.monotonic() < ended + seconds:
            rate = self._session.utilization(self._uuid, ended)
            if rate is not None and rate < BUSY:
                return ""
            time.sleep(GLANCE * 5)
        return "does not tell whether it is busy" if rate is None else f"is still {rate:.0%} busy without us"

    def evidence(self) -> str:
        """How the gate judged, and who was there all the time."""
        weak = self.weakness
        residents = told(self.before.residents) if self.before else ""
        return f"gate={'weak' if weak else 'strong'}{f' ({weak})' if weak else ''}, residents: {residents or 'none'}"

    def _newest(self) -> Presence | None:
        seen = self._session.presence(self._uuid)
        return seen if seen and seen.at >= self._since else None
