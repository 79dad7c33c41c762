"""Does this card keep its speed under a minute of load, and what holds it back if not?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from probes.api import (
    BenchmarkParams,
    Evidence,
    Fact,
    Finding,
    Json,
    Measurement,
    Needs,
    Probe,
    Progress,
    World,
    benchmark,
    card_of,
    recorded,
)
from probes.benchmarks import sustained_rules as rules
from probes.world.gpus import Gpu


class SustainedParams(BenchmarkParams):
    size: int = Field(0, ge=0, le=65536, description="Rows of the square matrices; 0 for the size of the card's class.")
    maximum_decay: float = Field(
        0.05, ge=0, le=1, description="Loss of speed from the first to the last quarter above which a rule fires."
    )
    maximum_variation: float = Field(
        0.10,
        ge=0,
        le=1,
        description="Standard deviation of the speed around its trend, by its mean, above which a rule fires.",
    )


COOL = 5.0  # degrees that a core has left when it is not the reason


def run(params: SustainedParams, world: World) -> Iterator[Fact]:
    looks: list[Gpu] = []
    decay = variation = 0.0

    def told(data: Mapping[str, Json]) -> Iterator[Fact]:
        told_rates = data["rates"]
        if isinstance(told_rates, list):
            rates = [float(str(rate)) for rate in told_rates]
            yield Evidence(
                "curve of the speed", f"FLOP/s, slice by slice: {', '.join(f'{rate:.4g}' for rate in rates)}"
            )
            yield rules.VARIATION(_variation(rates))

    for fact in benchmark("sustained", params, world, (rules.FLOPS, rules.DECAY), told):
        yield fact
        if isinstance(fact, Progress) and fact.done:  # at 0 the load is too young
            looks.extend(_loaded(params, world))
        elif isinstance(fact, Measurement) and fact.metric == rules.DECAY.name:
            decay = fact.value
        elif isinstance(fact, Measurement) and fact.metric == rules.VARIATION.name:
            variation = fact.value
    yield from _curves(looks)
    held = _held(looks)
    for reason, share in held.items():
        yield rules.THROTTLED(share, reason=reason)
    yield from _judged(params, looks, held, decay, variation)


def _variation(rates: Sequence[float]) -> float:
    """Standard deviation around a straight line, by the mean: a steady loss is another matter, which `decay_ratio` tells."""
    slope, start = statistics.linear_regression(range(len(rates)), rates)
    off = (rate - start - slope * at for at, rate in enumerate(rates))
    return round(math.sqrt(statistics.fmean(one * one for one in off)) / statistics.fmean(rates), 6)


def _loaded(params: SustainedParams, world: World) -> Iterator[Gpu]:
    """The card as it is now, under load; nothing on the CPU."""
    uuid = card_of(world, params.device, params.gpu)
    yield from (gpu for gpu in world.gpus().gpus if uuid and gpu.uuid == uuid and not gpu.error)


def _curves(looks: Sequence[Gpu]) -> Iterator[Fact]:
    """Medians by quarter; the whole curves for people."""
    for metric, values in (
        (rules.DEGREES, [gpu.temperature for gpu in looks]),
        (rules.CLOCK, [gpu.clocks.get("sm") for gpu in looks]),
        (rules.POWER, [gpu.power for gpu in looks]),
    ):
        known = [value for value in values if value is not None]
        for quarter in range(4 if len(known) >= 4 else 0):
            part = known[quarter * len(known) // 4 : (quarter + 1) * len(known) // 4]
            yield metric(statistics.median(part), quarter=quarter + 1)
        if known:
            yield Evidence(f"curve of {metric.name}", ", ".join(f"{value:.6g}" for value in known))


def _held(looks: Sequence[Gpu]) -> dict[str, float]:
    """How often each reason was active, also those that never were: 0 is news, absence is not."""
    told = [gpu.throttle for gpu in looks if gpu.throttle is not None]
    names = sorted({name for reasons in told for name in reasons} - {"gpu_idle"})
    return {name: sum(bool(reasons.get(name)) for reasons in told) / len(told) for name in names}


def _judged(
    params: SustainedParams, looks: Sequence[Gpu], held: Mapping[str, float], decay: float, variation: float
) -> Iterator[Finding]:
    uuid = looks[0].uuid if looks else ""
    active = (
        ", ".join(f"{name} {share:.0%}" for name, share in held.items() if share) or "nothing that the driver tells"
    )
    if decay > params.maximum_decay:
        yield rules.SLOWER(
            f"{decay:.1%} slower in the last quarter than in the first; held back by {active}", subject=uuid
        )
    if variation > params.maximum_variation:
        yield rules.UNSTEADY(f"it varied by {variation:.1%} around its trend; held back by {active}", subject=uuid)
    hot = [gpu for gpu in looks if any((gpu.throttle or {}).get(name) for name in rules.THERMAL)]
    if hot:
        margins = [gpu.temperature_margin for gpu in hot if gpu.temperature_margin is not None]
        yield rules.HOT(
            f"in {len(hot)} of {len(looks)} looks heat held the clocks back; {_where(margins)}", subject=uuid
        )


def _where(margins: Sequence[float]) -> str:
    """Where the heat is: a card slows down for its memory too, which consumer cards do not let anybody measure."""
    if not margins:
        return "the card does not tell how hot its core may get"
    cool = min(margins) > COOL
    return "the core was not hot, so it is the memory or the voltage regulators" if cool else "the core was hot"


PROBE = Probe(
    "sustained",
    SustainedParams,
    run,
    metrics=rules.METRICS,
    rules=rules.RULES,
    every="24h",
    timeout="10m",
    needs=Needs(lane="gpu", idle=True, seconds=75),
    examples=recorded(__file__),
)
