"""Does video generation meet its targets, in each of several runs? The check `command:video_RESOLUTION` of the config."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from exporter import findings, flags, registry
from exporter.commands.run import one, recording
from exporter.config import Config
from exporter.console import Console, Mistake
from exporter.judge import verdicts
from exporter.machine import Machine
from exporter.result import Check, Result, Target
from exporter.units import human
from probes.api import Json

RUNS = 3  # requirement BEN-06: targets hold in each of them,
VARIATION = 0.10  # and their standard deviation is at most this part of their mean
SECONDS = {"720p": 540, "1080p": 1020}
UNCONFIGURED = "skipped: no generator configured"


def main(args: argparse.Namespace, console: Console) -> int:
    if args.repeat is not None and args.repeat < 1:
        raise Mistake("--repeat takes a number from 1 on")
    probes, machine = registry.load(), Machine(flags.places(args))
    try:
        config = flags.wanted(args, probes, machine)
        console.redact.learn(config.secrets)
        name = f"command:video_{args.resolution}"
        names = (name, name.partition(":")[2])
        check = next((check for check in config.checks if check.name in names), None)
        if check is None:
            return _unconfigured(name, args, console)
        results = _run(check, args, config, machine, console)
        if all(result.skip and result.skip[1] == "no_generator" for result in results):
            return _unconfigured(name, args, console)
    finally:
        machine.close()
    return _told(check, results, args, console)


def _unconfigured(name: str, args: argparse.Namespace, console: Console) -> int:
    """Nothing stands in for the user's own generator: a benchmark of ours is never the time of a whole video."""
    if args.json:
        console.json({"check": name, "outcome": "skipped", "reason": "no generator configured", "results": []})
        return 0
    console.line(UNCONFIGURED, style="skipped")
    console.line("Only your own program can tell how long a video takes. Name it in the config, with what it may take:")
    console.line(example(args.resolution), indent=2)
    return 0


def example(resolution: str) -> str:
    """A check of that name in YAML, with the source systems' targets (BEN-02 to BEN-04)."""
    return f"""\
checks:
  - name: command:video_{resolution}
    probe: command
    every: 1d
    timeout: 30m
    params: {{command: [python, generate.py, --resolution, {resolution}], directory: /path/to/it}}
    targets: [{{metric: wall_seconds, at_most: {SECONDS[resolution]}s}}, {{metric: peak_vram_bytes, at_most: 12GB}}]"""


def _run(
    check: Check, args: argparse.Namespace, config: Config, machine: Machine, console: Console
) -> tuple[Result, ...]:
    number = args.repeat or (RUNS if args.benchmark else 1)
    with recording(args.record, config, (check,)) as journal:
        titles = [f"{check.name} {n + 1}/{number}" for n in range(number)]
        return tuple(one(check, title, machine, config, journal, console) for title in titles)


def _told(check: Check, results: Sequence[Result], args: argparse.Namespace, console: Console) -> int:
    held = _held(check, results)
    unsteady = [entry for entry in held if (entry["variation_ratio"] or 0.0) > VARIATION]  # type: ignore[operator]
    if args.json:
        console.json({"check": check.name, "targets": held, "results": [findings.as_data(run) for run in results]})
    else:
        for result in results:
            findings.tell(result, check.probe, console)
        heads = ("SERIES", "MEDIAN", "TARGET", "MET", "VARIATION")
        console.table(heads, [_row(entry) for entry in held])
        for entry in unsteady:
            console.line(
                f"{entry['series']} varies by more than {VARIATION:.0%} from run to run: it says little",
                style="warning",
            )
    return max(findings.exit_code(results), 1 if unsteady else 0)


def _held(check: Check, results: Sequence[Result]) -> list[dict[str, Json]]:
    """Each targeted series over all runs: its values, the bounds, and in how many runs they held."""
    seen: dict[tuple[str, str], tuple[list[float], list[bool], str]] = {}
    for result in (result for result in results if result.measured):
        for verdict in verdicts(result, check.targets or _measured(check, result)):
            target = verdict.target
            labels = dict(verdict.measurement.labels) if verdict.measurement else dict(target.labels)
            name = ",".join((target.metric, *(f"{k}={v}" for k, v in labels.items())))
            sides = (("at least", target.at_least), ("at most", target.at_most))
            wanted = " and ".join(f"{w} {human(target.metric, bound)}" for w, bound in sides if bound is not None)
            values, met, _ = seen.setdefault((name, wanted), ([], [], target.metric))
            values += [verdict.value] if verdict.value is not None else []
            met.append(verdict.met)
    return [
        {
            "series": name,
            "target": wanted,
            "metric": metric,
            "values": list(values),
            "met": sum(met) if wanted else None,
            "runs": len(met),
            "variation_ratio": _variation(values),
        }
        for (name, wanted), (values, met, metric) in seen.items()
    ]


def _measured(check: Check, result: Result) -> list[Target]:
    """Without targets, what has a better and a worse is shown all the same: runs that differ say little of each other."""
    judged = {metric.name for metric in check.probe.metrics if metric.better}
    return [Target(name) for name in sorted(judged & {m.metric for m in result.measurements})]


def _variation(values: Sequence[float]) -> float | None:
    mean = statistics.fmean(values) if len(values) > 1 else 0.0
    return statistics.stdev(values) / mean if mean else None


def _row(entry: dict[str, Json]) -> tuple[str, ...]:
    values, variation = entry["values"], entry["variation_ratio"]
    middle = statistics.median(values) if isinstance(values, list) and values else None  # type: ignore[type-var]
    shown = "-" if middle is None else human(str(entry["metric"]), float(str(middle)))
    share = "-" if variation is None else f"{float(str(variation)):.1%}"
    met = f"{entry['met']} of {entry['runs']} runs" if entry["target"] else "-"
    return str(entry["series"]), shown, str(entry["target"]) or "none", met, share
