"""What was the card doing while the worker ran? The cause of a slow result, recorded with the result."""

from __future__ import annotations

import time
from collections.abc import Callable

from exporter.units import human
from exporter.world.energy import Meter
from probes.api import MIB, Energy, Json
from probes.world.gpus import Gpu, Gpus

EVERY = 1.0  # seconds between two looks


class Load:
    """A run's cards, looked at before, during and after it. Without a card or an NVML door there is nothing to tell.

    uuid: of the card, or of several, with commas; energy is told of each, the rest of the first.
    """

    def __init__(self, gpus: Callable[[], Gpus] | None, uuid: str) -> None:
        self._gpus = gpus if uuid else None
        self._uuids = uuid.split(",")
        self._meters: dict[str, Meter] = {}
        self._indices: dict[str, int] = {}
        self._metering = True
        self._driver = ""
        self._seen: list[Gpu] = []
        self._next = 0.0
        self._before = self._look()

    def sample(self) -> None:
        """Look again when it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            gpu = self._look()
            if gpu is not None:
                self._seen.append(gpu)

    def conditions(self) -> dict[str, Json]:
        """What may explain a shift from one run to the next."""
        if self._before is None:
            return {}
        found: dict[str, Json] = {"driver": self._driver}
        if self._before.power_limit is not None:
            found["power_limit"] = f"{self._before.power_limit:g} W"
        links = [(g.pcie_generation, g.pcie_width) for g in self._seen if g.pcie_generation and g.pcie_width]
        if links:  # an idle card lowers its link, so only the best seen under load counts
            found["pcie_link"] = "gen {} x{}".format(*max(links))
        return found

    def numbers(self) -> dict[str, Json]:
        """What the card did, as numbers, from one sample a second. `vram_of`: whose peak that is, the run's own processes'
        or, where the driver does not tell theirs, the growth of the whole card's use."""
        if self._before is None:
            return {}
        told: dict[str, Json] = {}
        own = [sum({p.pid: p.memory or 0 for p in g.processes or () if p.ours}.values()) for g in self._seen]
        used = [g.memory_used for g in self._seen if g.memory_used is not None]
        if any(own):
            told |= {"vram": max(own), "vram_of": "its processes"}
        elif used and self._before.memory_used is not None:
            told |= {"vram": max(0, max(used) - self._before.memory_used), "vram_of": "the card's growth"}
        busy = [g.utilization for g in self._seen if g.utilization is not None]
        powers = [g.power for g in self._seen if g.power is not None]
        told |= {name: sum(of) / len(of) for name, of in (("utilization", busy), ("power", powers)) if of}
        return told

    def energy(self) -> list[Energy]:
        """What each card used from the first look to the newest."""
        return [used for used, _ in self._metered()]

    def leave(self) -> None:
        """The run does not use its cards after all: whatever they use is not the run's."""
        self._meters.clear()
        self._metering = False

    def _metered(self) -> list[tuple[Energy, str]]:
        told = [(uuid, meter.told()) for uuid, meter in self._meters.items()]
        return [(Energy(self._indices[uuid], uuid, found[0]), found[1]) for uuid, found in told if found]

    def evidence(self) -> dict[str, Json]:
        """What the card did, for people. Called when the worker is gone: whose VRAM is not back by now leaks."""
        after = self._look()
        if self._before is None or after is None:
            return {}
        clocks = [g.clocks["sm"] for g in self._seen if "sm" in g.clocks]
        powers = [g.power for g in self._seen if g.power is not None]
        degrees = [g.temperature for g in self._seen if g.temperature is not None]
        reasons = {name for g in self._seen for name, active in (g.throttle or {}).items() if active} - {"gpu_idle"}
        parts = [f"{len(self._seen)} samples"]
        if clocks:
            parts.append(f"SM clock {min(clocks) / 1e6:.0f} to {max(clocks) / 1e6:.0f} MHz")
        if powers:
            import statistics  # it brings much along, and most exporters run no worker

            parts.append(f"median {statistics.median(powers):.0f} W, at most {max(powers):.0f} W")
        if degrees:
            parts.append(f"at most {max(degrees):.0f} C")
        parts.append(f"throttled by {', '.join(sorted(reasons)) or 'nothing'}")
        if self._before.memory_used is not None and after.memory_used is not None:
            before, left = (used / MIB for used in (self._before.memory_used, after.memory_used))
            parts.append(f"VRAM in use {before:.0f} MiB before, {left:.0f} MiB after")
        told: dict[str, Json] = {"card under load": ", ".join(parts)}
        energy = [f"{human('joules', used.joules)} of card {used.gpu} {how}" for used, how in self._metered()]
        return {**told, "energy": ", ".join(energy)} if energy else told

    def _look(self) -> Gpu | None:
        if self._gpus is None:
            return None
        seen = self._gpus()
        self._driver = seen.driver
        known = {g.uuid: g for g in seen.gpus if g.uuid in self._uuids and not g.error}
        for uuid, card in known.items():
            self._indices[uuid] = card.index
            if self._metering:
                self._meters.setdefault(uuid, Meter()).add(time.monotonic(), card)
        return known.get(self._uuids[0])
