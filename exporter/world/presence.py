"""Who is on a card while a benchmark of ours is, and does anybody disturb it?

A resident (a process that was there before) may stay as long as it does nothing. Where pids mean nothing to us, because
the container has a pid namespace of its own, residents are still known by number; a newcomer is only told from our own
worker by how many there are. A newcomer that merely draws (a window, a browser) is judged by what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from exporter.world.samples import BUSY
from probes.world.gpus import GpuProcess

MIB = 1024 * 1024
SHOWN = 8  # residents in a text
# What clients of MPS do, ours among them, the card books under its server (the kernel keeps 15 characters of a name).
SHARED = "nvidia-cuda-mps"


@dataclass(frozen=True, slots=True)
class Presence:
    """One look. `processes` is None where they cannot be listed; `work`, the share of the card by pid, where it is not told."""

    at: float  # monotonic
    processes: tuple[GpuProcess, ...] | None
    work: Mapping[int, float] | None = field(default_factory=dict)

    @property
    def residents(self) -> tuple[GpuProcess, ...]:
        """Those that are not ours, each once."""
        return tuple({p.pid: p for p in self.processes or () if not p.ours}.values())


def disturbance(before: Presence, now: Presence, stranger: Callable[[int], bool], own: int | None) -> str:
    """Who disturbs, in words; "" when nobody does.

    `stranger` tells whether a pid lives and is not of our own tree; a card lists the dead for a moment. `own`: None where
    it can tell that; elsewhere how many processes our own tree has: more newcomers than these cannot all be ours.
    """
    known = {p.pid: p for p in before.residents}
    new = [p for p in now.residents if p.pid not in known and p.kind == "compute"]
    if own is None:
        new = [p for p in new if stranger(p.pid)]
    if len(new) > (own or 0):
        return f"a new process: {told(new)}"
    shared = {p.pid for p in (*before.residents, *now.residents) if p.name.startswith(SHARED)}
    others = {
        pid: share
        for pid, share in (now.work or {}).items()
        if pid not in shared and (pid in known if own is not None else stranger(pid))
    }
    if sum(others.values()) < BUSY:
        return ""
    busiest = max(others, key=lambda pid: others[pid])
    who = next((p for p in now.residents if p.pid == busiest), GpuProcess(busiest, "graphics"))
    return f"{told([who])} works: others use {sum(others.values()):.0%} of the card"


def told(processes: Iterable[GpuProcess]) -> str:
    """Processes for people: `python (pid 7, 1024 MiB), Xorg (pid 9, graphics)`."""
    words = [_told(process) for process in processes]
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if words[SHOWN:] else "")


def _told(process: GpuProcess) -> str:
    memory = f", {process.memory // MIB} MiB" if process.memory else ""
    return (
        f"{process.name or 'unknown'} (pid {process.pid}{', graphics' if process.kind == 'graphics' else ''}{memory})"
    )
