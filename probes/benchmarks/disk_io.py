"""How fast does the disk of the model directory write and read what is as large as a model?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from probes.api import (
    GIB,
    MIB,
    Bytes,
    Duration,
    Evidence,
    Fact,
    Finding,
    Json,
    Metric,
    Needs,
    Params,
    Probe,
    Rule,
    World,
    facts_of,
    recorded,
)
from probes.benchmarks.model_directory import room, written


class DiskIoParams(Params):
    path: str = Field("", description="Directory of the models. A file without a name is written there.")
    size: Bytes = Field(GIB, gt=0, description="Bytes written and read again; fewer when `seconds` are over.")
    chunk: Bytes = Field(32 * MIB, ge=4096, le=GIB, description="Bytes at a time: a tensor of a large model.")
    times_free: float = Field(4.0, ge=2, description="So many times `size` must be free, or nothing is written.")
    seconds: Duration = Field(10.0, gt=0, description="Time for writing and reading; half of it ends the writing.")


WRITE = Metric(
    "write_bytes_per_second",
    "Bytes a second written one after the other until they are on the disk; cache: `direct` past it, or `flushed`.",
    ("cache",),
    better="higher",
)
READ = Metric(
    "read_bytes_per_second",
    "Bytes a second read one after the other; cache: `direct` past it, `dropped`, `asked` to drop, or `kept`: memory.",
    ("cache",),
    better="higher",
)
ABSENT = Rule(
    "disk-io-absent",
    "critical",
    "The directory does not exist.",
    "1. `ls -ld PATH` and `mount | grep PATH`: is the disk mounted?\n2. Put the right directory into the check's `path:`.",
)
NO_ROOM = Rule(
    "disk-io-no-room",
    "warning",
    "There is too little room to measure this disk without danger.",
    "1. `df -h PATH` shows it; `du -xh --max-depth=2 PATH | sort -h | tail` what is large.\n"
    "2. A smaller `size:` needs less; `times_free:` says how many times that must be free.",
)
RULES = (ABSENT, NO_ROOM)


def run(params: DiskIoParams, world: World) -> Iterator[Fact]:
    there = room(params, world, ABSENT, NO_ROOM)
    if isinstance(there, Finding):
        yield there
        return
    path, needed = there

    def told(data: Mapping[str, Json]) -> Iterator[Fact]:
        written(data, params, NO_ROOM)
        yield Evidence("written", f"{float(str(data['written'])) / MIB:.0f} MiB")

    sent = params.model_dump(mode="json") | {"path": path, "keep_free": needed - 2 * params.size}
    yield from facts_of(world.worker("disk_io", sent, interpreter="self"), (WRITE, READ), told=told)


PROBE = Probe(
    "disk_io",
    DiskIoParams,
    run,
    metrics=(WRITE, READ),
    rules=RULES,
    every="6h",
    timeout="5m",
    needs=Needs(lane="worker"),
    examples=recorded(__file__),
)
