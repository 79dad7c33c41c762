"""What did benchmarks reach, beside what was expected, what is usual and what was before? Pure: the lines of a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from exporter.baseline import quantile
from exporter.comparison import floor_of, series_name
from exporter.result import Check, Comparison, Result
from probes.api import Json
from probes.facts import Better
from probes.rules import BELOW_EXPECTED, TARGET_MISSED

LOSS = 0.1  # of the value before; natural spread is below 4 %, an older software stack was 10 % slower: DECISIONS.md
SEEN = "seen with it: "  # in the detail of a finding that names a cause

Series = tuple[str, tuple[tuple[str, str], ...]]  # metric, labels
Before = Mapping[tuple[str, Series], float]  # (check, series) -> value; the labels in the order of their names


@dataclass(frozen=True, slots=True)
class Score:
    """One series of one check. `value` is the median of `values`, one for each run; None: there is no such thing."""

    check: str
    metric: str
    labels: tuple[tuple[str, str], ...]
    better: Better | None  # None: neither direction is, and nothing is lost
    value: float
    values: tuple[float, ...]
    expected: float | None
    baseline: float | None
    verdict: str
    cause: str
    before: float | None

    @property
    def name(self) -> str:
        return series_name(self.metric, dict(self.labels))

    @property
    def spread(self) -> float | None:
        """Median distance from the median, in parts of it; None for a single run."""
        if len(self.values) < 2 or not self.value:
            return None
        return statistics.median(abs(value - self.value) for value in self.values) / abs(self.value)

    @property
    def ratio(self) -> float | None:
        return self.value / self.expected if self.expected else None

    @property
    def change(self) -> float | None:
        """From the value before, in parts of it."""
        return self.value / self.before - 1 if self.before else None

    @property
    def lost(self) -> bool:
        """Is it worse than before by more than LOSS, and by what matters?"""
        if self.better is None or self.before is None:
            return False
        worse = self.before - self.value if self.better == "higher" else self.value - self.before
        return worse > max(LOSS * abs(self.before), floor_of(self.metric))

    def to_dict(self) -> dict[str, Json]:
        data: dict[str, Json] = {**asdict(self), "labels": dict(self.labels), "values": list(self.values)}
        over_runs: dict[str, Json] = {"min": min(self.values), "mean": statistics.fmean(self.values)}
        over_runs |= {"max": max(self.values), **{f"p{q}": quantile(self.values, q / 100) for q in (50, 95, 99)}}
        asides = {"spread_ratio": self.spread, "expected_ratio": self.ratio, "change_ratio": self.change}
        return {**data, "statistics": over_runs, **asides}


def scores(check: Check, results: Sequence[Result], before: Before) -> list[Score]:
    """A line for each series that has a better and a worse, of the runs that measured; the newest tells the verdict. Then
    one for what each card used."""
    better = {metric.name: metric.better for metric in check.probe.metrics}
    seen: dict[Series, list[float]] = {}
    for m in (m for result in results if result.measured for m in result.measurements if better.get(m.metric)):
        seen.setdefault((m.metric, m.labels), []).append(m.value)
    newest = next((result for result in reversed(results) if result.measured), None)
    made = []
    for series, values in seen.items():
        side = better[series[0]]
        if newest is not None and side is not None:
            compared = next((c for c in newest.comparisons if (c.metric, c.labels) == series), None)
            expected = next((e.value for e in newest.expectations if (e.metric, e.labels) == series), None)
            verdict, cause = _verdict(newest, series, compared)
            known = before.get((check.name, ordered(*series)))
            median, usual = statistics.median(values), compared.median if compared else None
            made.append(Score(check.name, *series, side, median, tuple(values), expected, usual, verdict, cause, known))
    return [*made, *_energy(check, results, before)]


def _energy(check: Check, results: Sequence[Result], before: Before) -> Iterator[Score]:
    used: dict[Series, list[float]] = {}
    for series, joules in (pair for result in results if result.measured for pair in _joules(result)):
        used.setdefault(series, []).append(joules)
    for series, values in used.items():
        known = before.get((check.name, ordered(*series)))
        yield Score(check.name, *series, None, statistics.median(values), tuple(values), None, None, "", "", known)


def _joules(result: Result) -> Iterator[tuple[Series, float]]:
    """What each card used, as a series; its index tells people more than its uuid."""
    return ((("benchmark_energy_joules", (("gpu", str(used.gpu)),)), used.joules) for used in result.energy)


def _verdict(result: Result, series: Series, compared: Comparison | None) -> tuple[str, str]:
    """The worst that is said of a series, and the cause that was seen."""
    subject = series_name(series[0], dict(series[1]))
    found = {finding.rule: finding.detail for finding in result.findings if finding.subject == subject}
    cause = compared.cause if compared else ""
    if not cause:
        cause = next((d.partition(SEEN)[2] for d in found.values() if SEEN in d), "")
    if TARGET_MISSED.name in found:
        return "target missed", cause
    if compared and compared.state == "regressed":
        return "regressed", cause
    if BELOW_EXPECTED.name in found:
        return "below expected", cause
    return (compared.state.replace("_", " "), cause) if compared else ("", cause)


def values_of(results: Sequence[Result]) -> dict[tuple[str, Series], float]:
    """What these results measured, to be held against: the newest of each check wins."""
    measured = [result for result in results if result.measured]
    known = {(r.check, ordered(m.metric, m.labels)): m.value for r in measured for m in r.measurements}
    return known | {(r.check, ordered(*series)): joules for r in measured for series, joules in _joules(r)}


def success(results: Sequence[Result]) -> float | None:
    """Which share of the runs that measured did not fail; None where none measured."""
    measured = [result for result in results if result.measured]
    return sum(result.outcome != "failed" for result in measured) / len(measured) if measured else None


def ordered(metric: str, labels: Iterable[tuple[str, str]]) -> Series:
    """A series by which values are found, in whatever order its labels were written."""
    return metric, tuple(sorted(labels))


def gone(check: Check, made: Sequence[Score], before: Before) -> list[str]:
    """Which series with a better and a worse were measured before, and now are not? Their names."""
    judged = {metric.name for metric in check.probe.metrics if metric.better}
    now = {ordered(score.metric, score.labels) for score in made}
    known = (series for name, series in before if name == check.name and series[0] in judged)
    return [series_name(metric, dict(labels)) for metric, labels in known if (metric, labels) not in now]
