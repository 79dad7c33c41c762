"""What did a card do in the last minute: its peaks, and was it idle?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probes.world.gpus import Idle

KEPT = 60  # samples; at one a second, the minute that DESIGN.md section 7 asks the idle gate to look back
BUSY = 0.05
# Seconds that the samples of a minute may come late, and that the newest may be old, on a machine with much to do.
LATE, OLD = 30.0, 5.0
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """What is cheap to ask every second. `at` is monotonic; the rest as in `Gpu`."""

    at: float
    utilization: float | None = None
    memory_used: int | None = None
    memory_free: int | None = None
    temperature: float | None = None
    power: float | None = None


def peaks(samples: Sequence[Sample]) -> Mapping[str, float]:
    """The highest of each reading; one that was never told is absent."""
    found: dict[str, float] = {}
    for name in ("utilization", "memory_used", "temperature", "power"):
        values = [value for sample in samples if (value := getattr(sample, name)) is not None]
        if values:
            found[name] = max(values)
    return found


def idle(samples: Sequence[Sample], needed_bytes: int, period: float, now: float, weak: bool, empty: bool) -> Idle:
    """Has the card been idle for the whole time that is kept, and has it room? What is unknown is never idle.

    `empty`: certainly nobody has the card open, so nobody works on it, whether or not it tells how busy it is.
    """

    def no(reason: str, never: bool = False) -> Idle:
        return Idle(False, weak, reason, never)

    if len(samples) < KEPT or now - samples[0].at > KEPT * period + LATE or now - samples[-1].at > OLD:
        return no(f"it has not been watched for {KEPT * period:.0f} s yet")
    known = [sample.utilization for sample in samples if sample.utilization is not None]
    if len(known) < len(samples) and not empty:
        return no("it does not tell its utilisation", never=not known)
    if known and max(known) >= BUSY:
        return no(f"it was {max(known):.0%} busy within the last {KEPT * period:.0f} s")
    free = samples[-1].memory_free
    if free is None:
        return no("it does not tell its free memory", never=all(sample.memory_free is None for sample in samples))
    if free < needed_bytes:
        return no(f"{free // MIB} MiB are free, {needed_bytes // MIB} MiB are needed")
    return Idle(True, weak)
