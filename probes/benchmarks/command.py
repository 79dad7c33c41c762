"""What does a program of your own take, and what does it say: your generation, your training, your plugin?"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress

from pydantic import BaseModel, FiniteFloat

from probes.api import (
    Blind,
    Conditions,
    Evidence,
    Fact,
    Identity,
    Json,
    Needs,
    NotApplicable,
    Probe,
    Row,
    SubjectFailed,
    World,
    card_of,
    energy_of,
    recorded,
)
from probes.benchmarks import command_rules as rules
from probes.benchmarks.command_figures import performance, written
from probes.benchmarks.command_params import CommandParams

QUOTED = 300  # characters of its last lines in a finding
WARNING, CRITICAL, UNKNOWN = 1, 2, 3  # exit codes of a plugin: https://www.monitoring-plugins.org/doc/guidelines.html
ON_CARD = {"vram": rules.VRAM, "utilization": rules.BUSY, "power": rules.POWER}
OURS = "worker memory"  # of the worker, which is not the program


class Said(BaseModel):
    """What the worker says of the program; ValidationError when it does not say all of it."""

    code: int
    why: str
    seconds: FiniteFloat
    peak_rss: int | None
    head: str
    last: str
    figures: Mapping[str, FiniteFloat | None]
    missing: Mapping[str, str]
    rows: str


def run(params: CommandParams, world: World) -> Iterator[Fact]:
    if not params.command:
        raise NotApplicable("no_generator", "no generator configured: name it in the check's `command:`")
    card = card_of(world, params.device, params.gpu)
    sent = params.sent(os.path.expanduser(params.directory))
    seen: dict[str, Json] = {}
    try:
        for row in world.worker("command", sent, interpreter=params.interpreter or "self", gpu=card):
            if row.kind == "data":
                seen.update(row.data)
            elif row.kind == "start":
                known = {"revision": row.data.get("revision"), "uuid": row.data.get("uuid")}
                yield Identity({name: str(value) for name, value in known.items() if value})
                yield Conditions({"python": str(row.data.get("python"))} if params.interpreter else {})
            elif row.kind == "end":
                yield from _surroundings(row, str(seen.get("torch") or ""))
    except SubjectFailed as stop:
        if stop.finding.rule != "worker-late":
            raise
        if isinstance(peak := seen.get("peak_rss"), int):
            yield rules.RSS(peak)
        yield Evidence("worker log", stop.evidence)
        yield from stop.facts
        yield rules.TIMEOUT(f"{stop.finding.detail}: {_last_lines(stop.evidence)}")
        return
    yield from _judge(params, Said.model_validate(seen))


def _surroundings(end: Row, torch: str) -> Iterator[Fact]:
    """What the parent saw of the card meanwhile."""
    card, conditions, evidence = (_object(end.data.get(key)) for key in ("card", "conditions", "evidence"))
    for name, metric in ON_CARD.items():
        if isinstance(value := card.get(name), int | float):
            yield metric(value)
    told = {**conditions, "torch": torch, "vram_of": card.get("vram_of", "")}
    yield Conditions({name: str(value) for name, value in told.items() if value})
    yield from (Evidence(name, str(text)) for name, text in evidence.items() if text and name != OURS)
    yield from energy_of(end)


def _judge(params: CommandParams, said: Said) -> Iterator[Fact]:
    plugin = params.answers == "nagios"
    if plugin and said.code == UNKNOWN:
        raise Blind("no_source", f"the plugin answers UNKNOWN: {_last_lines(said.head or said.last)}")
    yield rules.EXIT(said.code)
    if said.peak_rss:
        yield rules.RSS(said.peak_rss)
    if said.code not in ((0, WARNING, CRITICAL) if plugin else (0,)):
        yield rules.FAILED(f"{_ended(said)}: {_last_lines(said.last)}")
        return
    yield rules.WALL(said.seconds)
    yield from _figures(said, performance(said.head) if plugin else {})
    if plugin and said.code:
        yield (rules.WARNED if said.code == WARNING else rules.FAILED)(_last_lines(said.head.partition("|")[0]))


def _figures(said: Said, others: Mapping[str, float]) -> Iterator[Fact]:
    own, wrong = written(said.rows)
    declared = {name: value for name, value in said.figures.items() if value is not None}
    for name, value in {**others, **own, **declared}.items():
        yield rules.FIGURE(value, figure=name)
    for name in (name for name in said.figures if name not in declared):
        yield rules.MISSING(said.missing.get(name, ""), subject=name)
    if wrong:
        yield rules.MISSING(wrong, subject="rows")


def _ended(said: Said) -> str:
    if said.why:
        return f"it does not start: {said.why}"
    with suppress(ValueError):
        if said.code < 0:
            return f"ended by {signal.Signals(-said.code).name}"
    return f"exit code {said.code}"


def _last_lines(text: str) -> str:
    """The end of what it said, fit for a finding."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ending = " / ".join(lines[-3:])[-QUOTED:]
    return "".join(c if c.isprintable() else "?" for c in ending) or "it said nothing"


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


PROBE = Probe(
    "command",
    CommandParams,
    run,
    metrics=rules.METRICS,
    rules=rules.RULES,
    every="6h",
    timeout="30m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
