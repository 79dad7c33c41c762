"""May this benchmark have the card now? The idle gate of DESIGN.md section 7, as the schedule asks it before a run."""

from __future__ import annotations

import time

from exporter.result import Check, Result
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from probes.api import GIB, Aborted, Skipped, SubjectFailed, card_of

NEEDED = 2 * GIB  # what the largest of our benchmarks allocates on an 8 GB card


def put_off(check: Check, doors: Doors, token: Token) -> Result | None:
    """The deferred result of a check that wants an idle card and does not get one; None when it may run.

    Without a card the processor is measured, and a card that cannot be asked is for the run itself to report.
    """
    if not check.probe.needs.idle:
        return None
    device, gpu = getattr(check.params, "device", "auto"), getattr(check.params, "gpu", "")
    try:
        uuid = card_of(RealWorld(doors, token), device, gpu)
    except (Skipped, SubjectFailed, Aborted):
        return None
    if not uuid:
        return None
    idle = doors.gpus.idle(uuid, NEEDED)
    if idle.idle:
        return None
    weak = " (gate=weak: its processes cannot be told)" if idle.weak else ""
    detail, reason = f"{idle.reason}{weak}", ("deferred", "gpu_busy")
    return Result(check.name, check.probe.name, time.time(), 0.0, "skipped", skip=reason, detail=detail)
