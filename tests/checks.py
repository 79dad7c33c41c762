"""Small probes and checks for tests of the core path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from exporter.registry import NoParams
from exporter.result import Check, Result
from probes.api import Fact, Metric, Needs, Probe, Rule, World

SPEED = Metric("speed_bytes_per_second", "How fast it is.", ("path",), better="higher")
LINES = Metric("lines_total", "Lines seen.", ("class",), kind="events")
SLOW = Rule("toy-slow", "warning", "It is slow.", "1. `true`")
DOWN = Rule("toy-down", "critical", "It is down.", "1. `true`")
NOTE = Rule("toy-note", "info", "It is worth a note.", "1. `true`")


def check(
    run: Callable[[NoParams, World], Iterator[Fact]], name: str = "toy", lane: str = "light", **fields: Any
) -> Check:
    """A check of a toy probe whose run is `run`."""
    needs = Needs(lane)  # type: ignore[arg-type]
    probe = Probe("toy", NoParams, run, (SPEED, LINES), (SLOW, DOWN, NOTE), needs=needs, family="environment")
    return Check(name, probe, NoParams(), fields.pop("every", 60.0), fields.pop("timeout", 5.0), **fields)


def quiet(params: NoParams, world: World) -> Iterator[Fact]:
    """A run that finds nothing."""
    yield SPEED(5.0, path="/a")


def result(name: str = "toy", outcome: str = "ok", started: float | None = None, **fields: Any) -> Result:
    """A Result made by hand."""
    begun = time.time() if started is None else started
    return Result(name, "toy", begun, fields.pop("duration", 0.1), outcome, **fields)  # type: ignore[arg-type]


def eventually(question: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until `question()` is true; AssertionError when it is not in time."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
