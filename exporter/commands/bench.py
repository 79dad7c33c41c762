"""How fast is this machine, beside what is expected, what is usual and what was before? Benchmarks, run now."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter import findings, flags, registry, selection, storage
from exporter.commands.run import one, recording
from exporter.config import Config
from exporter.console import Console, Mistake
from exporter.history import recall
from exporter.machine import Machine
from exporter.registry import Registry
from exporter.result import Check, Result
from exporter.scores import Before, Score, scores, values_of
from exporter.units import human
from probes.api import HOUSE_RULES, Json

FAMILY = "benchmarks"
HEADS = ("CHECK", "SERIES", "VALUE", "EXPECTED", "RATIO", "BASELINE", "VERDICT", "CAUSE")
NONE = "-"


def main(args: argparse.Namespace, console: Console) -> int:
    if args.repeat < 1:
        raise Mistake("--repeat takes a number from 1 on")
    probes, machine = registry.load(), Machine(flags.places(args))
    try:
        config = flags.wanted(args, probes, machine)
        console.redact.learn(config.secrets)
        checks = selected(args.name, args.device, config, probes)
        before = _before(args.compare, checks, config)
        results = _run(args, checks, config, machine, console)
    finally:
        machine.close()
    return _told(checks, results, before, args, console)


def selected(names: Sequence[str], device: str | None, config: Config, probes: Registry) -> tuple[Check, ...]:
    """The benchmarks of those names, all of them without one; Mistake where a name is none."""
    known = [p.name for p in probes.probes.values() if p.family == FAMILY]
    configured = [check.name for check in config.checks if check.family == FAMILY]
    wanted = names or configured or sorted(known)
    given: dict[str, Json] = {"device": device} if device else {}
    found: dict[str, Check] = {}
    for word in wanted:
        for check in selection.selected(word, {}, config, probes):
            if check.family != FAMILY:
                raise Mistake(f"{word} is no benchmark; `gpu-canary run {word}` runs it; these are: {', '.join(known)}")
            fits = given if "device" in type(check.params).model_fields else {}
            found[check.name] = selection.laid(check, fits)
    return tuple(found.values())


def _run(
    args: argparse.Namespace, checks: Sequence[Check], config: Config, machine: Machine, console: Console
) -> list[list[Result]]:
    with recording(args.record, config, tuple(checks)) as journal:
        return [
            [one(check, title, machine, config, journal, console) for title in _titles(check, args.repeat)]
            for check in checks
        ]


def _titles(check: Check, repeat: int) -> list[str]:
    return [f"{check.name} {number}/{repeat}" if repeat > 1 else check.name for number in range(1, repeat + 1)]


# -- what it is held against ------------------------------------------------------------------------------------------


def _before(compare: str | None, checks: Sequence[Check], config: Config) -> Before:
    """The values of `--compare`: of a file that `bench --json` wrote, or of the newest runs in history."""
    if compare is None:
        return {}
    if compare == "last":
        file = Path(config.storage.path) / storage.HISTORY
        known = values_of([run for check in checks for run in recall(file, check.name, 1)])
        if not known:
            raise Mistake(f"--compare last: {file} holds no run of these checks; `bench --record` adds this one")
        return known
    try:
        entries: Any = json.loads(Path(compare).read_text(encoding="utf-8"))
        return {
            (score["check"], (score["metric"], tuple(score["labels"].items()))): float(score["value"])
            for entry in entries
            for score in entry["scores"]
        }
    except OSError as error:
        raise Mistake(
            f"--compare {compare}: {error.strerror}; write it with `gpu-canary bench --json > FILE`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Mistake(f"--compare {compare}: that is not what `gpu-canary bench --json` writes") from None


# -- what a person sees -----------------------------------------------------------------------------------------------


def _told(
    checks: Sequence[Check], results: Sequence[list[Result]], before: Before, args: argparse.Namespace, console: Console
) -> int:
    pairs = [(check, runs, scores(check, runs, before)) for check, runs in zip(checks, results, strict=True)]
    everything = [run for _, runs, _ in pairs for run in runs]
    lost = [score for _, _, made in pairs for score in made if score.lost]
    if args.json:
        console.json([_data(check, runs, made) for check, runs, made in pairs])
    else:
        extra = (*(["SPREAD"] * (args.repeat > 1)), *(["BEFORE", "CHANGE"] * bool(before)))
        rows = [row for check, runs, made in pairs for row in _rows(check, runs, made, extra)]
        console.table((*HEADS[:6], *extra, *HEADS[6:]), rows)
        _explain(pairs, console)
        for score in lost:
            console.line(f"{score.check} {score.name}: {score.change:+.1%} from before", style="warning")
    return max(findings.exit_code(everything), 1 if lost else 0)


def _rows(check: Check, runs: Sequence[Result], made: Sequence[Score], extra: Sequence[str]) -> list[tuple[str, ...]]:
    if not made:
        width = len(HEADS) + len(extra) - 4
        return [(check.name, findings.outcome_of(runs[-1]), *([NONE] * width), runs[-1].outcome, _why(runs[-1]))]
    shown = []
    for score in made:
        asides = {
            "SPREAD": _share(score.spread, ".2%"),
            "BEFORE": _human(score, score.before),
            "CHANGE": _share(score.change, "+.1%"),
        }
        shown.append(
            (
                check.name,
                score.name,
                _human(score, score.value),
                _human(score, score.expected),
                _share(score.ratio, ".0%"),
                _human(score, score.baseline),
                *(asides[head] for head in extra),
                score.verdict or NONE,
                score.cause or NONE,
            )
        )
    return shown


def _human(score: Score, value: float | None) -> str:
    return NONE if value is None else human(score.metric, value)


def _share(share: float | None, shape: str) -> str:
    return NONE if share is None else format(share, shape)


def _why(result: Result) -> str:
    told = result.detail or "; ".join(f.detail for f in result.findings)
    return told.strip().partition("\n")[0][:200] or NONE


def _explain(pairs: Sequence[tuple[Check, list[Result], list[Score]]], console: Console) -> None:
    """What the table leaves open: findings in full, and devices that the expected values say nothing about."""
    unknown = set()
    for check, runs, made in pairs:
        rules = {rule.name: rule for rule in (*HOUSE_RULES, *check.probe.rules)}
        for found in {(f.rule, f.subject): f for run in runs for f in run.findings}.values():
            console.line(check.name)
            findings.tell_finding(found, rules, console)
        if made and not any(score.expected for score in made):
            known = next(run.conditions for run in runs if run.measured)
            unknown.add(known.get("device_name") or f"the {known.get('device', 'device').replace('cpu', 'processor')}")
    for device in sorted(unknown):
        console.line(f"no expected value for {device}: it is judged by its own past alone (`gpu-canary expected`)")


def _data(check: Check, runs: Sequence[Result], made: Sequence[Score]) -> dict[str, object]:
    return {
        "check": check.name,
        "probe": check.probe.name,
        "scores": [score.to_dict() for score in made],
        "results": [findings.as_data(run) for run in runs],
    }
