"""How many floating-point operations a second does this card, or this processor, reach in a matrix product?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from probes.api import (
    BenchmarkParams,
    Fact,
    Metric,
    Needs,
    Probe,
    World,
    benchmark,
    recorded,
)


class MatmulParams(BenchmarkParams):
    dtypes: tuple[Literal["fp32", "tf32", "fp16", "bf16", "fp8"], ...] = Field(
        (), description="Number formats; empty for all that the device computes natively (fp32 alone on the CPU)."
    )
    size: int = Field(0, ge=0, le=65536, description="Rows of the square matrices; 0 for the size of the card's class.")


FLOPS = Metric(
    "flops_per_second",
    "Floating-point operations a second in a square matrix product: the median of many, 2 n^3 operations each.",
    ("dtype", "device"),
    better="higher",
)


def run(params: MatmulParams, world: World) -> Iterator[Fact]:
    yield from benchmark("matmul", params, world, (FLOPS,))


PROBE = Probe(
    "matmul",
    MatmulParams,
    run,
    metrics=(FLOPS,),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
