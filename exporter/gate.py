"""May this benchmark run now, and go on? The gate of DESIGN.md section 7, asked before a run and twice a second during it.

What forbids it: a card that works, quiet hours, the lock file, a service that says it is busy. A run that is disturbed is
ended and counts as put off; what it measured until then is dropped, because it says nothing about the card.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from exporter.config.gate import Gate as Manners
from exporter.quiet_hours import now_in
from exporter.result import Check, Result
from exporter.world.busy import busy
from exporter.world.patience import within
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from exporter.world.watch import Watch
from probes.api import GIB, MIB, Aborted, Skipped, SubjectFailed, cards_of
from probes.rules import GPU_DRIVER_WEDGED, WORKER_OUT_OF_MEMORY
from probes.stops import GateReason
from probes.world.gpus import Gpu

# What our benchmarks allocate, the CUDA context included: on an ordinary card, and on one of 40 GiB and more, where
# `matmul` takes larger matrices.
NEEDED, LARGE, NEEDED_ON_LARGE = 2 * GIB, 40 * GIB, 5 * GIB
HELD = GIB  # bytes; less than this is a desktop, and no benchmark needs the last of a card
GLANCE = 0.25  # seconds between two looks during a run
ASK_EVERY = 5.0  # seconds between two questions to a service during a run
PATIENCE = 1.0  # seconds that a file system has to tell whether a lock file is there
AFTERWARDS = 3.0  # seconds that a card has to fall silent after our own work; its utilisation lags by up to one


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a benchmark shall not run now."""

    reason: GateReason
    detail: str


class Gate:
    """Lets benchmarks in, and out again. `manners` is the config's `gate:`, asked anew each time: it may be reloaded."""

    def __init__(self, doors: Doors, manners: Callable[[], Manners]) -> None:
        self._doors, self._manners = doors, manners

    def run(self, check: Check, token: Token, execute: Callable[[], Result]) -> Result:
        """`execute()`, or why it must wait. Checks that are no benchmarks pass.

        Without a card the processor is measured, and a card that cannot be asked is for the run itself to report.
        """
        if not check.probe.needs.idle and check.family != "benchmarks":
            return execute()
        try:
            objection = self.forbidden() or self.asked(token)
            cards = self._cards(check, token) if check.probe.needs.idle and not objection else ()
        except Aborted:
            return execute()  # the run says itself why it ended
        if objection:
            return _put_off(check, objection)
        return self._on(check, token, execute, cards) if cards else self._attended(check, token, execute)

    def _on(self, check: Check, token: Token, execute: Callable[[], Result], cards: Sequence[Gpu]) -> Result:
        """The run under our eyes on each of its cards, or why one of them is not free for it."""
        card, *others = cards
        needed = NEEDED_ON_LARGE if (card.memory_total or 0) >= LARGE else NEEDED
        idle = self._doors.gpus.idle(card.uuid, needed)
        why = f"{idle.reason}{' (gate=weak: its processes cannot be told)' if idle.weak else ''}"
        if idle.never:
            return _skipped(
                check, ("not_applicable", "unsupported"), f"{why}; `gpu-canary run {check.name}` measures all the same"
            )
        if not idle.idle:
            return _put_off(check, Objection("gpu_busy", why))
        with self._doors.gpus.watched(card.uuid) as watch:
            if watch is None:
                return _put_off(check, Objection("gpu_busy", "nobody can watch the card: NVML does not answer"))
            inside = (lambda: self._on(check, token, execute, others)) if others else execute
            return self._attended(check, token, inside, watch, card)

    def forbidden(self) -> Objection | None:
        """What the machine's owner said: quiet hours, or the lock file."""
        manners = self._manners()
        local = now_in(manners.timezone) if manners.quiet_hours else None
        for span in manners.spans if local else ():
            if local and span.cover(local):
                return Objection("quiet_hours", f"quiet hours {span.text}, and it is {local:%a %H:%M}")
        if manners.lock_file:
            return _locked(manners.lock_file)
        return None

    def asked(self, token: Token) -> Objection | None:
        """What the services say that are to be asked. Aborted when the token fires."""
        for one in self._manners().busy:
            said = busy(one.url, one.json_path, one.regex, token)
            if said:
                return Objection("service_busy", said)
        return None

    def _cards(self, check: Check, token: Token) -> Sequence[Gpu]:
        try:
            world = RealWorld(self._doors, token)
            wanted = cards_of(world, check.params)
            return [card for card in world.gpus().gpus if card.uuid in wanted]
        except (Skipped, SubjectFailed):
            return ()

    def _attended(
        self,
        check: Check,
        token: Token,
        execute: Callable[[], Result],
        watch: Watch | None = None,
        card: Gpu | None = None,
    ) -> Result:
        """One run under our eyes. A result that a disturber spoilt counts as put off, also when it was there first."""
        needs = check.probe.needs  # who takes a card and wants no idle one makes a service work: no news that it does
        guards = [_Guard(token, GLANCE, lambda: _disturbed(watch) or self.forbidden())]
        if needs.idle or needs.lane != "gpu":  # of its own, because a slow answer shall not close the other's eyes
            guards.append(_Guard(token, ASK_EVERY, lambda: self.asked(token)))
        for guard in guards:
            guard.start()
        try:
            result = execute()
        finally:
            for guard in guards:
                guard.over.set()
        for guard in guards:
            guard.join(GLANCE)
        objection = next((g.objection for g in guards if g.objection and token.stopped == g.objection.reason), None)
        if objection is None and result.measured:
            objection = _disturbed(watch) or _starved(result, card) or _afterwards(watch)
        proofs = {GPU_DRIVER_WEDGED.name, *(rule.name for rule in check.probe.rules if rule.proof)}
        proved = any(found.rule in proofs for found in result.findings)  # no neighbour flips a bit, or hangs a driver
        told = (watch.evidence() if watch else "", result.evidence.get("idle gate", ""))  # of two cards, both
        evidence = {"idle gate": "\n".join(filter(None, told))} if watch else {}
        if objection is None or proved:
            return replace(result, evidence={**result.evidence, **evidence})
        ended = replace(objection, detail=f"stopped after {result.duration:.0f} s: {objection.detail}")
        return replace(_put_off(check, ended), started=result.started, duration=result.duration, evidence=evidence)


