"""How many floating-point operations a second does attention reach at the shapes of pictures, video and text?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from probes.api import BenchmarkParams, Fact, Metric, Needs, Probe, World, benchmark, recorded


class AttentionParams(BenchmarkParams):
    shapes: tuple[Literal["image", "video", "text"], ...] = Field(
        (), description="Layers to measure: of FLUX.1, Wan2.1 1.3B and an 8B Llama 3 at its prompt; empty for all."
    )
    share_of_tokens: int = Field(
        0,
        ge=0,
        le=256,
        description="One so-manieth of a layer's tokens; 0 for what suits the card's class: 1, small ones 4.",
    )


FLOPS = Metric(
    "flops_per_second",
    "Floating-point operations a second in scaled dot-product attention: the median of many, its two products counted.",
    ("shape", "dtype", "device"),
    better="higher",
)


def run(params: AttentionParams, world: World) -> Iterator[Fact]:
    yield from benchmark("attention", params, world, (FLOPS,))


PROBE = Probe(
    "attention",
    AttentionParams,
    run,
    metrics=(FLOPS,),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
