"""Does this card compute the same bits today as a moment ago, and as it always did?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from pydantic import Field

from probes.api import (
    BenchmarkParams,
    Conditions,
    Fact,
    Identity,
    Json,
    Measurement,
    Metric,
    Needs,
    Probe,
    Remember,
    Rule,
    World,
    benchmark,
    recorded,
)

# What may rightly change the bits. Others, like the power limit, must not.
STACK = ("torch", "cuda", "driver", "threads")
DECIDING = ("revision", "uuid", "device", "device_name", "device_memory", "processor", *STACK)
KEPT = 16  # references: enough for every card and driver that a machine sees in turn
HELD = 7 * 86400.0  # seconds for which a right run does not make a wrong one forgotten


class CorruptionParams(BenchmarkParams):
    seed: int = Field(
        0, ge=0, lt=2**63, description="Seed of the inputs; another one begins with a reference of its own."
    )


COMPARED = Metric(
    "compared_values",
    "Values of repeated outputs that the newest run held against the first output, bit for bit.",
    ("kernel", "device"),
)
DIFFERING = Metric(
    "differing_values",
    "Values of repeated outputs with another bit than in the first output. Anything but 0 is a fault.",
    ("kernel", "device"),
    better="lower",
)
WRONG = Rule(
    "corruption-bits-differ",
    "critical",
    "The same kernel with the same input gave other bits: the card, its memory or its power computes wrongly.",
    "1. Undo overclocking, undervolting and memory offsets, then `gpu-canary run corruption` again.\n"
    "2. `nvidia-smi -q -d ECC,TEMPERATURE,POWER` and `dmesg | grep -i xid` show memory faults, heat and power loss.\n"
    "3. Mistrust what was trained or rendered since the last good run; if it comes back at stock clocks, replace the card.",
    proof=True,
)
CHANGED = Rule(
    "corruption-reference-differs",
    "critical",
    "The card computes other bits than it did before, with the same driver and torch.",
    "1. `gpu-canary run corruption` again: the same wrong bits mean a lasting fault, others a passing one.\n"
    "2. `nvidia-smi -q -d ECC,ROW_REMAPPER` and `dmesg | grep -i xid` show memory faults; undo overclocking.\n"
    "3. If something that decides the bits was changed by hand (cuBLAS, an environment variable), set another `seed:`.",
    proof=True,
)
SEEN = Rule(
    "corruption-seen",
    "warning",
    "The card computed wrongly within the last seven days; its newest run was right, which clears nothing.",
    "1. Undo overclocking, undervolting and memory offsets; `nvidia-smi -q -d ECC,TEMPERATURE,POWER` and "
    "`dmesg | grep -i xid` around that time may name the cause.\n"
    "2. Render or train again what the card made since the last run before it.\n"
    "3. `gpu-canary run corruption --record` a few times under load: if it comes back at stock clocks, replace the card.",
)


def run(params: CorruptionParams, world: World) -> Iterator[Fact]:
    digests: dict[str, Json] = {}
    known: dict[str, str] = {}
    wrong: set[str] = set()

    def told(data: Mapping[str, Json]) -> Iterator[Fact]:
        digests[str(data["kernel"])] = str(data["digest"])
        yield from ()

    for fact in benchmark("corruption", params, world, (COMPARED, DIFFERING), told):
        yield fact
        if isinstance(fact, Conditions | Identity):
            known.update(fact.values)
        elif isinstance(fact, Measurement) and fact.metric == DIFFERING.name and fact.value:
            kernel = dict(fact.labels)["kernel"]
            wrong.add(kernel)
            yield Remember({**world.previous, "wrong": _wrong(world, known)})  # first: the run may end at any fact
            yield WRONG(
                f"{kernel}: {fact.value:.0f} values differ from the first output", subject=known.get("uuid", "")
            )
    yield from _held_against_the_past(params, world, digests, known, wrong)


def _held_against_the_past(
    params: CorruptionParams, world: World, digests: dict[str, Json], known: Mapping[str, str], wrong: set[str]
) -> Iterator[Fact]:
    """The references of this card under these conditions. A wrong run never becomes a reference, and an old one stays."""
    key = _key(params, known)
    past = world.previous.get("references")
    references = dict(past) if isinstance(past, dict) else {}
    reference = references.pop(key, None)
    before = reference if isinstance(reference, dict) else {}
    changed = [k for k, digest in digests.items() if k not in wrong and before.get(k, digest) != digest]
    good = {kernel: digest for kernel, digest in digests.items() if kernel not in wrong}
    references[key] = {**good, **before}  # last: the newest
    times = _wrong(world, known) if wrong or changed else _wrong(world)
    kept: dict[str, Json] = {"references": dict(list(references.items())[-KEPT:])}
    yield Remember({**kept, "wrong": times} if times else kept)
    uuid = known.get("uuid", "")
    for kernel in changed:
        yield CHANGED(f"{kernel}: not the bits of earlier runs", subject=uuid)
    if uuid in times and not (wrong or changed):
        hours = (world.now() - float(str(times[uuid]))) / 3600
        yield SEEN(f"wrong bits {hours:.0f} hours ago, right ones now", subject=uuid)


def _wrong(world: World, now: Mapping[str, str] | None = None) -> dict[str, Json]:
    """When each card last computed wrongly, by uuid, as far as that is still held; `now`: what is known of one that does."""
    past = world.previous.get("wrong")
    times = {uuid: at for uuid, at in past.items() if isinstance(at, int | float)} if isinstance(past, dict) else {}
    held: dict[str, Json] = {uuid: at for uuid, at in times.items() if 0 <= world.now() - at < HELD}
    return held if now is None else {**held, now.get("uuid", ""): world.now()}


def _key(params: CorruptionParams, known: Mapping[str, str]) -> str:
    decides = [str(params.seed), *(f"{name}={known.get(name, '')}" for name in DECIDING)]
    return hashlib.sha256("\n".join(decides).encode("utf-8", "replace")).hexdigest()[:16]


PROBE = Probe(
    "corruption",
    CorruptionParams,
    run,
    metrics=(COMPARED, DIFFERING),
    rules=(WRONG, CHANGED, SEEN),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
