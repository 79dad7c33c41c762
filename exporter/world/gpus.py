"""What do the cards say? The GPU door: NVML behind a deadline, the PCI bus, the XIDs and a sampler of its own.

All NVML calls are made by one daemon thread, because a wedged driver never returns from one and nothing can interrupt
it. Whoever looks waits for that thread no longer than the deadline, and not at all while it is known to be stuck; when
the call returns after all, everything goes on. Between looks the same thread samples the cards once a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from exporter.world.cards import Processes
from exporter.world.nvml import LIBRARIES, load
from exporter.world.nvml_session import Session
from exporter.world.pci import cards_on_the_bus, slot
from exporter.world.token import Token
from exporter.world.watch import Watch
from exporter.world.xids import KERNEL_LOGS, KernelLog, Tally
from probes.rules import GPU_DRIVER_WEDGED
from probes.stops import Deferred, SubjectFailed
from probes.world.gpus import Gpus, Idle

MARGIN = 0.25  # seconds before the token's deadline: what the driver holds up is its fault, not a late check of ours


@dataclass(frozen=True, slots=True)
class Places:
    """Where the machine is looked at."""

    libraries: Sequence[str] = LIBRARIES
    sysfs: str = "/sys"
    proc: str = "/proc"
    kernel_logs: Sequence[str] = KERNEL_LOGS


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. Without persistence mode the driver wakes the cards only when NVML starts, which takes it seconds a card."""

    sample: float = 1.0
    watch: float = 0.5  # while a benchmark runs on a card: two looks make the second within which it gives way
    deadline: float = 4.0  # below the shortest interval of a check that looks
    start: float = 30.0
    reopen: float = 60.0  # between looks at the bus, and between attempts to find a lost card again


