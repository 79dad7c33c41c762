"""What is normal for this series? Median and spread of the check's own comparable past runs. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.result import Check, Result
from probes.facts import Better
from probes.rules import BELOW_EXPECTED, CONDITIONS_CHANGED, IMPROVED, REGRESSED, TARGET_MISSED

MOST = 60  # runs that a baseline is made of, at most
WINDOW = 136  # measured runs of a check that are remembered: a full baseline and the newest runs, twice
NORMAL = 1.4826  # of a normal distribution, standard deviation = 1.4826 MAD

THROTTLED = re.compile(r"throttled by ([a-z_]+(?:, [a-z_]+)*)")  # of the evidence; exporter/world/load.py
RESIDENTS = re.compile(r"residents: (?!none$)(.+)$")  # of the evidence; exporter/world/watch.py
DETAILS = re.compile(r" \([^)]*\)| and [0-9]+ more$")
VERDICTS = frozenset(rule.name for rule in (TARGET_MISSED, BELOW_EXPECTED, REGRESSED, IMPROVED, CONDITIONS_CHANGED))

Key = tuple[str, tuple[tuple[str, str], ...]]  # short name of the metric, labels


@dataclass(frozen=True, slots=True)
class Baseline:
    """`median` and `mad` (median absolute deviation) in the metric's unit, of so many `runs`."""

    median: float
    mad: float
    runs: int


@dataclass(frozen=True, slots=True)
class Run:
    """What is kept of a measured run for those that come after it. `started` is Unix time."""

    started: float
    identity: Mapping[str, str]
    conditions: Mapping[str, str]
    values: Mapping[Key, float]
    strains: frozenset[str] = frozenset()  # what may have slowed it down
    worse: frozenset[Key] = frozenset()  # series that were told as regressed, against runs under the same conditions


@dataclass(frozen=True)
class Past:
    """Measured runs of a check, oldest first, and which way each of its judged metrics is better."""

    runs: Sequence[Run] = ()
    better: Mapping[str, Better] = field(default_factory=dict)

    def before(self, moment: float) -> Past:
        """The runs that began before that moment (Unix time)."""
        return Past(tuple(run for run in self.runs if run.started < moment), self.better)

    def comparable(self, result: Result) -> list[Run]:
        """The runs of the same identity under the same conditions."""
        return [run for run in self._alike(result) if not differences(run.conditions, result.conditions)]

    def previous(self, result: Result, least: int = 1) -> list[Run]:
        """The runs of the same identity under the newest other conditions that have so many; none where no others have."""
        others = [run for run in self._alike(result) if differences(run.conditions, result.conditions)]
        seen: list[Mapping[str, str]] = []
        for last in (run.conditions for run in reversed(others)):
            if last not in seen:
                seen.append(last)
                found = [run for run in others if not differences(run.conditions, last)]
                if len(found) >= least:
                    return found
        return []

    def _alike(self, result: Result) -> list[Run]:
        return [run for run in self.runs if run.identity == result.identity]


NOTHING = Past()


def baseline(values: Sequence[float]) -> Baseline:
    """Of the newest 60 of the values, which are oldest first. StatisticsError when there is none."""
    newest = values[-MOST:]
    median = statistics.median(newest)
    return Baseline(median, statistics.median(abs(value - median) for value in newest), len(newest))


def quantile(values: Sequence[float], share: float) -> float:
    """Between the two values next to it, as numpy.quantile and Prometheus's quantile_over_time do."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def of_series(runs: Sequence[Run], key: Key) -> list[float]:
    """The values of one series, oldest first; a run that lacks it is left out."""
    return [run.values[key] for run in runs if key in run.values]


def worse_of(runs: Sequence[Run], key: Key) -> frozenset[int]:
    """Which of those values were told as a regression? Their places."""
    having = [run for run in runs if key in run.values]
    return frozenset(place for place, run in enumerate(having) if key in run.worse)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Which conditions are others? Those that one side does not tell (its run ended early) are not known to differ."""
    return {name: (before[name], now[name]) for name in before if name in now and before[name] != now[name]}


def judged_metrics(check: Check) -> dict[str, Better]:
    """The metrics that are judged against the past: a benchmark's, where one direction is better."""
    if check.family != "benchmarks":
        return {}
    return {m.name: m.better for m in check.probe.metrics if m.better is not None and m.kind == "gauge"}


def remembered(result: Result, metrics: Collection[str], before: Run | None = None) -> Run:
    """What to keep of a measured run. What is as in the run before is kept once: that is nearly all but the numbers."""
    keys = {key: key for key in before.values} if before else {}
    measured = [(m.metric, m.labels, m.value) for m in result.measurements if m.metric in metrics]
    values = {keys.get((metric, labels), (metric, labels)): value for metric, labels, value in measured}
    identity, conditions, strained = result.identity, result.conditions, frozenset(strains(result))
    if before is not None:
        identity = before.identity if before.identity == identity else identity
        conditions = before.conditions if before.conditions == conditions else conditions
        strained = before.strains if before.strains == strained else strained
    return Run(result.started, identity, conditions, values, strained, _worse(result))


def _worse(result: Result) -> frozenset[Key]:
    """What was worse than its own past. Under new conditions nothing is: they begin a baseline whatever its level."""
    if any(found.rule == CONDITIONS_CHANGED.name for found in result.findings):
        return frozenset()
    return frozenset((c.metric, c.labels) for c in result.comparisons if c.state == "regressed")


def strains(result: Result) -> list[str]:
    """What was seen in a run that may have slowed it down: throttling, other processes, findings of the probe."""
    seen = THROTTLED.search(result.evidence.get("card under load", ""))
    found = [f"throttled by {reason}" for reason in seen[1].split(", ") if reason != "nothing"] if seen else []
    found += [f.rule for f in result.findings if f.severity != "info" and f.rule not in VERDICTS]
    beside = RESIDENTS.search(result.evidence.get("idle gate", ""))
    # by name, each alone: a pid, a size or another order would make each run unusual, and one newcomer all of them
    found += [f"beside {name}" for name in DETAILS.sub("", beside[1]).split(", ")] if beside else []
    return list(dict.fromkeys(found))
