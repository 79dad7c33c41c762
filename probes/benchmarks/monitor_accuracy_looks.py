"""What did each look at the machine see of a load that comes and goes?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from probes.world.gpus import Gpu
from probes.world.host import Host

# Steal is time that the hypervisor gave to others: none of our processes had it.
UNUSED = ("idle", "iowait", "steal")


@dataclass(frozen=True, slots=True)
class Look:
    """The machine at one moment. Even phases are rests, odd ones loads; `spent`: CPU seconds of the worker until `at`."""

    phase: int
    at: float
    spent: float
    host: Host
    card: Gpu | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a load added to the rests around it; and by how much two rests, or two loads, usually differ: medians."""

    added: float
    noise: float


Pair = tuple[Look, Look]


def free(host: Host) -> int:
    """Bytes that a program may still take, also in a container with a limit."""
    limits = host.limits
    if limits is None or limits.memory is None or limits.memory_used is None:
        return host.memory_available
    return max(0, min(host.memory_available, limits.memory - limits.memory_used))


def paired(looks: Sequence[Look], phases: int) -> list[Pair | None]:
    """The first and the last look of each phase; None where one of them came too late."""
    of_phase = [[look for look in looks if look.phase == phase] for phase in range(phases)]
    return [(pair[0], pair[1]) if len(pair) == 2 else None for pair in of_phase]


def burned(pairs: Sequence[Pair | None]) -> float | None:
    """The cores that the worker kept busy, by its own count."""
    loads = [pair for pair in pairs[1::2] if pair]
    time = sum(last.at - first.at for first, last in loads)
    return sum(last.spent - first.spent for first, last in loads) / time if time > 0 else None


def seen(pairs: Sequence[Pair | None], read: Callable[[Look, Look], float | None]) -> Seen | None:
    """What `read` says of the phases. None when no load had two rests that were looked at in time."""
    values = [read(*pair) if pair else None for pair in pairs]
    triples = zip(values[::2], values[1::2], values[2::2], strict=False)  # a rest, a load, the next rest
    rounds = [(a, b, c) for a, b, c in triples if a is not None and b is not None and c is not None]
    if not rounds:
        return None
    loads = [load - (before + after) / 2 for before, load, after in rounds]
    added = statistics.median(loads)
    rests = [abs(after - before) for before, _, after in rounds]
    return Seen(added, max(statistics.median(rests), statistics.median(abs(load - added) for load in loads)))


def memory(first: Look, last: Look) -> float | None:
    """Bytes in use, the mean of two looks."""
    return statistics.mean(look.host.memory_total - look.host.memory_available for look in (first, last))


def cpu(first: Look, last: Look) -> float | None:
    """Cores in use between two looks, as the check `host` reckons them."""
    before, after = first.host.cpu_seconds, last.host.cpu_seconds
    total = sum(after.values()) - sum(before.values())
    unused = sum(after.get(mode, 0.0) - before.get(mode, 0.0) for mode in UNUSED)
    return first.host.cpus * (total - unused) / total if total > 0 else None


def vram(first: Look, last: Look) -> float | None:
    """Bytes in use on the card, the mean of two looks."""
    used = [look.card.memory_used for look in (first, last) if look.card and look.card.memory_used is not None]
    return statistics.mean(used) if len(used) == 2 else None


def process_vram(first: Look, last: Look) -> float | None:
    """Bytes that the driver books under processes of ours; None where it tells none, or their pids are not ours."""
    told = [
        {p.pid: p.memory for p in look.card.processes or () if p.ours and p.memory is not None}
        for look in (first, last)
        if look.card
    ]
    return statistics.mean(sum(of.values()) for of in told) if len(told) == 2 and all(told) else None


READERS: Mapping[str, Callable[[Look, Look], float | None]] = {
    "memory": memory,
    "cpu": cpu,
    "vram": vram,
    "process_vram": process_vram,
}
