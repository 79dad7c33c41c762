"""What is normal for the benchmarks here, what was normal before, and from when on shall it be?"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter import accepted, detectors, flags, inquiry, registry, selection
from exporter.accepted import Accepted
from exporter.baseline import Key, Past, Run, baseline, differences, of_series, worse_of
from exporter.comparison import series_name
from exporter.console import Console, Mistake
from exporter.detectors import FAST, LEAST
from exporter.history import recall
from exporter.machine import Machine
from exporter.past import Pasts
from exporter.result import Check, Result
from exporter.storage import HISTORY, candidates
from exporter.units import human
from probes.api import Json

SINCE = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Line:
    """One series of one check: its normal now, and under the conditions before these where there were others."""

    check: str
    key: Key
    now: list[float]
    before: list[float]
    changed: str  # what is other than before
    worse: frozenset[int] = frozenset()  # places of `now` that were told as a regression

    @property
    def usual(self) -> Sequence[float]:
        """What the next run will be held against."""
        return detectors.past(self.now, 0, self.worse)

    @property
    def name(self) -> str:
        return series_name(self.key[0], dict(self.key[1]))


def main(args: argparse.Namespace, console: Console) -> int:
    storage, checks = _asked(args, console)
    if args.action == "update":
        return _update(args, storage, checks, console)
    lines = [line for check in checks for line in _lines(check, storage)]
    if not lines:
        raise Mistake(
            f"{storage / HISTORY} holds no run of these checks that counts; `gpu-canary serve` or `bench --record` adds some"
        )
    show, told = (_shown, _normal) if args.action == "show" else (_differing, _difference)
    kept = lines if args.action == "show" else [line for line in lines if line.before]
    if args.json:
        console.json([told(line) for line in kept])
        return 0
    show(kept, console)
    if args.action == "show":
        for name, entry in sorted(accepted.read(storage).items()):
            console.line(f"{name}: from {time.strftime(SINCE, time.localtime(entry.since))} on: {entry.why or '-'}")
    return 0


def _asked(args: argparse.Namespace, console: Console) -> tuple[Path, list[Check]]:
    """Where history is, and the benchmarks of these names, or all."""
    probes, machine = registry.load(), Machine(flags.places(args))
    try:
        config = flags.wanted(args, probes, machine)
    finally:
        machine.close()
    console.redact.learn(config.secrets)
    named = [check for word in args.name for check in selection.selected(word, {}, config, probes)]
    found = {check.name: check for check in named or config.checks if check.keeps_past}
    missing = [check.name for check in named if not check.keeps_past]
    if missing:
        raise Mistake(f"{missing[0]} has no baseline: it is no benchmark")
    given = vars(args)["storage.path"]
    exporter = None if given else inquiry.running(candidates(None, os.environ))
    return Path(exporter.storage if exporter else config.storage.path), list(found.values())


def _lines(check: Check, storage: Path) -> Iterator[Line]:
    """Every judged series, under the conditions of the newest run."""
    entry = accepted.read(storage).get(check.name)
    past = Pasts(lambda name, limit: recall(storage / HISTORY, name, limit), lambda: accepted.read(storage)).of(check)
    if not past.runs:
        return
    newest = past.runs[-1]
    like = Result(
        check.name, check.probe.name, newest.started, 0.0, "ok", identity=newest.identity, conditions=newest.conditions
    )
    now, before = past.comparable(like), past.previous(like)
    if entry and not before:  # what was normal until it was accepted
        before = [run for run in _all(check, storage) if run.started < entry.since and run.identity == newest.identity]
    changed = _changed(before, newest) or ("accepted" if entry and before else "")
    for key in newest.values:
        yield Line(check.name, key, of_series(now, key), of_series(before, key), changed, worse_of(now, key))


def _all(check: Check, storage: Path) -> Sequence[Run]:
    past: Past = Pasts(lambda name, limit: recall(storage / HISTORY, name, limit)).of(check)
    return past.runs


def _changed(before: Sequence[Run], newest: Run) -> str:
    if not before:
        return ""
    pairs = differences(before[-1].conditions, newest.conditions).items()
    return "; ".join(f"{name} {old} -> {new}" for name, (old, new) in sorted(pairs))


def _update(args: argparse.Namespace, storage: Path, checks: Sequence[Check], console: Console) -> int:
    """The newest runs are the new normal: those before them are not compared with any more."""
    fresh: dict[str, Accepted] = {}
    if args.runs < 0:
        raise Mistake("--runs takes a number from 0 on")
    for check in checks if args.name else ():
        runs = recall(storage / HISTORY, check.name, max(args.runs, 1))
        if not runs:
            raise Mistake(f"{storage / HISTORY} holds no run of {check.name}")
        since = min(run.started for run in runs) if args.runs else time.time()
        fresh[check.name] = Accepted(since, args.why or "")
    if not fresh:
        raise Mistake("say which: gpu-canary baseline update matmul --why 'new thermal paste'")
    try:
        accepted.add(storage, fresh)
    except OSError as error:
        owner = "the user that runs the exporter"
        raise Mistake(
            f"{storage} cannot be written: {error.strerror}; do this as {owner}, or give --storage.path"
        ) from None
    if args.json:
        console.json({name: {"since": entry.since, "why": entry.why} for name, entry in fresh.items()})
        return 0
    for name, entry in fresh.items():
        console.line(f"{name}: runs from {time.strftime(SINCE, time.localtime(entry.since))} on are what is normal")
    console.line(f"verdicts begin again with {LEAST + FAST} runs; a running exporter knows it at its next run")
    return 0


# -- what a person sees -----------------------------------------------------------------------------------------------


def _shown(lines: Sequence[Line], console: Console) -> None:
    rows = []
    for line in lines:
        normal = baseline(line.usual)
        spread = f"{normal.mad / abs(normal.median):.2%}" if normal.median else "-"
        told = "regressed" if len(line.now) - 1 in line.worse else ""
        state = told if len(line.now) >= LEAST + FAST else f"too few: {LEAST + FAST} are needed"
        metric = line.key[0]
        rows.append(
            (
                line.check,
                line.name,
                human(metric, normal.median),
                spread,
                str(normal.runs),
                human(metric, line.now[-1]),
                state,
            )
        )
    console.table(("CHECK", "SERIES", "MEDIAN", "SPREAD", "RUNS", "NEWEST", ""), rows)


def _differing(lines: Sequence[Line], console: Console) -> None:
    rows = []
    for line in lines:
        old, new, metric = statistics.median(line.before), statistics.median(line.now), line.key[0]
        change = f"{new / old - 1:+.1%}" if old else "-"
        rows.append((line.check, line.name, human(metric, old), human(metric, new), change, line.changed))
    console.table(("CHECK", "SERIES", "BEFORE", "NOW", "CHANGE", "WHAT CHANGED"), rows)
    if not rows:
        console.line("no benchmark ran under other conditions before")


def _normal(line: Line) -> dict[str, Json]:
    normal = baseline(line.usual)
    return {**_named(line), "median": normal.median, "mad": normal.mad, "runs": normal.runs, "newest": line.now[-1]}


def _difference(line: Line) -> dict[str, Json]:
    before, now = statistics.median(line.before), statistics.median(line.now)
    ratio = now / before - 1 if before else None
    return {**_named(line), "before": before, "now": now, "change_ratio": ratio, "changed": line.changed}


def _named(line: Line) -> dict[str, Json]:
    return {"check": line.check, "metric": line.key[0], "labels": dict(line.key[1])}
