"""How many pictures at once does this card hold before its memory runs out, and does it get all of it back?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from probes.api import (
    MIB,
    BenchmarkParams,
    Bytes,
    Fact,
    Measurement,
    Metric,
    Needs,
    Probe,
    Rule,
    World,
    benchmark,
    card_of,
    recorded,
)


class MaxBatchParams(BenchmarkParams):
    memory: Bytes = Field(
        0, description="Memory that the search may use; 0 for nine tenths of what is free, on the CPU it must be said."
    )
    most: int = Field(0, ge=0, le=2**20, description="Largest batch that is tried; 0 for 1048576.")


PICTURES = Metric(
    "pictures",
    "Largest batch of a U-Net's first level (1024x1024 pictures) that fits into nine tenths of the free memory.",
    ("device",),
    better="higher",
)
LEFT = Metric(
    "left_bytes", "VRAM that torch still had allocated after the search. Anything but 0 leaks.", better="lower"
)
LEAKS = Rule(
    "max-batch-memory-left",
    "warning",
    "After running out of memory on purpose, torch did not give back all that it had taken.",
    "1. `gpu-canary run max_batch` again; a process that runs out of memory keeps what this torch keeps.\n"
    "2. Upgrade torch in that Python: `pip install --upgrade torch`; restart a service after an out-of-memory error.",
)


def run(params: MaxBatchParams, world: World) -> Iterator[Fact]:
    for fact in benchmark("max_batch", params, world, (PICTURES, LEFT), card_only=not params.memory):
        yield fact
        if isinstance(fact, Measurement) and fact.metric == LEFT.name and fact.value:
            uuid = card_of(world, params.device, params.gpu)
            yield LEAKS(f"{fact.value / MIB:.1f} MiB are still allocated", subject=uuid)


PROBE = Probe(
    "max_batch",
    MaxBatchParams,
    run,
    metrics=(PICTURES, LEFT),
    rules=(LEAKS,),
    every="24h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True, seconds=30),
    examples=recorded(__file__),
)
