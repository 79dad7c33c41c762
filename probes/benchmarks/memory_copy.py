"""How many bytes a second does memory copy: on the card, or in the host?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from probes.api import (
    BenchmarkParams,
    Bytes,
    Fact,
    Metric,
    Needs,
    Probe,
    World,
    benchmark,
    recorded,
)


class MemoryCopyParams(BenchmarkParams):
    size: Bytes = Field(
        0, description="Bytes copied at a time; 0 for the size of the card's class (1GiB, small ones 256MiB)."
    )


COPY = Metric(
    "bytes_per_second",
    "Bytes read plus bytes written a second by a copy within the device's own memory: the median of many.",
    ("device",),
    better="higher",
)


def run(params: MemoryCopyParams, world: World) -> Iterator[Fact]:
    yield from benchmark("memory_copy", params, world, (COPY,))


PROBE = Probe(
    "memory_copy",
    MemoryCopyParams,
    run,
    metrics=(COPY,),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True, seconds=14),
    examples=recorded(__file__),
)