class GpuDoor:
    """The cards of this machine. Thread-safe; nothing is loaded, opened or started before the first look."""

    def __init__(self, places: Places | None = None, pace: Pace | None = None) -> None:
        self._places, self._pace = places or Places(), pace or Pace()
        self._tally = Tally()
        self._turn = threading.Condition()
        self._watched: Counter[str] = Counter()
        self._bus = Gpus()
        self._bus_read = float("-inf")
        self._session: Session | None = None
        self._thread: threading.Thread | None = None
        self._log: KernelLog | None = None
        self._busy: float | None = None  # since when the thread has been at NVML, monotonic
        self._asked = self._served = 0
        self._reading: Gpus | Exception = Gpus()
        self._closing = False

    def look(self, token: Token) -> Gpus:
        """Everything at one moment. SubjectFailed(gpu-driver-wedged) past the deadline, Deferred while NVML starts."""
        token.check()
        seen = self._look_at_the_bus()
        session = self._begin()
        if session is None:
            return seen
        kernel_log = self._follow_kernel_log()
        reading = self._read(session, token)
        gpus = tuple(replace(gpu, xids=self._tally.of(slot(gpu.pci_bus_id))) for gpu in reading.gpus)
        return replace(reading, gpus=gpus, pci=seen.pci, bus=seen.bus, kernel_log=kernel_log)

    def idle(self, uuid: str, needed_bytes: int) -> Idle:
        """Is that card free for a benchmark? It must have been looked at, and watched for a minute since."""
        if self._session is None or self._stuck():
            return Idle(False, reason="NVML does not answer")
        return self._session.idle(uuid, needed_bytes)

    @contextmanager
    def watched(self, uuid: str) -> Iterator[Watch | None]:
        """That card, watched for disturbers until the block is left; None when it cannot be watched."""
        session = self._session
        if session is None:
            yield None
            return
        watch = Watch(session, uuid)
        self._watch(session, uuid, 1)
        try:
            yield watch if watch.begin(self._pace.deadline) else None
        finally:
            self._watch(session, uuid, -1)

    def _watch(self, session: Session, uuid: str, more: int) -> None:
        with self._turn:
            self._watched[uuid] += more
            session.watch(uuid for uuid, number in self._watched.items() if number > 0)
            self._turn.notify_all()  # the thread reckons anew when it looks next

    def uuid_of(self, card: str) -> str:
        """The uuid of the card with this index or uuid; "" while an index is not known. Never waits for the driver."""
        if not card.isdigit():
            return card
        return self._session.uuid(int(card)) if self._session else ""

    def close(self) -> None:
        """End the thread, unless the driver holds it; then it ends with the process."""
        with self._turn:
            self._closing = True
            self._turn.notify_all()
            if self._log is not None:
                self._log.close()
        if self._thread is not None and not self._stuck():
            self._thread.join(timeout=1.0)

    def _look_at_the_bus(self) -> Gpus:
        with self._turn:
            if time.monotonic() >= self._bus_read + self._pace.reopen:
                pci = cards_on_the_bus(self._places.sysfs)  # hundreds of small files on a large server
                self._bus, self._bus_read = Gpus(pci=pci or (), bus=pci is not None), time.monotonic()
            return self._bus

    def _begin(self) -> Session | None:
        with self._turn:
            if self._session is None and not self._closing:
                library = load(self._places.libraries)
                if library is None:
                    return None
                pace, processes = self._pace, Processes(self._places.proc)
                self._log = KernelLog(self._places.kernel_logs)
                self._session = Session(library, processes, self._tally, pace.sample, pace.reopen, pace.watch)
                self._thread = threading.Thread(target=self._work, args=(self._session,), name="nvml", daemon=True)
                self._thread.start()
            return self._session

    def _follow_kernel_log(self) -> bool:
        """By whoever looks, not by the thread: it matters most while the driver holds that one."""
        with self._turn:
            if self._log is None or self._closing:
                return False
            for card, xid in self._log.xids():
                self._tally.add("kernel", card, xid, time.time())
            return self._log.readable

    def _read(self, session: Session, token: Token) -> Gpus:
        forget = token.on_cancel(self._wake)
        try:
            with self._turn:
                self._asked += 1
                ticket = self._asked
                self._turn.notify_all()
                patience = 0.0 if self._stuck() else max(0.0, min(self._pace.deadline, token.remaining() - MARGIN))
                self._turn.wait_for(lambda: self._served >= ticket or token.remaining() == 0.0, patience)
                reading = self._reading if self._served >= ticket else None
        finally:
            forget()
        if isinstance(reading, Gpus):
            return reading
        if token.stopped != "deadline":
            token.check()
        raise reading or self._wedged(session)

    def _wake(self) -> None:
        with self._turn:
            self._turn.notify_all()

    def _stuck(self) -> bool:
        since = self._busy
        return since is not None and time.monotonic() - since >= self._pace.deadline

    def _wedged(self, session: Session) -> Exception:
        call = session.nvml.call
        if call is None:  # no single call hangs, but all of them together take too long
            return SubjectFailed(GPU_DRIVER_WEDGED(f"NVML did not tell about its cards in {self._pace.deadline:.0f} s"))
        waited = time.monotonic() - call.since
        if call.function == "nvmlInit" and waited < self._pace.start:
            return Deferred("preparing", f"NVML has been starting for {waited:.0f} s")
        card = "" if call.card is None else f" of card {call.card}"
        xid = self._tally.last(since=time.time() - 600)
        detail = f"{call.function}{card} has not returned for {waited:.0f} s{f', {xid}' if xid else ''}"
        return SubjectFailed(GPU_DRIVER_WEDGED(detail, subject=session.uuid(call.card)))

    def _work(self, session: Session) -> None:
        """The thread: samples when it is time, reads when somebody asked."""
        fault: Exception | None = None
        while True:
            with self._turn:
                self._busy = None
                if not self._closing and self._asked <= self._served:
                    self._turn.wait(session.until_sample())
                if self._closing:
                    break
                self._busy, ticket = time.monotonic(), self._asked
            reading: Gpus | Exception | None = None
            try:
                session.sample()
                reading = session.read() if ticket > self._served else None
            except Exception as error:  # our own fault, told to the next who looks; the thread goes on
                fault = error
            if ticket > self._served:
                with self._turn:
                    self._reading, self._served = fault or reading or Gpus(), ticket
                    self._turn.notify_all()
                fault = None
        session.end()
