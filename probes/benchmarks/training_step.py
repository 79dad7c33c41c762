"""How long does a fine-tuning step take on this card, and does a training that was killed go on exactly?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from probes.api import (
    BenchmarkParams,
    Fact,
    Json,
    Metric,
    Needs,
    Probe,
    Rule,
    World,
    benchmark,
    card_of,
    recorded,
)


class TrainingStepParams(BenchmarkParams):
    pass


STEP = Metric(
    "step_seconds",
    "Time of one step that fine-tunes a small U-Net (DreamBooth's shape, 10 million weights): the median of many.",
    ("device",),
    better="lower",
)
HELD = Metric("memory_bytes", "Most VRAM that torch held in each phase of a step.", ("phase",), better="lower")
SAVE = Metric(
    "checkpoint_save_seconds", "Time to write a checkpoint until it is on the disk.", ("device",), better="lower"
)
LOAD = Metric(
    "checkpoint_load_seconds", "Time to read that checkpoint into model and optimizer.", ("device",), better="lower"
)
SIZE = Metric("checkpoint_bytes", "Size of the checkpoint: weights and the optimizer's two moments.", ("device",))
LOSS = Metric(
    "loss_ratio", "Mean loss of the last steps as a part of that of the first; under 1, it learns.", better="lower"
)
METRICS = (STEP, HELD, SAVE, LOAD, SIZE)
DIFFERS = Rule(
    "training-step-resume-differs",
    "critical",
    "A training that was killed and resumed from its checkpoint computes other losses than one that was not.",
    "1. `gpu-canary run training_step` again: other numbers each time mean a card or memory that computes wrongly.\n"
    "2. `gpu-canary run corruption` looks for such a card; `dmesg | grep -i xid` for its faults.\n"
    "3. The same numbers each time: the disk gave back other bytes (`gpu-canary run disk`), or this torch is broken.",
)
NOT_FINITE = Rule(
    "training-step-loss-not-finite",
    "critical",
    "The loss of a training that cannot diverge became infinite or no number.",
    "1. `gpu-canary run corruption` tells whether the card computes wrongly.\n"
    "2. If the card is sound, reinstall torch in that Python: `pip install --force-reinstall torch`.",
)
STAYS = Rule(
    "training-step-loss-stays",
    "warning",
    "The loss of a training on four pictures does not fall.",
    "1. `gpu-canary run training_step` again; the seed is fixed, so a sound machine always learns.\n"
    "2. `gpu-canary run corruption` tells whether the card computes wrongly; else reinstall torch in that Python.",
)


def run(params: TrainingStepParams, world: World) -> Iterator[Fact]:
    def told(data: Mapping[str, Json]) -> Iterator[Fact]:
        subject = card_of(world, params.device, params.gpu)
        whole, resumed = _losses(data["whole"]), _losses(data["resumed"])
        if not all(map(math.isfinite, whole)):
            yield NOT_FINITE(f"losses {_text(whole)}", subject=subject)
            return
        half = len(whole) // 2
        ratio = sum(whole[half:]) / sum(whole[:half])
        yield LOSS(ratio)
        if ratio >= 1:
            yield STAYS(f"losses {_text(whole)}", subject=subject)
        if resumed != whole[-len(resumed) :]:  # bit for bit
            yield DIFFERS(f"losses {_text(resumed)}, without the kill {_text(whole[-len(resumed) :])}", subject=subject)

    yield from benchmark("training_step", params, world, METRICS, told)


def _losses(told: Json) -> list[float]:
    """Losses as the worker writes them, with every bit. ValueError when there are none."""
    found = [float.fromhex(str(loss)) for loss in told] if isinstance(told, list) else []
    if len(found) < 2:
        raise ValueError("the worker told no losses")
    return found


def _text(losses: list[float]) -> str:
    return ", ".join(f"{loss!r}" for loss in losses)


PROBE = Probe(
    "training_step",
    TrainingStepParams,
    run,
    metrics=(*METRICS, LOSS),
    rules=(DIFFERS, NOT_FINITE, STAYS),
    every="24h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True, seconds=30),
    examples=recorded(__file__),
)
