"""What does one run of a check say? The primitive: the schedule and `gpu-canary run` both call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from exporter import runner
from exporter.judge import judge
from exporter.result import Check, Outcome, Result
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from probes.api import Finding, Json
from probes.rules import DEADLINE_MISSED


def execute(
    check: Check, token: Token, doors: Doors, redact: Callable[[str], str], previous: Mapping[str, Json] | None = None
) -> Result:
    """One run of `check`, judged. It records nothing; `previous` is what the check last asked to remember."""
    world = RealWorld(doors, token, previous)
    return judge(runner.run(check, world, token, redact), check.targets)


def late(check: Check, seconds: float) -> Result:
    """The result on behalf of a run that does not even come back after its deadline."""
    detail = f"still not done after {seconds:.0f} s; its timeout is {check.timeout:g} s"
    missed, light = DEADLINE_MISSED(detail), check.lane == "light"
    found = missed if light else Finding(missed.rule, "critical", detail)
    outcome: Outcome = "error" if light else "failed"
    return Result(
        check.name, check.probe.name, time.time() - seconds, seconds, outcome, findings=(found,), detail=detail
    )
