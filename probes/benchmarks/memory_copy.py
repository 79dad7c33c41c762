"""How many bytes a second does memory copy: on the card or in the host, and over the bus between them?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from probes.api import (
    Bytes,
    Conditions,
    Duration,
    Fact,
    Metric,
    Needs,
    Params,
    Probe,
    Rule,
    World,
    card_of,
    facts_of,
    recorded,
)


class MemoryCopyParams(Params):
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="Where to measure; `auto` takes the card where torch sees one, and the CPU elsewhere."
    )
    gpu: str = Field("", description="Index or UUID of the card; empty for the first.")
    interpreter: str = Field("auto", description="Python to measure: a name of `interpreters:`, a path, or `auto`.")
    size: Bytes = Field(
        0, description="Bytes copied at a time; 0 for the size of the card's class (1GiB, small ones 256MiB)."
    )
    seconds: Duration = Field(0.0, description="Time spent measuring; 0s for 6s on a card and 2s on the CPU.")


COPY = Metric(
    "bytes_per_second",
    "Bytes read plus bytes written a second by a copy within the device's own memory: the median of many.",
    ("device",),
    better="higher",
)
TRANSFER = Metric(
    "transfer_bytes_per_second",
    "Bytes a second over the bus between pinned host memory and the card: the median of many.",
    ("direction",),
    better="higher",
)
NOT_ON_CARD = Rule(
    "memory-copy-not-on-card",
    "warning",
    "This machine has a card, but torch copied in the host's memory.",
    "1. `gpu-canary run torch_import` says why torch does not see the card, and what to install.\n"
    "2. `nvidia-smi` must list the card.\n"
    "3. Set `device: cpu` if the host's memory is what you want to measure.",
)


def run(params: MemoryCopyParams, world: World) -> Iterator[Fact]:
    card = card_of(world, params.device, params.gpu)
    rows = world.worker("memory_copy", params.model_dump(mode="json"), interpreter=params.interpreter, gpu=card)
    for fact in facts_of(rows, (COPY, TRANSFER)):
        yield fact
        on_cpu = isinstance(fact, Conditions) and fact.values.get("device") == "cpu" and params.device != "cpu"
        if on_cpu and (card or world.gpus().nvidia):  # a card whose driver is broken is on the bus all the same
            yield NOT_ON_CARD("torch sees no CUDA device", subject=card)


PROBE = Probe(
    "memory_copy",
    MemoryCopyParams,
    run,
    metrics=(COPY, TRANSFER),
    rules=(NOT_ON_CARD,),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
