"""How many floating-point operations a second does this card, or this processor, reach in a matrix product?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from probes.api import (
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


class MatmulParams(Params):
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="Where to measure; `auto` takes the card where torch sees one, and the CPU elsewhere."
    )
    gpu: str = Field("", description="Index or UUID of the card; empty for the first.")
    interpreter: str = Field("auto", description="Python to measure: a name of `interpreters:`, a path, or `auto`.")
    dtypes: tuple[Literal["fp32", "tf32", "fp16", "bf16"], ...] = Field(
        (), description="Number formats; empty for all that the device computes natively (fp32 alone on the CPU)."
    )
    size: int = Field(0, ge=0, le=65536, description="Rows of the square matrices; 0 for the size of the card's class.")
    seconds: Duration = Field(
        0.0, description="Time spent measuring; 0s for 8s on a card and 2s on the CPU. 2m shows what heat does to it."
    )


FLOPS = Metric(
    "flops_per_second",
    "Floating-point operations a second in a square matrix product: the median of many, 2 n^3 operations each.",
    ("dtype", "device"),
    better="higher",
)
NOT_ON_CARD = Rule(
    "matmul-not-on-card",
    "warning",
    "This machine has a card, but torch computed on the CPU.",
    "1. `gpu-canary run torch_import` says why torch does not see the card, and what to install.\n"
    "2. `nvidia-smi` must list the card.\n"
    "3. Set `device: cpu` if the CPU is what you want to measure.",
)


def run(params: MatmulParams, world: World) -> Iterator[Fact]:
    card = card_of(world, params.device, params.gpu)
    rows = world.worker("matmul", params.model_dump(mode="json"), interpreter=params.interpreter, gpu=card)
    for fact in facts_of(rows, (FLOPS,)):
        yield fact
        on_cpu = isinstance(fact, Conditions) and fact.values.get("device") == "cpu" and params.device != "cpu"
        if on_cpu and (card or world.gpus().nvidia):  # a card whose driver is broken is on the bus all the same
            yield NOT_ON_CARD("torch sees no CUDA device", subject=card)


PROBE = Probe(
    "matmul",
    MatmulParams,
    run,
    metrics=(FLOPS,),
    rules=(NOT_ON_CARD,),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
