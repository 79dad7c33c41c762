"""Which benchmarks suit this machine, on which card, and how often, so that nobody misses the time they take?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporter.config.entries import Probes
from exporter.config.gate import Gate
from exporter.machine.survey import Survey
from probes.api import Json
from probes.params import parse_duration

ANYWHERE = ("matmul", "memory_copy")  # a host without a card gets its processor measured by these
OF_A_CARD = (
    "host_copy",
    "attention",
    "convolution",
    "corruption",
    "llm_decode",
    "diffusion_step",
    "optimisations",
    "training_step",
    "max_batch",
    "sustained",
)
# What the recommended ways to save VRAM shall save together, as docs/optimisations.md says it.
TARGETS: Mapping[str, Json] = {
    "optimisations": [{"metric": "vram_reduction_ratio", "labels": {"optimisation": "recommended"}, "at_least": 0.8}]
}
HOUR = 3600.0
# Of the budget: the rest is for what somebody adds, for second tries, and for a disk that takes its time to find torch.
SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Wanted:
    """A check to be. `cards`: the indices of those that it holds while it runs."""

    probe: str
    cards: tuple[int, ...] = ()
    path: str = ""

    def entry(self, interpreter: str, every: str) -> dict[str, Json]:
        """As a config's `checks` have it."""
        entry: dict[str, Json] = {"probe": self.probe}
        params: dict[str, Json] = {"path": self.path} if self.path else {}
        if any(self.cards[:1]):  # the first card needs no name
            entry["name"] = f"{self.probe}:gpu{self.cards[0]}"
            params["gpu"] = str(self.cards[0])
        if self.cards[1:] not in ((), (1,)):
            params["peer"] = str(self.cards[1])
        if every:
            entry["every"] = every
        if self.probe != "disk_io":  # which needs no torch
            entry["interpreter"] = interpreter
        if params:
            entry["params"] = params
        return {**entry, "targets": TARGETS[self.probe]} if self.probe in TARGETS else entry


def suite(found: Survey, interpreter: str, probes: Probes) -> Iterator[dict[str, Json]]:
    """The benchmarks among a config's `checks`; a second card has its own, called `matmul:gpu1`.

    Where they would hold a card for longer than its budget, by the probes' own estimates, all that hold one run less often.
    """
    wanted = [one for one in _wanted(found) if found.torch or one.probe == "disk_io"]
    factor = max((share / SHARE / Gate().device_budget for share in held(wanted, probes).values()), default=0.0)
    for one in wanted:
        hours = math.ceil(parse_duration(probes[one.probe].every) * factor / HOUR)
        yield one.entry(interpreter, f"{hours}h" if factor > 1 and one.cards else "")


def held(wanted: Sequence[Wanted], probes: Probes) -> dict[int, float]:
    """The share of the time for which these hold each card."""
    shares: defaultdict[int, float] = defaultdict(float)
    for one in wanted:
        for card in one.cards:
            shares[card] += probes[one.probe].needs.seconds / parse_duration(probes[one.probe].every)
    return shares


def _wanted(found: Survey) -> Iterator[Wanted]:
    if found.models:
        yield Wanted("disk_io", path=found.models)
    for card in range(max(1, found.cards)):
        holds = (card,) if found.gpu else ()
        yield from (Wanted(probe, holds) for probe in ANYWHERE)
        yield from (Wanted(probe, holds) for probe in OF_A_CARD if found.gpu)
        if found.gpu and found.models and not card:  # the way from that disk is the same for all
            yield Wanted("model_load", holds, found.models)
    for first in range(0, found.cards if found.cards > 1 else 0, 2):  # each card once; an odd one with the first
        yield Wanted("peer_copy", (first, (first + 1) % found.cards))
