"""How does a benchmark come from its params to facts? One path for all of them, from choosing the card to the last row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from probes.facts import Conditions, Energy, Evidence, Fact, Identity, Json, Metric, Progress
from probes.params import Duration, Params
from probes.rules import BENCHMARK_NOT_ON_CARD
from probes.stops import NotApplicable
from probes.world import World
from probes.world.workers import Row

Told = Callable[[Mapping[str, Json]], Iterator[Fact]]


class BenchmarkParams(Params):
    """What every benchmark may be told. A benchmark's own params inherit from it and add what it measures."""

    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="Where to measure; `auto` takes the card where torch sees one, and the CPU elsewhere."
    )
    gpu: str = Field("", description="Index or UUID of the card; empty for the first.")
    interpreter: str = Field("auto", description="Python to measure: a name of `interpreters:`, a path, or `auto`.")
    seconds: Duration = Field(
        0.0, description="Time spent measuring; 0s for the benchmark's own: up to 10s on a card, 2s on the CPU."
    )


def benchmark(
    worker: str,
    params: BenchmarkParams,
    world: World,
    metrics: Iterable[Metric],
    told: Told | None = None,
    *,
    card_only: bool = False,
) -> Iterator[Fact]:
    """Run that worker on the wanted device and yield what it measured; a finding where the CPU stood in for a card.

    told: what a `data` row of the worker means, as facts. card_only: it is about a card, so that the CPU is measured only
    where that was asked for; NotApplicable(no_gpu) where there is no card.
    """
    cards = cards_of(world, params, card_only=card_only)
    card = cards[0] if cards else ""
    rows = world.worker(worker, params.model_dump(mode="json"), interpreter=params.interpreter, gpu=",".join(cards))
    for fact in facts_of(rows, metrics, told=told):
        yield fact
        on_cpu = isinstance(fact, Conditions) and fact.values.get("device") == "cpu" and params.device != "cpu"
        if on_cpu and (card or world.gpus().nvidia):  # a card whose driver is broken is on the bus all the same
            yield BENCHMARK_NOT_ON_CARD("torch sees no CUDA device", subject=card)
            if card_only:
                return
        elif on_cpu and card_only:
            raise NotApplicable("no_gpu", "neither the driver nor torch knows a card here")


def facts_of(
    rows: Iterable[Row],
    metrics: Iterable[Metric],
    identity: Sequence[str] = ("revision", "uuid"),
    told: Told | None = None,
) -> Iterator[Fact]:
    """A benchmark worker's rows as facts. ValueError where a metric was not declared or nothing was measured (our error).

    The start row's versions become `Conditions`, those named in `identity` the `Identity`; the end row adds what the parent
    saw of the card meanwhile.
    """
    declared = {m.name: m for m in metrics}
    measured = False
    for row in rows:
        if row.kind == "fact":
            measured = True
            if row.metric not in declared:
                raise ValueError(f"the worker wrote the undeclared metric {row.metric!r}")
            yield declared[row.metric](row.value, **row.labels)
        elif row.kind == "data" and told is not None:
            yield from told(row.data)
        elif row.kind == "progress":
            yield Progress(row.done, row.total)
        elif row.kind == "start":
            known = {k: str(v) for k, v in row.data.items() if v not in (None, "")}
            yield Identity({k: v for k, v in known.items() if k in identity})
            yield Conditions({k: v for k, v in known.items() if k not in identity})
        elif row.kind == "end":
            if not measured:
                raise ValueError("the worker ended without a measurement")
            yield Conditions({k: str(v) for k, v in _object(row.data.get("conditions")).items()})
            yield from (Evidence(k, str(v)) for k, v in _object(row.data.get("evidence")).items() if v)
            yield from energy_of(row)


def energy_of(end: Row) -> Iterator[Energy]:
    """What each card used until the worker ended."""
    told = end.data.get("energy")
    for card in map(_object, told if isinstance(told, list) else ()):
        yield Energy(int(str(card["gpu"])), str(card["uuid"]), float(str(card["joules"])))


def card_of(world: World, device: str, wanted: str) -> str:
    """The uuid of the card that a benchmark uses; "" for the CPU, or for a card that torch may know and NVML does not.

    device: `auto`, `cuda` or `cpu`. wanted: an index or uuid, "" for the first card. Raises NotApplicable(no_gpu | no_device).
    """
    if device == "cpu":
        return ""
    seen = world.gpus()
    card = next((gpu for gpu in seen.gpus if (wanted or "0") in (gpu.uuid, str(gpu.index))), None)
    if card is None and (seen.gpus or wanted):
        raise NotApplicable("no_device", f"this machine has no card {wanted or 0}")
    if card is None and device == "cuda" and not seen.pci:
        raise NotApplicable("no_gpu", "this machine has no GPU; `device: cpu` measures the processor")
    return card.uuid if card else ""


def cards_of(world: World, params: Params, *, card_only: bool = False) -> tuple[str, ...]:
    """The uuids of all cards that a benchmark with these params uses: its `gpu`, and its `peer` where it has one.

    Empty for the CPU, and as `card_of`, which raises for each of them.
    """
    device, peer = getattr(params, "device", "auto"), getattr(params, "peer", "")
    device = "cuda" if device == "auto" and (card_only or peer) else device
    card = card_of(world, device, getattr(params, "gpu", ""))
    beside = card_of(world, device, peer) if peer else ""
    if card and card == beside:
        raise NotApplicable("no_device", f"card {peer} is its own peer; name another one")
    return tuple(filter(None, (card, beside)))


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
