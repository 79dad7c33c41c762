"""Which cards does NVML show us, what did they do in the last minute, and which of them are gone?"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from exporter.world.cards import Card, Processes
from exporter.world.nvml import ABSENT, CLOSED, Nvml, NvmlError, XidEvents
from exporter.world.pci import slot
from exporter.world.presence import Presence, disturbance
from exporter.world.samples import KEPT, Sample, idle, peaks
from exporter.world.xids import Tally
from probes.world.gpus import Gpu, Gpus, Idle


class Session:
    """Everything the GPU door's thread keeps. Only that thread may call `read`, `sample` and `end`.

    `period`, `reopen` and `watch` are seconds: between samples, between attempts to find a lost card again, and between
    two looks at who is on a card that is watched.
    """

    def __init__(
        self, library: ctypes.CDLL, processes: Processes, tally: Tally, period: float, reopen: float, watch: float
    ) -> None:
        self.nvml = Nvml(library)
        self._processes, self._tally = processes, tally
        self._period, self._reopen, self._watch = period, reopen, watch
        self._cards: tuple[Card, ...] = ()
        self._dead: tuple[Gpu, ...] = ()  # listed by NVML, but lost before we could ask their uuid
        self._events: XidEvents | None = None
        self._known: Mapping[str, Gpu] = {}  # the last reading of every card seen since start, by uuid
        self._samples: Mapping[str, tuple[Sample, ...]] = {}
        self._watched: frozenset[str] = frozenset()
        self._presence: Mapping[str, Presence] = {}
        self._opened = self._sampled = self._looked = float("-inf")

    def read(self) -> Gpus:
        """All cards, in full. A session that ended (the driver was reloaded) is opened again once, at once."""
        was_open = self.nvml.open
        try:
            return self._read()
        except NvmlError as error:
            self.end()
            word = error.word
        if was_open:
            try:
                return self._read()
            except NvmlError as error:
                self.end()
                word = error.word
        return Gpus(library=True, error=word)

    def until_sample(self) -> float | None:
        """Seconds until the next sample is due, None while there is nothing to sample."""
        if not self._cards:
            return None
        due = self._sampled + self._period
        return max(0.0, (min(due, self._looked + self._watch) if self._watched else due) - time.monotonic())

    def sample(self) -> None:
        """One sample of every card and the events so far, when it is time. What fails here, the next `read` tells."""
        now = time.monotonic()
        if self._watched and now >= self._looked + self._watch:
            self._looked = now
            self._look_who_is_there()
        if now < self._sampled + self._period:
            return
        self._sampled = now
        samples = dict(self._samples)
        for card in self._cards:
            try:
                samples[card.uuid] = (*samples.get(card.uuid, ())[1 - KEPT :], card.sample())
            except NvmlError:
                continue
        self._samples = samples
        for index, xid in self._events.take() if self._events else ():
            self._tally.add("nvml", slot(self._card(index).pci_bus_id), xid, time.time())

    def end(self) -> None:
        """Close the session; what was seen stays known."""
        self.nvml.stop()
        self._cards, self._dead, self._events = (), (), None

    def uuid(self, index: int | None) -> str:
        """The card's name for people and labels, "" when it is not known. Any thread may ask."""
        return next((card.uuid for card in self._cards if card.index == index), "")

    def idle(self, uuid: str, needed_bytes: int) -> Idle:
        """May a benchmark take that card? Any thread may ask."""
        card = self._known.get(uuid)
        if card is None or card.error:
            return Idle(False, reason=card.error if card else "no such card")
        if card.mig:
            return Idle(
                False, True, "it is divided by MIG: no slice is the card, and none tells whether it works", True
            )
        weak = card.processes is None or not self._processes.visible
        empty = not weak and not card.processes
        return idle(self._samples.get(uuid, ()), needed_bytes, self._period, time.monotonic(), weak, empty)

    def watch(self, uuids: Iterable[str]) -> None:
        """Look who is on these cards, and on no others, from now on. Any thread may ask."""
        self._watched = frozenset(uuids)
        self._presence = {}
        self._looked = float("-inf")

    def presence(self, uuid: str) -> Presence | None:
        """The newest look at a card that is watched; None before the first. Any thread may ask."""
        return self._presence.get(uuid)

    def disturbance(self, before: Presence, now: Presence) -> str:
        """Who disturbs a benchmark that began after `before`; "" when nobody does. Any thread may ask."""
        own = None if self._processes.visible else self._processes.own()
        return disturbance(before, now, self._processes.stranger, own)

    @property
    def pids_known(self) -> bool:
        """Do the pids that NVML tells mean anything here?"""
        return self._processes.visible

    def utilization(self, uuid: str, since: float) -> float | None:
        """How busy the newest sample after `since` (monotonic) found the card; None when there is none."""
        sample = next(iter(self._samples.get(uuid, ())[-1:]), None)
        return sample.utilization if sample and sample.at >= since else None

    def _look_who_is_there(self) -> None:
        seen = dict(self._presence)
        for card in self._cards:
            if card.uuid in self._watched:
                try:
                    seen[card.uuid] = card.presence()
                except NvmlError:  # the run itself meets it
                    continue
        self._presence = seen

    def _read(self) -> Gpus:
        if not self.nvml.open or (self._lost() and time.monotonic() >= self._opened + self._reopen):
            self._open()
        self.sample()
        readings = [self._with_peaks(card.read()) for card in self._cards]
        self._known = {**self._known, **{gpu.uuid: gpu for gpu in readings}}
        listed = {gpu.uuid for gpu in readings}
        # NVML lists a lost card without its uuid, or no more at all: it is one of those we knew.
        missing = [
            Gpu(gpu.index, gpu.uuid, gpu.name, gpu.pci_bus_id, error="gpu_is_lost")
            for gpu in self._known.values()
            if gpu.uuid not in listed
        ]
        gpus = sorted((*readings, *missing, *self._dead[len(missing) :]), key=lambda gpu: gpu.index)
        self._known = {**self._known, **{gpu.uuid: gpu for gpu in missing}}
        return Gpus(True, driver=self.nvml.driver(), cuda=self.nvml.cuda(), gpus=tuple(gpus))

    def _lost(self) -> bool:
        return bool(self._dead) or any(gpu.error for gpu in self._known.values())

    def _open(self) -> None:
        self.end()
        self.nvml.start()
        self._opened, cards, dead = time.monotonic(), [], []
        for index in range(int(self.nvml.ask("nvmlDeviceGetCount"))):
            try:
                cards.append(Card(self.nvml, index, self._processes))
            except NvmlError as error:
                if error.word in CLOSED:
                    raise
                if error.word not in ABSENT:  # no permission: a card that this container was not given
                    dead.append(Gpu(index, "", error=error.word))
        self._cards, self._dead = tuple(cards), tuple(dead)
        self._events = XidEvents(self.nvml, {card.index: card.handle for card in cards})

    def _with_peaks(self, gpu: Gpu) -> Gpu:
        now = Sample(
            time.monotonic(),
            utilization=gpu.utilization,
            memory_used=gpu.memory_used,
            temperature=gpu.temperature,
            power=gpu.power,
        )
        return gpu if gpu.error else replace(gpu, peaks=peaks((*self._samples.get(gpu.uuid, ()), now)))

    def _card(self, index: int) -> Card:
        return next(card for card in self._cards if card.index == index)
