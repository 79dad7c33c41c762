"""How many bytes a second go over the bus between the host's memory and the card, and what does its link carry?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from probes.api import (
    BenchmarkParams,
    Bytes,
    Conditions,
    Fact,
    Measurement,
    Metric,
    Needs,
    Probe,
    Progress,
    Rule,
    World,
    benchmark,
    card_of,
    recorded,
)
from probes.world.gpus import Gpu

# Bytes a second that one lane carries each way, by PCIe generation: transfers a second, less the line code.
# https://en.wikipedia.org/wiki/PCI_Express#Comparison_table
LANE = {1: 250e6, 2: 500e6, 3: 984.6e6, 4: 1969.2e6, 5: 3938.5e6, 6: 7562.5e6}


class HostCopyParams(BenchmarkParams):
    size: Bytes = Field(
        0, description="Bytes copied at a time; 0 for the size of the card's class (1GiB, small ones 256MiB)."
    )
    expected_lanes: int = Field(
        0, ge=0, le=32, description="PCIe lanes that the card's slot really has; 0 for what card and driver say."
    )


COPY = Metric(
    "bytes_per_second",
    "Bytes a second over the bus between pinned host memory and the card, one way at a time: the median of many.",
    ("direction", "device"),
    better="higher",
)
LINK = Metric(
    "link_bytes_per_second",
    "What the PCIe link carries each way by its generation and lanes, read from the driver while copying.",
    better="higher",
)
SHARE = Metric(
    "link_ratio", "Share of what the PCIe link carries that the copy reached.", ("direction",), better="higher"
)
NARROW = Rule(
    "host-copy-link-narrow",
    "warning",
    "While copying, the card's PCIe link stayed below what card and slot are capable of.",
    "1. `nvidia-smi -q -d PCIE` under load, or `sudo lspci -vv | grep -E 'VGA|3D|LnkCap|LnkSta'`, shows both.\n"
    "2. Seat the card again, without a riser, in the slot nearest the CPU; an M.2 disk may have taken its lanes.\n"
    "3. In the BIOS, set the slot's link speed to Auto or its highest generation.\n"
    "4. If the slot has no more lanes, say so: `expected_lanes: 8` in the check's params.",
)


def run(params: HostCopyParams, world: World) -> Iterator[Fact]:
    copies: list[Measurement] = []
    best: Gpu | None = None
    for fact in benchmark("host_copy", params, world, (COPY,), card_only=True):
        yield fact
        if isinstance(fact, Measurement):
            copies.append(fact)
        elif isinstance(fact, Progress) and fact.done < fact.total:
            best = max(filter(None, (best, _linked(params, world))), key=_carries, default=None)
    if best is not None:
        yield LINK(_carries(best))
        for copy in copies:
            yield SHARE(copy.value / _carries(best), direction=dict(copy.labels)["direction"])
        yield from _narrow(best, params.expected_lanes)
        yield from _slot(best, params.expected_lanes)


def _linked(params: HostCopyParams, world: World) -> Gpu | None:
    """The card with its link as it is now; None where the driver does not tell, or on the CPU."""
    uuid = card_of(world, params.device, params.gpu)
    return next((gpu for gpu in world.gpus().gpus if gpu.uuid == uuid and _carries(gpu)), None)


def _carries(gpu: Gpu) -> float:
    return LANE.get(gpu.pcie_generation or 0, 0.0) * (gpu.pcie_width or 0)


def _narrow(gpu: Gpu, lanes: int) -> Iterator[Fact]:
    generation, width = gpu.pcie_generation_max or 0, lanes or gpu.pcie_width_max or 0
    if (gpu.pcie_generation or 0) < generation or (gpu.pcie_width or 0) < width:
        now = f"PCIe {gpu.pcie_generation}.0 x{gpu.pcie_width}"
        yield NARROW(f"{now} while copying, {generation}.0 x{width} would be possible", subject=gpu.uuid)


def _slot(gpu: Gpu, lanes: int) -> Iterator[Fact]:
    """What the slot gives that nobody can change: an older board's generation; lanes only where the params say so."""
    if gpu.pcie_generation_max:
        yield Conditions({"pcie_slot": f"gen {gpu.pcie_generation_max}" + (f" x{lanes}" if lanes else "")})


PROBE = Probe(
    "host_copy",
    HostCopyParams,
    run,
    metrics=(COPY, LINK, SHARE),
    rules=(NARROW,),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
