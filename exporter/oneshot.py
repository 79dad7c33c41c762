"""What does one run of a check say? The primitive: the schedule and `gpu-canary run` both call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from exporter import runner
from exporter.baseline import NOTHING, Past
from exporter.expected import held
from exporter.judge import judge
from exporter.result import Check, Outcome, Result
from exporter.world.claims import claimed
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from probes.api import Aborted, Finding, Json, Skipped, SubjectFailed, cards_of
from probes.rules import DEADLINE_MISSED


def execute(
    check: Check,
    token: Token,
    doors: Doors,
    redact: Callable[[str], str],
    previous: Mapping[str, Json] | None = None,
    *,
    past: Callable[[], Past] = lambda: NOTHING,
    attended: Callable[[Callable[[], Result]], Result] = lambda run: run(),
) -> Result:
    """One run of `check`, judged. It records nothing; `previous` is what the check last asked to remember.

    past: the runs that it is judged by, asked for when there is something to judge. attended: who lets it run, and watches.
    """
    result = attended(lambda: _run(check, token, doors, redact, previous))
    if not result.measured:  # who put it off may quote what he asked
        return replace(result, detail=redact(result.detail))
    return judge(held(result), check.targets, past())


def _run(
    check: Check, token: Token, doors: Doors, redact: Callable[[str], str], previous: Mapping[str, Json] | None
) -> Result:
    world = RealWorld(doors, token, previous)
    if not check.probe.needs.idle:
        return runner.run(check, world, token, redact)
    with ExitStack() as claims:
        for card in _cards(check, world) or ("",):
            holder = claims.enter_context(claimed(card, check.name, doors.places.locks))
            if holder:
                what = f"{'the card' if card else 'the processor'} is measured by {holder}"
                skip = ("deferred", "other_run")
                return Result(check.name, check.probe.name, time.time(), 0.0, "skipped", skip=skip, detail=what)
        return runner.run(check, world, token, redact)


def _cards(check: Check, world: RealWorld) -> Sequence[str]:
    """The cards whose turn this run takes; what is wrong with them is for the run itself to report."""
    try:
        return cards_of(world, check.params)
    except (Skipped, SubjectFailed, Aborted):
        return ()


def late(check: Check, seconds: float) -> Result:
    """The result on behalf of a run that does not even come back after its deadline."""
    detail = f"still not done after {seconds:.0f} s; its timeout is {check.timeout:g} s"
    missed, light = DEADLINE_MISSED(detail), check.lane == "light"
    found = missed if light else Finding(missed.rule, "critical", detail)
    outcome: Outcome = "error" if light else "failed"
    return Result(
        check.name, check.probe.name, time.time() - seconds, seconds, outcome, findings=(found,), detail=detail
    )
