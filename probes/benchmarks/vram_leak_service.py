"""What does one service hold of a card's memory?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from probes.api import Blind, Energy, World
from probes.world.gpus import GpuProcess


@dataclass
class Service:
    """The processes of one service on one card, and the most they held at any look."""

    world: World
    uuid: str
    pattern: str
    peak: int | None = None
    others: set[str] = field(default_factory=set)
    used: list[Energy] = field(default_factory=list)  # by each piece of work

    def held(self) -> int:
        """Bytes now. Blind where the driver or the kernel do not tell whose they are."""
        card = next((gpu for gpu in self.world.gpus().gpus if gpu.uuid == self.uuid), None)
        if card is None or card.error or card.processes is None:
            why = f": {card.error}" if card and card.error else "; under WSL it never does"
            raise Blind("no_source", f"the driver lists no processes of card {self.uuid}{why}")
        mine = [process for process in card.processes if self._is_meant(process)]
        if any(process.memory is None for process in mine):
            raise Blind("no_source", "the driver does not tell how much memory each process holds")
        by_pid = {process.pid: process.memory or 0 for process in mine}  # one that also draws is listed twice
        if by_pid:
            self.peak = max(self.peak or 0, sum(by_pid.values()))
        return sum(by_pid.values())

    def _is_meant(self, process: GpuProcess) -> bool:
        line = process.name  # "": hidden from us, of another pid namespace, or dead and still listed
        if line:  # else its number may be somebody else's here
            line = (self.world.read_text(f"/proc/{process.pid}/cmdline") or line).replace("\0", " ")
        meant = bool(line) and not process.ours and re.search(self.pattern, line) is not None
        if not meant:
            self.others.add(process.name)
        return meant

    def energy(self, index: int) -> Iterator[Energy]:
        """What the card used for all of it, where it tells."""
        if self.used:
            yield Energy(index, self.uuid, sum(piece.joules for piece in self.used))

    def unseen(self) -> Blind:
        """Why it was not on the card at any look."""
        if "" in self.others:
            hint = "in a container give it `pid: host`; under hidepid= the exporter must be root"
            return Blind("permission", f"which programs are on the card cannot be seen: {hint}")
        there = ", ".join(sorted(self.others)) or "none that the driver lists; a container is shown none"
        return Blind("no_source", f"no process on the card matches {self.pattern!r}; there are: {there}")
