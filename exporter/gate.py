"""May this benchmark have the card now? The idle gate of DESIGN.md section 7, as the schedule asks it before a run."""

from __future__ import annotations

import time

from exporter.result import Check, Result
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from probes.api import GIB, Aborted, Skipped, SubjectFailed, card_of

# What our benchmarks allocate, the CUDA context included: on an ordinary card, and on one of 40 GiB and more, where
# `matmul` takes larger matrices.
NEEDED, LARGE, NEEDED_ON_LARGE = 2 * GIB, 40 * GIB, 5 * GIB


def put_off(check: Check, doors: Doors, token: Token) -> Result | None:
    """The deferred result of a check that wants an idle card and does not get one; None when it may run.

    Without a card the processor is measured, and a card that cannot be asked is for the run itself to report.
    """
    if not check.probe.needs.idle:
        return None
    device, gpu = getattr(check.params, "device", "auto"), getattr(check.params, "gpu", "")
    try:
        world = RealWorld(doors, token)
        uuid = card_of(world, device, gpu)
        card = next((card for card in world.gpus().gpus if card.uuid == uuid), None)
    except (Skipped, SubjectFailed, Aborted):
        return None
    if card is None:
        return None
    idle = doors.gpus.idle(uuid, NEEDED_ON_LARGE if (card.memory_total or 0) >= LARGE else NEEDED)
    if idle.idle:
        return None
    weak = " (gate=weak: its processes cannot be told)" if idle.weak else ""
    detail, reason = f"{idle.reason}{weak}", ("deferred", "gpu_busy")
    return Result(check.name, check.probe.name, time.time(), 0.0, "skipped", skip=reason, detail=detail)
