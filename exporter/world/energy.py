"""How many joules did a card use between the first look at it and the last?"""

from __future__ import annotations

from probes.world.gpus import Gpu


class Meter:
    """One card: by its own counter where that grows throughout, else by its power over time (trapezoids between looks).

    A counter that goes back began anew with the driver; one that stands still is none.
    """

    def __init__(self) -> None:
        self.looks = 0
        self._counter: float | None = None  # at the look before, joules
        self._counted, self._whole = 0.0, True
        self._power: tuple[float, float] | None = None  # when it was told last, and how many watts
        self._sum = 0.0

    def add(self, at: float, gpu: Gpu) -> None:
        """One more look, at this moment (monotonic seconds)."""
        if self.looks:
            grown = None if gpu.energy is None or self._counter is None else gpu.energy - self._counter
            self._whole = self._whole and grown is not None and grown >= 0
            self._counted += grown or 0.0
        self._counter = gpu.energy
        if gpu.power is not None:
            if self._power is not None:
                before, watts = self._power
                self._sum += (at - before) * (watts + gpu.power) / 2
            self._power = (at, gpu.power)
        self.looks += 1

    def told(self) -> tuple[float, str] | None:
        """The joules, and what says so; None for a card that tells neither energy nor power."""
        if self._whole and self._counted > 0:
            return self._counted, "by the card's own counter"
        if self._sum > 0:
            return self._sum, f"by its power at {self.looks} looks"
        return None
