"""Is the driver there, new enough, and does it show every card of the machine?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest

from pydantic import Field

from probes.api import (
    GIB,
    Blind,
    Bytes,
    Fact,
    Finding,
    Measurement,
    Metric,
    NotApplicable,
    Params,
    Probe,
    World,
    recorded,
)
from probes.environment import gpu_driver_rules as rules
from probes.world.gpus import Gpus, PciGpu

VERSION = r"^(\d{1,6}(\.\d{1,6}){0,3})?$"


class GpuDriverParams(Params):
    minimum_driver: str = Field("", pattern=VERSION, description="Oldest driver that will do, like 550.54; empty: any.")
    minimum_cuda: str = Field("", pattern=VERSION, description="Oldest CUDA the driver must support; empty: any.")
    cuda: str = Field("", pattern=VERSION, description="The CUDA the driver must support, like 12 or 12.8; empty: any.")
    expected_cards: int | None = Field(
        None, ge=0, description="How many NVIDIA cards there must be; unset: all that are on the PCI bus."
    )
    minimum_memory: Bytes = Field(0, description="Memory that every card must have.")


VERSIONS = Metric("versions_info", "The driver, and the newest CUDA it supports.", ("driver", "cuda"), "info")
CARDS = Metric("cards", "Cards that NVML shows, and that are on the PCI bus.", ("source", "vendor"))
EXPECTED = Metric("expected_cards", "NVIDIA cards there must be.")


def run(params: GpuDriverParams, world: World) -> Iterator[Fact]:
    gpus = world.gpus()
    working = sum(not gpu.error for gpu in gpus.gpus)
    if not (gpus.gpus or gpus.nvidia or _broken(gpus) or params.expected_cards):
        yield from _without_nvidia(gpus)
        return
    yield from _counts(gpus, working)
    if params.expected_cards is not None:
        yield EXPECTED(params.expected_cards)
        if working < params.expected_cards:
            yield rules.MISSING(f"cards the driver shows: {working}, expected: {params.expected_cards}")
    if gpus.error == "lib_rm_version_mismatch":
        yield rules.MISMATCH("the kernel module and the library are of different versions")
    elif params.expected_cards is None or working < params.expected_cards:
        yield from _unseen(gpus, world)
    if gpus.gpus:
        yield VERSIONS(1, driver=gpus.driver, cuda=gpus.cuda)
        yield from _versions(gpus, params)
        yield from _small(gpus, params.minimum_memory)


def _broken(gpus: Gpus) -> bool:
    return gpus.library and gpus.error not in ("", "driver_not_loaded")


def _without_nvidia(gpus: Gpus) -> Iterator[Fact]:
    others = [card for card in gpus.pci if card.vendor in ("amd", "intel", "apple")]
    if not others and not gpus.bus:
        raise Blind("platform", "NVML shows no card, and nobody may look at the PCI bus here")
    if not others:
        raise NotApplicable("no_gpu")
    yield from _counts(gpus, 0)
    for card in others:
        yield rules.UNSUPPORTED(f"{card.vendor} {card.name}", subject=card.address or card.vendor)


def _counts(gpus: Gpus, working: int) -> Iterator[Measurement]:
    yield CARDS(working, source="nvml", vendor="nvidia")
    for vendor, count in sorted(Counter(card.vendor for card in gpus.pci).items()):
        yield CARDS(count, source="pci", vendor=vendor)


def _unseen(gpus: Gpus, world: World) -> Iterator[Finding]:
    """Cards on the bus that NVML does not show, and whose fault that is."""
    unseen = _not_shown(gpus)
    if unseen and world.host().container:
        for card in unseen:
            yield rules.NOT_PASSED_IN(f"{card.name} is on the PCI bus, out of our reach", subject=card.address)
    elif _broken(gpus) or (unseen and (gpus.error or not gpus.library)):
        library = f"NVML says {gpus.error}" if gpus.library else "there is no libnvidia-ml"
        holders = (f"{card.address} is held by {card.driver or 'no driver'}" for card in unseen)
        yield rules.NO_DRIVER("; ".join((library, *holders)))
    else:
        for card in unseen:
            yield rules.MISSING(f"{card.name} is on the PCI bus, and NVML does not show it", subject=card.address)


def _not_shown(gpus: Gpus) -> tuple[PciGpu, ...]:
    shown = {gpu.pci_bus_id for gpu in gpus.gpus}
    if "" in shown:  # a card that does not tell where it is could be any of them
        return gpus.nvidia[len(gpus.gpus) :]
    return tuple(card for card in gpus.nvidia if card.address not in shown)


def _versions(gpus: Gpus, params: GpuDriverParams) -> Iterator[Finding]:
    asked = (("driver", gpus.driver, params.minimum_driver), ("CUDA", gpus.cuda, params.minimum_cuda))
    old = [f"{what} {have or 'unknown'}, not {want}" for what, have, want in asked if not _at_least(have, want)]
    if old:
        yield rules.DRIVER_OLD("; ".join(old))
    wanted = _numbers(params.cuda)
    if wanted and _numbers(gpus.cuda)[: len(wanted)] != wanted:
        yield rules.CUDA_OTHER(f"CUDA {gpus.cuda or 'unknown'}, {params.cuda} is wanted")


def _small(gpus: Gpus, minimum: int) -> Iterator[Finding]:
    for gpu in gpus.gpus:
        if not gpu.error and minimum and (gpu.memory_total or 0) < minimum:
            has = "unknown" if gpu.memory_total is None else f"{gpu.memory_total / GIB:.1f} GiB"
            yield rules.SMALL(f"card {gpu.index}: {has}, {minimum / GIB:.1f} GiB are wanted", subject=gpu.uuid)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, () of junk."""
    match = re.match(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}(?![0-9])", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _at_least(have: str, want: str) -> bool:
    if not _numbers(have):
        return not want
    pairs = tuple(zip_longest(_numbers(have), _numbers(want), fillvalue=0))
    return tuple(a for a, _ in pairs) >= tuple(b for _, b in pairs)


PROBE = Probe(
    "gpu_driver",
    GpuDriverParams,
    run,
    metrics=(VERSIONS, CARDS, EXPECTED),
    rules=rules.RULES,
    every="5m",
    timeout="10s",
    examples=recorded(__file__),
)
