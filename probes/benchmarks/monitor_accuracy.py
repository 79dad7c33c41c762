"""Is what we measure of memory, CPU and VRAM what really happens?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from probes.api import (
    GIB,
    MIB,
    BenchmarkParams,
    Blind,
    Bytes,
    Duration,
    Evidence,
    Fact,
    Json,
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
from probes.benchmarks.monitor_accuracy_looks import READERS, Look, burned, free, paired, seen

ALONE = 0.95  # of a core that the load must have got


class AccuracyParams(BenchmarkParams):
    memory: Bytes = Field(GIB, ge=MIB, description="Bytes taken and given back; at most a quarter of what is free.")
    vram: Bytes = Field(512 * MIB, ge=16 * MIB, description="The same of the card; whole steps of 2 MiB are exact.")
    rounds: int = Field(5, ge=1, le=100, description="How often the load comes and goes; medians are judged.")
    seconds: Duration = Field(2.0, gt=0, description="How long each load and each rest between two is watched.")
    allowed: float = Field(0.05, gt=0, le=1, description="Error above which `measurement-inaccurate` fires.")


ERROR = Metric(
    "error_ratio",
    "How far what our doors saw of a load is from the load, as a part of it. process_vram: by the driver's list of processes.",
    ("resource",),
    better="lower",
)
HELD = Metric("held_bytes", "What the load held, which a measurement must show.", ("resource",))
INACCURATE = Rule(
    "measurement-inaccurate",
    "warning",
    "What gpu-canary measures of this machine is not what happens on it.",
    "1. `gpu-canary run CHECK` again prints what was done and what was seen; mistrust series and targets of that resource.\n"
    "2. memory: does `free -b` show the load? A balloon of the hypervisor, KSM, or lxcfs in a container changes what it says.\n"
    "3. cpu: does `top` show one busy core? Sandboxes such as gVisor keep no CPU times in `/proc/stat`.\n"
    "4. vram: `nvidia-smi --query-gpu=memory.used --format=csv -l 1` beside a run; if it is wrong too, update the driver.",
)


def run(params: AccuracyParams, world: World) -> Iterator[Fact]:
    uuid = card_of(world, params.device, params.gpu)
    changes: dict[str, object] = {"memory": min(params.memory, free(world.host()) // 4)}
    if not uuid:  # then no torch is needed
        changes |= {"device": "cpu", "interpreter": "self"}
    wanted = params.model_copy(update=changes)
    looks: list[Look] = []
    done: dict[str, float] = {}

    def told(data: Mapping[str, Json]) -> Iterator[Fact]:
        at, spent, slack = (float(str(data[name])) for name in ("at", "cpu", "slack"))
        card = next((gpu for gpu in world.gpus().gpus if gpu.uuid == uuid), None) if uuid else None
        look = Look(int(str(data["phase"])), at, spent, world.host(), card)
        if world.now() - at < slack:  # later, the phase may be over
            looks.append(look)
        yield from ()

    for fact in benchmark("monitor_accuracy", wanted, world, (HELD,), told):
        yield fact
        if isinstance(fact, Measurement):
            done[fact.labels[0][1]] = fact.value
    yield from _judged(params, looks, done)


def _judged(params: AccuracyParams, looks: Sequence[Look], done: Mapping[str, float]) -> Iterator[Fact]:
    pairs = paired(looks, 2 * params.rounds + 1)
    cores = burned(pairs) or 0.0
    loads = {**done, "cpu": cores, **({"process_vram": done["vram"]} if "vram" in done else {})}
    known, unknown = [], []
    for resource, load in loads.items():
        found = seen(pairs, READERS[resource])
        if found is None or not load:
            unknown.append(f"{resource}: nobody tells, or we looked too late")
        elif resource == "cpu" and cores < ALONE:  # then the load takes from others what it adds
            unknown.append(f"cpu: others left the load only {cores:.2f} of a core")
        elif found.noise > params.allowed * load / 2:
            unknown.append(f"{resource}: without the load it varies by {found.noise / load:.1%} of it")
        else:
            error = abs(found.added - load) / load
            known.append(
                f"{resource}: {_told(resource, load)} done, {_told(resource, found.added)} seen, {error:.1%} off"
            )
            yield ERROR(error, resource=resource)
            if error > params.allowed:
                yield INACCURATE(known[-1], subject=resource)
    if not known:
        raise Blind("no_source", "; ".join(unknown))
    yield Evidence("loads", "\n".join((*known, *unknown)))


def _told(resource: str, value: float) -> str:
    return f"{value:.3f} cores" if resource == "cpu" else f"{value / MIB:.0f} MiB"


PROBE = Probe(
    "monitor_accuracy",
    AccuracyParams,
    run,
    metrics=(ERROR, HELD),
    rules=(INACCURATE,),
    every="24h",
    timeout="10m",
    needs=Needs(lane="gpu", idle=True, seconds=45),
    examples=recorded(__file__),
)
