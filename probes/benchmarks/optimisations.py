"""How much VRAM do the usual optimisations save on this card, what do they cost in time, and does it need them?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import Field

from probes.api import (
    GIB,
    BenchmarkParams,
    Bytes,
    Conditions,
    Evidence,
    Fact,
    Finding,
    Json,
    Measurement,
    Metric,
    Needs,
    NotApplicable,
    Probe,
    World,
    benchmark,
    card_of,
    recorded,
)
from probes.benchmarks.optimisations_rules import ADVICE, NO_ROOM

WORTH = 0.1  # of the unoptimised run: less is not worth a word


class OptimisationsParams(BenchmarkParams):
    enough: Bytes = Field(
        12 * 10**9,
        description="VRAM is short when less than this is free: then what saves some is recommended. The default is what "
        "making a video with a small model takes.",
    )
    pixels: int = Field(
        0,
        ge=0,
        le=2048,
        multiple_of=64,
        description="Side of the pictures; 0 for what suits the card's class: 640, below 7 GiB 512, on the CPU 192.",
    )
    memory: Bytes = Field(
        0, description="VRAM that a run may take, as if the card had no more; 0 for all that is free."
    )


SAVED = Metric(
    "vram_reduction_ratio",
    "Share of the peak memory that the optimisation saves of the unoptimised run: fp32, all weights on the card, nothing "
    "sliced or tiled, two pictures at once. `recommended`: half precision, attention slicing, VAE tiling and slicing, CPU "
    "offload, all of them.",
    ("optimisation", "device"),
    better="higher",
)
TIME = Metric(
    "time_ratio",
    "Time with the optimisation as a part of that of the unoptimised run; 1.5 takes half as long again.",
    ("optimisation", "device"),
    better="lower",
)
PEAK = Metric(
    "peak_memory_bytes",
    "Most memory that tensors took on the device; `none` is the unoptimised run of that part.",
    ("part", "optimisation", "device"),
)
SECONDS = Metric(
    "run_seconds",
    "Time of one run of that part, random weights: the median of many; `none` is unoptimised.",
    ("part", "optimisation", "device"),
)
METRICS = (SAVED, TIME, PEAK, SECONDS)


@dataclass
class Seen:
    """What the worker told: the numbers, what did not fit, and the VRAM that there is for it."""

    saved: dict[str, float] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    held: dict[tuple[str, str], float] = field(default_factory=dict)  # by part and optimisation
    lacking: list[tuple[str, str]] = field(default_factory=list)
    free: float = math.inf

    def told(self, data: Mapping[str, Json]) -> Iterator[Fact]:
        if "lacks" in data:
            self.lacking.append((str(data["part"]), str(data["lacks"])))
            return
        if data["free_bytes"] is not None:
            self.free = min(self.free, float(str(data["free_bytes"])))
        yield Conditions({"unoptimised": f"fp32, {data['pictures']} pictures of {data['pixels']} pixels each way"})

    def take(self, fact: Measurement) -> None:
        labels = dict(fact.labels)
        if fact.metric == PEAK.name:
            self.held[labels["part"], labels["optimisation"]] = fact.value
        elif fact.metric in (SAVED.name, TIME.name):
            (self.saved if fact.metric == SAVED.name else self.took)[labels["optimisation"]] = fact.value

    @property
    def room(self) -> str:
        return f"{self.free / GIB:.1f} GiB are free" if math.isfinite(self.free) else "what is free is not known"

    def advice(self, subject: str) -> Iterator[Finding]:
        """What is worth it, in the order of ADVICE; what can be held against nothing, because nothing else fits, is."""
        for name, rule in ADVICE.items():
            part, held = next(((part, bytes_) for (part, n), bytes_ in self.held.items() if n == name), ("", 0.0))
            whole = self.held.get((part, "none"))
            if whole and self.saved[name] >= WORTH:
                saved = f"saves {self.saved[name]:.0%} of {whole / GIB:.2f} GiB ({part})"
                yield rule(f"{saved} and takes {self.took[name]:.2f} times as long; {self.room}", subject)
            elif held and not whole:
                yield rule(
                    f"takes {held / GIB:.2f} GiB, and the unoptimised run does not fit ({part}); {self.room}", subject
                )


def run(params: OptimisationsParams, world: World) -> Iterator[Fact]:
    seen = Seen(free=params.memory or math.inf)
    for fact in benchmark("optimisations", params, world, METRICS, seen.told):
        yield fact
        if isinstance(fact, Measurement):
            seen.take(fact)
    subject = card_of(world, params.device, params.gpu)
    unfit = ", ".join(f"{part} {name}" for part, name in seen.lacking)
    if unfit:
        yield Evidence("did not fit", unfit)
    if unfit or seen.free < params.enough:
        yield from seen.advice(subject)
    if ("picture", "none") in seen.lacking:
        yield NO_ROOM(f"{seen.room}; what does not fit: {unfit}", subject)
        raise NotApplicable("unsupported", "no ratio for the recommended set: the card cannot hold the unoptimised run")


PROBE = Probe(
    "optimisations",
    OptimisationsParams,
    run,
    metrics=METRICS,
    rules=(*ADVICE.values(), NO_ROOM),
    every="24h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True, seconds=25),
    examples=recorded(__file__),
)
