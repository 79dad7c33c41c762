"""How long does a model take from the disk to the device?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from probes.api import (
    GIB,
    MIB,
    BenchmarkParams,
    Bytes,
    Evidence,
    Fact,
    Finding,
    Json,
    Metric,
    Needs,
    Probe,
    Rule,
    World,
    benchmark,
    recorded,
)
from probes.benchmarks.model_directory import room, written


class ModelLoadParams(BenchmarkParams):
    path: str = Field("", description="Directory of the models. A file without a name is written there.")
    size: Bytes = Field(
        GIB, ge=32 * MIB, le=64 * GIB, description="Bytes of the generated model, in tensors of 32 MiB."
    )
    times_free: float = Field(4.0, ge=2, description="So many times `size` must be free, or nothing is written.")
    keep_free: Bytes = Field(0, description="Room that stays free while writing; 0 for half of what must be free.")


LOAD = Metric(
    "bytes_per_second",
    "Bytes a second of a safetensors file, mapped and copied to the device; cache: `cold`, `asked` to be, or `warm`.",
    ("cache", "device"),
    better="higher",
)
ABSENT = Rule(
    "model-load-absent",
    "critical",
    "The directory does not exist.",
    "1. `ls -ld PATH` and `mount | grep PATH`: is the disk mounted?\n2. Put the right directory into the check's `path:`.",
)
NO_ROOM = Rule(
    "model-load-no-room",
    "warning",
    "There is too little room to write a model there without danger.",
    "1. `df -h PATH` shows it; `du -xh --max-depth=2 PATH | sort -h | tail` what is large.\n"
    "2. A smaller `size:` needs less; `times_free:` says how many times that must be free.",
)


def run(params: ModelLoadParams, world: World) -> Iterator[Fact]:
    there = room(params, world, ABSENT, NO_ROOM)
    if isinstance(there, Finding):
        yield there
        return
    path, needed = there

    def told(data: Mapping[str, Json]) -> Iterator[Fact]:
        written(data, params, NO_ROOM)
        yield Evidence("loaded", str(data.get("loaded")))

    sent = params.model_copy(update={"path": path, "keep_free": params.keep_free or needed // 2})
    yield from benchmark("model_load", sent, world, (LOAD,), told)


PROBE = Probe(
    "model_load",
    ModelLoadParams,
    run,
    metrics=(LOAD,),
    rules=(ABSENT, NO_ROOM),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
