"""What was the card doing while the worker ran? The cause of a slow result, recorded with the result."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence

from exporter.units import human
from exporter.world.energy import Meter
from probes.api import MIB, Energy, Json
from probes.world.gpus import Gpu, Gpus

EVERY = 1.0  # seconds between two looks
SHOWN = {  # what people are told of each curve, in which unit: the scale makes it
    "utilization": (100.0, "%"),
    "SM clock": (1e-6, "MHz"),
    "memory clock": (1e-6, "MHz"),
    "power": (1.0, "W"),
    "temperature": (1.0, "C"),
}


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
        self._looks = 0  # of these only numbers are kept: a training of eight hours is looked at 28,800 times
        self._curves: dict[str, array[float]] = {}
        self._reasons: set[str] = set()
        self._link: tuple[int, int] | None = None
        self._next = 0.0
        self._before = self._look()

    def sample(self) -> None:
        """Look again when it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            gpu = self._look()
            if gpu is not None:
                self._note(gpu)

    def _note(self, gpu: Gpu) -> None:
        self._looks += 1
        own = {p.pid: p.memory or 0 for p in gpu.processes or () if p.ours}
        told = {
            "SM clock": gpu.clocks.get("sm"),
            "memory clock": gpu.clocks.get("memory"),
            "power": gpu.power,
            "temperature": gpu.temperature,
            "utilization": gpu.utilization,
            "used": gpu.memory_used,
            "own": sum(own.values()) or None,
        }
        for name, value in told.items():
            if value is not None:
                self._curves.setdefault(name, array("d")).append(value)
        self._reasons |= {name for name, active in (gpu.throttle or {}).items() if active and name != "gpu_idle"}
        if gpu.pcie_generation and gpu.pcie_width:  # an idle card lowers its link, so the best under load counts
            self._link = max(self._link or (0, 0), (gpu.pcie_generation, gpu.pcie_width))

    def conditions(self) -> dict[str, Json]:
        """What may explain a shift from one run to the next."""
        if self._before is None:
            return {}
        found: dict[str, Json] = {"driver": self._driver}
        if self._before.power_limit is not None:
            found["power_limit"] = f"{self._before.power_limit:g} W"
        if self._link:
            found["pcie_link"] = "gen {} x{}".format(*self._link)
        return found

    def numbers(self) -> dict[str, Json]:
        """What the card did, as numbers, from one sample a second. `vram_of`: whose peak that is, the run's own processes'
        or, where the driver does not tell theirs, the growth of the whole card's use."""
        if self._before is None:
            return {}
        told: dict[str, Json] = {}
        curves = self._curves
        if "own" in curves:
            told |= {"vram": int(max(curves["own"])), "vram_of": "its processes"}
        elif "used" in curves and self._before.memory_used is not None:
            told |= {
                "vram": max(0, int(max(curves["used"])) - self._before.memory_used),
                "vram_of": "the card's growth",
            }
        return told | {
            name: sum(curves[name]) / len(curves[name]) for name in ("utilization", "power") if name in curves
        }

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
        parts = [f"{self._looks} samples (least/mean/P95/most)"]
        told_of = [(name, self._curves[name], *shown) for name, shown in SHOWN.items() if name in self._curves]
        parts += [f"{name} {spread(values, scale)} {unit}" for name, values, scale, unit in told_of]
        parts.append(f"throttled by {', '.join(sorted(self._reasons)) or 'nothing'}")
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


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Least, mean, 95th percentile (the nearest rank) and most, as `300/412/447/448`."""
    known = sorted(values)
    middle, rank = sum(known) / len(known), -(-95 * len(known) // 100)
    return "/".join(f"{value * scale:.0f}" for value in (known[0], middle, known[rank - 1], known[-1]))
