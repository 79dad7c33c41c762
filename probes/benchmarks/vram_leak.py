"""Does a service give back the memory of the card that a piece of its work took?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from probes.api import (
    MIB,
    Blind,
    Bytes,
    Deferred,
    Duration,
    Evidence,
    Fact,
    Json,
    Needs,
    NotApplicable,
    Params,
    Probe,
    Progress,
    Regex,
    World,
    energy_of,
    recorded,
)
from probes.benchmarks import vram_leak_rules as rules
from probes.benchmarks.vram_leak_service import Service
from probes.world.gpus import Gpu

BUSY = 0.05  # of a card; above it somebody works, and who works takes memory
QUOTED = 300  # characters of the program's last words in a finding


class VramLeakParams(Params):
    process: Regex = Field(
        "", description="Pattern of the service's command lines, like `ComfyUI/main\\.py` or `ollama runner`."
    )
    command: tuple[str, ...] = Field(
        (), description="Program that has the service do one piece of work, and ends when it is done; without a shell."
    )
    gpu: str = Field("", description="Index or UUID of the card that the service uses; empty for the first.")
    warm_up: int = Field(
        2,
        ge=0,
        le=20,
        description="Pieces of work before the memory is noted: the service loads its models and caches.",
    )
    times: int = Field(3, ge=1, le=100, description="Pieces of work after which it must hold no more than that.")
    settle: Duration = Field(10.0, description="Time after each piece within which the service may give memory back.")
    allowed: Bytes = Field(256 * MIB, description="Memory that may stay; above it `vram-not-released` fires.")


def run(params: VramLeakParams, world: World) -> Iterator[Fact]:
    if not params.process or not params.command:
        raise NotApplicable("not_configured", "name the service's `process:`, and a `command:` that has it do work")
    card = _card(params, world)
    service = Service(world, card.uuid, params.process)
    levels, total = [service.held()], params.warm_up + params.times
    for done in range(total):
        yield Progress(done, total)
        failed = _work(params, world, service)
        if failed:
            yield from service.energy(card.index)
            yield rules.UNDONE(failed, subject=card.uuid)
            return
        levels.append(service.held())
        if service.peak is None:
            raise service.unseen()
    before, after = levels[params.warm_up], levels[-1]
    told = ", ".join(f"{level / MIB:.0f}" for level in levels)
    yield from (rules.BEFORE(before), rules.PEAK(service.peak or 0), rules.AFTER(after))
    yield rules.RESIDUAL(max(0, after - before))
    yield from service.energy(card.index)
    yield Evidence("memory after each piece of work", f"{told} MiB; counted from number {params.warm_up} on")
    if after - before > params.allowed:
        much = f"{(after - before) / MIB:.0f} MiB more after {params.times} pieces of the same work"
        yield rules.KEPT(f"{much}: {told} MiB", subject=card.uuid)


def _card(params: VramLeakParams, world: World) -> Gpu:
    """The card as it is. Deferred while somebody works: their memory comes and goes with ours."""
    seen = world.gpus()
    card = next((gpu for gpu in seen.gpus if (params.gpu or "0") in (gpu.uuid, str(gpu.index))), None)
    if card is None and (seen.gpus or params.gpu):
        raise NotApplicable("no_device", f"this machine has no card {params.gpu or 0}")
    if card is None and not seen.pci:
        raise NotApplicable("no_gpu", "this machine has no GPU")
    if card is None:
        raise Blind("no_source", "the driver tells nothing of the card; `gpu-canary run gpu_driver` says why")
    if card.mig:
        raise NotApplicable("unsupported", "a divided card (MIG) does not tell whose memory it is")
    busy = max(card.utilization or 0.0, card.peaks.get("utilization", 0.0))
    if busy >= BUSY:
        raise Deferred("gpu_busy", f"the card was {busy:.0%} busy within the last minute")
    return card


def _work(params: VramLeakParams, world: World, service: Service) -> str:
    """One piece of work, watched; in words why it was not done."""
    sent: dict[str, Json] = {"command": list(params.command), "settle": params.settle}
    code: Json = None
    log = ""
    for row in world.worker("vram_leak", sent, interpreter="self", gpu=service.uuid):
        if row.kind == "progress":
            service.held()
        elif row.kind == "data":
            code = row.data.get("code")
        elif row.kind == "end":
            service.used.extend(energy_of(row))
            evidence = row.data.get("evidence")
            log = str(evidence.get("worker log", "")) if isinstance(evidence, dict) else ""
    return "" if code == 0 else f"exit code {code}: {_last(log)}"


def _last(text: str) -> str:
    ending = " / ".join(line.strip() for line in text.splitlines()[-3:])[-QUOTED:]
    return "".join(c if c.isprintable() else "?" for c in ending) or "it said nothing"


PROBE = Probe(
    "vram_leak",
    VramLeakParams,
    run,
    metrics=rules.METRICS,
    rules=(rules.KEPT, rules.UNDONE),
    every="24h",
    timeout="30m",
    needs=Needs(lane="gpu", seconds=300),  # not idle: the service's own work would end the run
    examples=recorded(__file__),
)