class _Guard(threading.Thread):
    """Asks one thing again and again while a run lasts, and ends it when somebody objects."""

    def __init__(self, token: Token, every: float, ask: Callable[[], Objection | None]) -> None:
        super().__init__(name="gate", daemon=True)
        self._token, self._every, self._ask = token, every, ask
        self.over = threading.Event()
        self.objection: Objection | None = None

    def run(self) -> None:
        while self.objection is None and not self.over.wait(self._every):
            try:
                self.objection = self._ask()
            except Aborted:
                return
        if self.objection and not self.over.is_set():
            self._token.cancel(self.objection.reason)


def _locked(path: str) -> Objection | None:
    """Is the lock file there? A link that leads nowhere is a lock as well: some programs make theirs so."""
    try:
        within(Token(PATIENCE), ("lock_file", path), lambda: os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return Objection("lock_file", f"whether {path} exists cannot be seen: {getattr(error, 'strerror', error)}")
    except Aborted:
        return Objection("lock_file", f"whether {path} exists cannot be seen: its file system does not answer")
    return Objection("lock_file", f"{path} exists")


def _disturbed(watch: Watch | None) -> Objection | None:
    found = watch.disturbance() if watch else ""
    return Objection("gpu_busy", found) if found else None


def _starved(result: Result, card: Gpu | None) -> Objection | None:
    """A worker that found too little memory beside what others hold says nothing about the card."""
    held = (card.memory_used or 0) if card else 0
    short = any(f.rule == WORKER_OUT_OF_MEMORY.name and "SIGKILL" not in f.detail for f in result.findings)
    if not short or held < HELD:
        return None
    return Objection("gpu_busy", f"others hold {held // MIB} MiB of the card's memory, and it needs some of that")


def _afterwards(watch: Watch | None) -> Objection | None:
    """Who cannot be told from our own worker while it lives is told from it when it is gone."""
    found = watch.busy_afterwards(AFTERWARDS) if watch and watch.weakness else ""
    return Objection("gpu_busy", f"the card {found} (gate=weak)") if found else None


def _put_off(check: Check, objection: Objection) -> Result:
    return _skipped(check, ("deferred", objection.reason), objection.detail)


def _skipped(check: Check, skip: tuple[str, str], detail: str) -> Result:
    return Result(check.name, check.probe.name, time.time(), 0.0, "skipped", skip=skip, detail=detail)
