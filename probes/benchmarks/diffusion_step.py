"""How long do the parts of one denoising step of a text-to-video model take on this card, and what do they need?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from probes.api import (
    BenchmarkParams,
    Fact,
    Measurement,
    Metric,
    Needs,
    Probe,
    Progress,
    World,
    benchmark,
    card_of,
    recorded,
)
from probes.world.gpus import Gpu

SHORTEST = 0.5  # seconds: rows arrive up to a quarter of a second late
NOT_A_VIDEO = "Not the time of a video: that is all layers times all steps, and more."


class DiffusionStepParams(BenchmarkParams):
    sizes: tuple[Literal["480p", "720p", "1080p"], ...] = Field(
        (),
        description="Pictures of 480x832, 720x1280 and 1088x1920, 81 each; empty for what suits the card's class "
        "(all from 40 GiB on, the two smaller from 20 GiB on, else the smallest; on the CPU a 64th of it, labelled so).",
    )


LAYER = Metric(
    "layer_seconds",
    f"Time of one of the transformer's layers in one step: Wan2.1 1.3B's shape, random weights. {NOT_A_VIDEO}",
    ("size", "device"),
    better="lower",
)
DECODE = Metric(
    "decode_seconds",
    f"Time in which the VAE's decoder makes four frames of one latent picture, random weights. {NOT_A_VIDEO}",
    ("size", "device"),
    better="lower",
)
PEAK = Metric(
    "peak_memory_bytes",
    "Most VRAM that torch held for one layer, or one decode: weights, tokens and what lies between.",
    ("part", "size"),
    better="lower",
)
ENERGY = Metric(
    "energy_joules",
    "Energy that one layer, or one decode, takes: the card's mean power while it was measured, times its seconds.",
    ("part", "size"),
    better="lower",
)
PARTS = {LAYER.name: "layer", DECODE.name: "decode"}


def run(params: DiffusionStepParams, world: World) -> Iterator[Fact]:
    before = None  # the card when the part that is measured now began
    for fact in benchmark("diffusion_step", params, world, (LAYER, DECODE, PEAK)):
        yield fact
        if isinstance(fact, Progress):
            before = _looked(params, world)
        elif isinstance(fact, Measurement) and fact.metric in PARTS and before is not None:
            watts = _watts(before, _looked(params, world))
            if watts is not None:
                yield ENERGY(watts * fact.value, part=PARTS[fact.metric], size=dict(fact.labels)["size"])


def _looked(params: DiffusionStepParams, world: World) -> tuple[float, Gpu] | None:
    """The card as it is now, and when that is; None on the CPU."""
    uuid = card_of(world, params.device, params.gpu)
    seen = next((gpu for gpu in world.gpus().gpus if uuid and gpu.uuid == uuid and not gpu.error), None)
    return (world.now(), seen) if seen else None


def _watts(before: tuple[float, Gpu], after: tuple[float, Gpu] | None) -> float | None:
    """The mean power in between by the card's counter of energy; cards without one tell the power at the end."""
    if after is None:
        return None
    (began, first), (ended, last) = before, after
    if first.energy is not None and last.energy is not None and ended - began > SHORTEST and last.energy > first.energy:
        return (last.energy - first.energy) / (ended - began)
    return last.power


PROBE = Probe(
    "diffusion_step",
    DiffusionStepParams,
    run,
    metrics=(LAYER, DECODE, PEAK, ENERGY),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
