"""What are the cards doing, and are they sound?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import Field

from probes.api import (
    Blind,
    Duration,
    Evidence,
    Fact,
    NotApplicable,
    Params,
    Probe,
    World,
    recorded,
)
from probes.hardware.gpu_metrics import METRICS, measurements
from probes.hardware.gpu_rules import CARD_RULES, LIMITS, NVML_FAILED, troubles
from probes.hardware.xids import CRITICAL, WARNING, recent_xids
from probes.world.gpus import Gpu, GpuProcess, Gpus


class GpuParams(Params):
    xid_window: Duration = Field(600.0, description="How long an XID stays a finding after it was last seen.")
    assumed_limit: float = Field(
        85.0, gt=0, description="Temperature in celsius above which a card that states no limit of its own is too hot."
    )


def run(params: GpuParams, world: World) -> Iterator[Fact]:
    gpus = world.gpus()
    if gpus.library and gpus.error and (gpus.nvidia or gpus.error != "driver_not_loaded"):
        yield NVML_FAILED(gpus.error)
        return
    if not gpus.gpus:
        raise _nothing_to_see(gpus)
    now = world.now()
    for gpu in (_limited(card, params.assumed_limit) for card in gpus.gpus):
        yield from measurements(gpu, gpus.driver, gpus.cuda)
        yield from troubles(gpu)
        yield from recent_xids(gpu, now - params.xid_window)
        if gpu.processes:
            yield Evidence(f"processes on card {gpu.index}", "\n".join(map(_line, gpu.processes)))


def _limited(gpu: Gpu, assumed: float) -> Gpu:
    """The same card; one that tells neither how hot it may get nor how far it is from there has the assumed limit."""
    if gpu.temperature is None or gpu.temperature_margin is not None or gpu.temperature_limits.keys() & LIMITS:
        return gpu
    return replace(gpu, temperature_limits={**gpu.temperature_limits, "assumed": assumed})


def _nothing_to_see(gpus: Gpus) -> Exception:
    if gpus.nvidia:
        reason = "no_source" if gpus.library else "no_library"
        return Blind(reason, f"the driver does not show the card at {gpus.nvidia[0].address}; `gpu_driver` tells why")
    if not gpus.bus:
        return Blind("platform", "NVML shows no card, and nobody may look at the PCI bus here")
    return NotApplicable("no_gpu")


def _line(process: GpuProcess) -> str:
    memory = "" if process.memory is None else f"{process.memory // 2**20} MiB"
    return f"{process.pid:>8}  {process.kind:<8}  {memory:>10}  {process.name or '(of another pid namespace)'}"


PROBE = Probe(
    "gpu",
    GpuParams,
    run,
    metrics=METRICS,
    rules=(*CARD_RULES, NVML_FAILED, CRITICAL, WARNING),
    every="5s",
    timeout="5s",
    examples=recorded(__file__),
)
