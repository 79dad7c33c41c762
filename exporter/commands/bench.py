"""How fast is this machine, beside what is expected, what is usual and what was before? Benchmarks, run now."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from exporter import findings, flags, registry, selection, storage
from exporter.commands.run import one, recording
from exporter.config import Config
from exporter.console import Console, Mistake, Row
from exporter.history import recall
from exporter.machine import Machine
from exporter.registry import Registry
from exporter.result import Check, Result
from exporter.scores import Before, Score, gone, ordered, scores, success, values_of
from exporter.units import human
from probes.api import HOUSE_RULES, Json

FAMILY = "benchmarks"
HEADS = ("CHECK", "SERIES", "VALUE", "EXPECTED", "RATIO", "BASELINE", "VERDICT", "CAUSE")
MAY_BE_ABSENT = ("EXPECTED", "RATIO", "BASELINE", "SPREAD", "CAUSE")  # where every row would show a dash
NONE = "-"
DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?")


def main(args: argparse.Namespace, console: Console) -> int:
    if args.repeat < 1:
        raise Mistake("--repeat takes a number from 1 on")
    probes, machine = registry.load(), Machine(flags.places(args))
    try:
        config = flags.wanted(args, probes, machine)
        console.redact.learn(config.secrets)
        checks = selected(args.name, args.device, config, probes)
        before = _before(args.compare, checks, config)
        results: list[list[Result]] = []
        try:
            _run(args, checks, results, config, machine, console)
        except KeyboardInterrupt:
            _told(checks, results, before, args, console)  # what minutes went into is not lost
            raise
    finally:
        machine.close()
    return _told(checks, results, before, args, console)


def selected(names: Sequence[str], device: str | None, config: Config, probes: Registry) -> tuple[Check, ...]:
    """The benchmarks of those names, all of them without one; Mistake where a name is none."""
    known = [p.name for p in probes.probes.values() if p.family == FAMILY]
    configured = [check.name for check in config.checks if check.family == FAMILY]
    wanted = names or configured or sorted(known)
    found: dict[str, Check] = {}
    for word in wanted:
        for check in selection.selected(word, {}, config, probes):
            if check.family != FAMILY:
                raise Mistake(f"{word} is no benchmark; `gpu-canary run {word}` runs it; these are: {', '.join(known)}")
            found[check.name] = check
    return _on(device, tuple(found.values())) if device else tuple(found.values())


def _on(device: str, checks: Sequence[Check]) -> tuple[Check, ...]:
    """The same checks on that device, each question once: two cards' `matmul` are one on the processor, and one on a card."""
    if not DEVICE.fullmatch(device):
        raise Mistake(f"--device {device}: it is auto, cpu, cuda, or one card, like cuda:1")
    kind, named, card = device.partition(":")
    gpu = "" if card == "0" else card  # the first is what an empty name means
    given: dict[str, Json] = {"device": kind, **({"gpu": gpu} if named or kind == "cpu" else {})}
    chosen: dict[tuple[str, str], Check] = {}
    for check in checks:
        fields = type(check.params).model_fields
        placed = selection.laid(check, {name: value for name, value in given.items() if name in fields})
        question = (check.probe.name, placed.params.model_dump_json())
        if question not in chosen or getattr(check.params, "gpu", "") == gpu:
            chosen[question] = placed
    return tuple(chosen.values())


def _run(
    args: argparse.Namespace,
    checks: Sequence[Check],
    results: list[list[Result]],
    config: Config,
    machine: Machine,
    console: Console,
) -> None:
    """All runs, check by check; `results` grows as they end."""
    with recording(args.record, config, tuple(checks)) as journal:
        for at, check in enumerate(checks, 1):
            results.append([])
            for number in range(1, args.repeat + 1):
                place = f"{at} of {len(checks)}: " if len(checks) > 1 else ""
                again = f" {number}/{args.repeat}" if args.repeat > 1 else ""
                results[-1].append(one(check, f"{place}{check.name}{again}", machine, config, journal, console))


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
    saved = _saved(Path(compare))
    if not {check for check, _ in saved} & {check.name for check in checks}:
        raise Mistake(f"--compare {compare}: it holds no value of these checks; name those that it was written with")
    return saved


def _saved(file: Path) -> Before:
    """What a file says that `bench --json` wrote; Mistake for any other."""
    known = {}
    try:
        for entry in json.loads(file.read_text(encoding="utf-8")):
            for score in entry["scores"]:
                series = ordered(str(score["metric"]), ((str(k), str(v)) for k, v in score["labels"].items()))
                known[str(score["check"]), series] = value = float(score["value"])
                if not math.isfinite(value):
                    raise ValueError(f"{value} is no measurement")
    except OSError as error:
        raise Mistake(f"--compare {file}: {error.strerror}; write it with `gpu-canary bench --json > FILE`") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise Mistake(f"--compare {file}: that is not what `gpu-canary bench --json` writes") from None
    return known


# -- what a person sees -----------------------------------------------------------------------------------------------


def _told(
    checks: Sequence[Check], results: Sequence[list[Result]], before: Before, args: argparse.Namespace, console: Console
) -> int:
    done = [(check, runs) for check, runs in zip(checks, results, strict=False) if runs]  # not all after a Ctrl-C
    pairs = [(check, runs, scores(check, runs, before)) for check, runs in done]
    everything = [run for _, runs, _ in pairs for run in runs]
    lost = [score for _, _, made in pairs for score in made if score.lost]
    absent = [(check.name, name) for check, _, made in pairs for name in gone(check, made, before)]
    if args.json:
        console.json([{**_data(check, runs, made), "gone": gone(check, made, before)} for check, runs, made in pairs])
    else:
        extra = (*(["SPREAD"] * (args.repeat > 1)), *(["BEFORE", "CHANGE"] * bool(before)))
        rows = [row for check, runs, made in pairs for row in _rows(check, runs, made, extra)]
        console.table(*_narrow((*HEADS[:6], *extra, *HEADS[6:]), rows))
        _explain(pairs, console)
        for score in lost:
            change = f"{score.change:+.1%}" if score.change is not None else _human(score, score.value)
            console.line(f"{score.check} {score.name}: {change} from before", style="warning")
        for check_name, name in absent:
            console.line(f"{check_name} {name}: measured before, and not now", style="warning")
    return max(findings.exit_code(everything), 1 if lost or absent else 0)


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


def _narrow(heads: Sequence[str], rows: Sequence[Row]) -> tuple[Row, list[Row]]:
    """The table without the columns that nobody has anything to say in, so that it fits a terminal."""
    kept = [at for at, head in enumerate(heads) if head not in MAY_BE_ABSENT or any(row[at] != NONE for row in rows)]
    return [heads[at] for at in kept], [[row[at] for at in kept] for row in rows]


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
            unknown.add(known.get("device_name") or known.get("device", "").replace("cpu", "the processor"))
    for device in sorted(filter(None, unknown)):  # a disk, or a program of one's own, has none
        console.line(f"no expected value for {device}: it is judged by its own past alone (`gpu-canary expected`)")


def _data(check: Check, runs: Sequence[Result], made: Sequence[Score]) -> dict[str, object]:
    return {
        "check": check.name,
        "probe": check.probe.name,
        "success_ratio": success(runs),
        "scores": [score.to_dict() for score in made],
        "results": [findings.as_data(run) for run in runs],
    }
