"""Does this card keep its speed under a minute of load, and what holds it back if not?"""

from __future__ import annotations

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
    Metric,
    Needs,
    Probe,
    Progress,
    World,
    benchmark,
    card_of,
    recorded,
)
from probes.benchmarks.sustained_rules import HOT, SLOWER, THERMAL
from probes.world.gpus import Gpu


class SustainedParams(BenchmarkParams):
    size: int = Field(0, ge=0, le=65536, description="Rows of the square matrices; 0 for the size of the card's class.")
    maximum_decay: float = Field(
        0.05, ge=0, le=1, description="Loss of speed from the first to the last quarter above which a rule fires."
    )


FLOPS = Metric(
    "flops_per_second",
    "Floating-point operations a second in a matrix product, the median of a whole minute under load.",
    ("device",),
    better="higher",
)
DECAY = Metric(
    "decay_ratio",
    "Share of its speed that the device lost from the first to the last quarter of the load.",
    ("device",),
    better="lower",
)
DEGREES = Metric(
    "temperature_celsius", "Temperature of the card under the load, by quarter of it.", ("quarter",), better="lower"
)
CLOCK = Metric("clock_hertz", "SM clock of the card under the load, by quarter of it.", ("quarter",), better="higher")
POWER = Metric("power_watts", "Power that the card drew under the load, by quarter of it.", ("quarter",))
THROTTLED = Metric(
    "throttled_ratio",
    "Share of the looks under the load in which this held the clocks back.",
    ("reason",),
    better="lower",
)
COOL = 5.0  # degrees that a core has left when it is not the reason
METRICS = (FLOPS, DECAY, DEGREES, CLOCK, POWER, THROTTLED)


def run(params: SustainedParams, world: World) -> Iterator[Fact]:
    looks: list[Gpu] = []
    decay = 0.0

    def told(data: Mapping[str, Json]) -> Iterator[Fact]:
        rates = data["rates"]
        if isinstance(rates, list):
            speeds = [f"{float(str(rate)):.4g}" for rate in rates]
            yield Evidence("curve of the speed", f"FLOP/s, slice by slice: {', '.join(speeds)}")

    for fact in benchmark("sustained", params, world, (FLOPS, DECAY), told):
        yield fact
        if isinstance(fact, Progress) and fact.done:  # at 0 the load is too young
            looks.extend(_loaded(params, world))
        elif isinstance(fact, Measurement) and fact.metric == DECAY.name:
            decay = fact.value
    yield from _curves(looks)
    held = _held(looks)
    for reason, share in held.items():
        yield THROTTLED(share, reason=reason)
    yield from _judged(params, looks, held, decay)


def _loaded(params: SustainedParams, world: World) -> Iterator[Gpu]:
    """The card as it is now, under load; nothing on the CPU."""
    uuid = card_of(world, params.device, params.gpu)
    yield from (gpu for gpu in world.gpus().gpus if uuid and gpu.uuid == uuid and not gpu.error)


def _curves(looks: Sequence[Gpu]) -> Iterator[Fact]:
    """Medians by quarter; the whole curves for people."""
    for metric, values in (
        (DEGREES, [gpu.temperature for gpu in looks]),
        (CLOCK, [gpu.clocks.get("sm") for gpu in looks]),
        (POWER, [gpu.power for gpu in looks]),
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
    params: SustainedParams, looks: Sequence[Gpu], held: Mapping[str, float], decay: float
) -> Iterator[Finding]:
    uuid = looks[0].uuid if looks else ""
    active = (
        ", ".join(f"{name} {share:.0%}" for name, share in held.items() if share) or "nothing that the driver tells"
    )
    if decay > params.maximum_decay:
        yield SLOWER(f"{decay:.1%} slower in the last quarter than in the first; held back by {active}", subject=uuid)
    hot = [gpu for gpu in looks if any((gpu.throttle or {}).get(name) for name in THERMAL)]
    if hot:
        margins = [gpu.temperature_margin for gpu in hot if gpu.temperature_margin is not None]
        yield HOT(f"in {len(hot)} of {len(looks)} looks heat held the clocks back; {_where(margins)}", subject=uuid)


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
    metrics=METRICS,
    rules=(SLOWER, HOT),
    every="24h",
    timeout="10m",
    needs=Needs(lane="gpu", idle=True, seconds=75),
    examples=recorded(__file__),
)
