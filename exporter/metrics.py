"""What does a scrape see? Latest results to exposition text; the only importer of prometheus_client.

A result's families are rendered once, when it arrives, by that library's own exposition; here lie the ready blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from exporter.judge import verdicts
from exporter.result import OUTCOMES, Check, Latest, Result
from probes.api import Finding, Measurement
from probes.rules import SERIES_DROPPED, TARGET_MISSED

PREFIX = "gpucanary_"
go_number: Callable[[float], str] = floatToGoString
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
HISTOGRAM_UP_TO = 300.0  # slower checks get no duration histogram: too few runs to fill one
MEASURED_SERIES_LIMIT = 500
SUBJECTS_LIMIT = 20

TARGET_FAMILIES = {
    "value": "The measurement a target is held against.",
    "upper": "The most a target allows.",
    "lower": "The least a target allows.",
    "met": "1 while a target is met; 0 also when nothing was measured.",
}

TEXT_SUFFIX = {"counter": "_total", "info": "_info"}  # what text format 0.0.4 appends to a family's name

Key = tuple[str, tuple[tuple[str, str], ...]]
Blocks = dict[str, tuple[bytes, bytes]]  # family -> (HELP and TYPE lines, sample lines)


@dataclass
class CheckCounts:
    """What is counted about one check since the process started."""

    runs: Counter[str] = field(default_factory=Counter)
    skips: Counter[tuple[str, str]] = field(default_factory=Counter)
    events: dict[Key, float] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def count(self, check: Check, result: Result) -> None:
        """Take one run into account."""
        self.runs[result.outcome] += 1
        if result.skip:
            self.skips[result.skip] += 1
        else:
            slot = next((i for i, bound in enumerate(BUCKETS) if result.duration <= bound), len(BUCKETS))
            self.buckets[slot] += 1
            self.seconds += result.duration
        for m in result.measurements if result.measured else ():
            metric = check.probe.metric(m.metric)
            if metric is not None and metric.kind == "events":
                self.events[m.metric, m.labels] = self.events.get((m.metric, m.labels), 0.0) + m.value


class Collector(Protocol):
    def collect(self) -> Iterable[Metric]: ...


class Renderer:
    """The families of a collector as prometheus_client prints them in text format 0.0.4, one block each.

    That library spends 8 us on a line, nearly all on names and labels that stay the same from run to run. So each line's
    beginning is taken from its output once; later only the number is written anew, by the library's own formatter.
    """

    def __init__(self) -> None:
        self._headers: dict[str, bytes] = {}
        self._beginnings: dict[Key, str] = {}

    def __call__(self, collector: Collector) -> Blocks:
        used: dict[Key, str] = {}
        blocks: Blocks = {}
        for family in collector.collect():
            keys: list[Key] = [(sample.name, tuple(sample.labels.items())) for sample in family.samples]
            if any(key not in self._beginnings for key in keys) or not keys:
                self._learn(family, keys)
            lines = [f"{self._beginnings[k]} {go_number(s.value)}\n" for k, s in zip(keys, family.samples, strict=True)]
            used.update((key, self._beginnings[key]) for key in keys)
            name = f"{family.name}{TEXT_SUFFIX.get(family.type, '')}"
            blocks[name] = (self._headers[name], "".join(lines).encode())
        self._beginnings = used
        return blocks

    def _learn(self, family: Metric, keys: Sequence[Key]) -> None:
        registry = _Only(family)
        help_line, type_line, *lines = generate_latest(registry).decode().splitlines(keepends=True)
        self._headers[help_line.split(" ", 3)[2].rstrip()] = (help_line + type_line).encode()
        for key, line in zip(keys, lines, strict=True):
            self._beginnings[key] = line.rpartition(" ")[0]


@dataclass(frozen=True)
class _Only:
    """A registry of one family."""

    family: Metric

    def collect(self) -> tuple[Metric]:
        return (self.family,)


@dataclass(eq=False)
class CheckCollector:
    """Every series of one check: the house's own, its findings and targets, and what its probe measured."""

    check: Check
    counts: CheckCounts
    latest: Latest | None = None

    def collect(self) -> Iterator[Metric]:
        yield from self._about_the_check()
        if self.latest is not None:
            yield from self._about_the_last_run(self.latest)
            yield from self._findings(self.latest)
        if self.latest is not None and self.latest.measured is not None:
            yield from self._targets(self.latest.measured)
            yield from self._measurements(self.latest.measured)

    def _gauge(
        self, name: str, documentation: str, *samples: tuple[Sequence[str], float], labels: Sequence[str] = ()
    ) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}{name}", documentation, labels=("check", *labels))
        for values, number in samples:
            family.add_metric((self.check.name, *values), number)
        return family

    def _about_the_check(self) -> Iterator[Metric]:
        check = self.check
        info = InfoMetricFamily(f"{PREFIX}check", "A configured check, its probe and its family.", labels=("check",))
        info.add_metric((check.name,), {"probe": check.probe.name, "family": check.family})
        yield info
        yield self._gauge(
            "check_interval_seconds", "Time between two runs while the check does not fail.", ((), check.every)
        )
        yield self._gauge(
            "check_confirm_runs", "Failed runs in a row after which alerts may believe them.", ((), check.confirm)
        )
        if check.objective is not None:
            yield self._gauge("objective_ratio", "Share of runs that shall be ok.", ((), check.objective))
        runs = CounterMetricFamily(
            f"{PREFIX}check_runs", "Runs since the process started.", labels=("check", "outcome")
        )
        for outcome in OUTCOMES:
            runs.add_metric((check.name, outcome), self.counts.runs[outcome])
        yield runs
        skips = CounterMetricFamily(f"{PREFIX}check_skips", "Skipped runs.", labels=("check", "class", "reason"))
        for (skip_class, reason), number in sorted(self.counts.skips.items()):
            skips.add_metric((check.name, skip_class, reason), number)
        yield skips
        if check.every <= HISTOGRAM_UP_TO:
            yield self._durations()

    def _durations(self) -> Metric:
        total, buckets = 0, []
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), self.counts.buckets, strict=True):
            total += number
            buckets.append((bound, total))
        family = HistogramMetricFamily(f"{PREFIX}check_duration_seconds", "How long runs took.", labels=("check",))
        family.add_metric((self.check.name,), buckets, self.counts.seconds)
        return family

    def _about_the_last_run(self, latest: Latest) -> Iterator[Metric]:
        last = latest.last
        states = [((outcome,), float(last.outcome == outcome)) for outcome in OUTCOMES]
        yield self._gauge(
            "check_outcome", "Outcome of the last run: 1 for the one it is.", *states, labels=("outcome",)
        )
        yield self._gauge("check_last_duration_seconds", "How long the last run took.", ((), last.duration))
        yield self._gauge("check_last_run_timestamp_seconds", "When the last run began.", ((), last.started))
        yield self._gauge("check_consecutive_failures", "Failed runs in a row.", ((), latest.failures))
        if latest.measured:
            about = "When the run began whose measurements are shown."
            yield self._gauge("check_last_measured_timestamp_seconds", about, ((), latest.measured.started))
        if latest.succeeded is not None:
            yield self._gauge(
                "check_last_success_timestamp_seconds", "When the last ok run began.", ((), latest.succeeded)
            )

    def _findings(self, latest: Latest) -> Iterator[Metric]:
        shown = latest.measured or latest.last
        findings = list(shown.findings)
        dropped = len(shown.measurements) - MEASURED_SERIES_LIMIT
        if dropped > 0:
            findings.append(SERIES_DROPPED(f"{dropped} series over the limit of {MEASURED_SERIES_LIMIT}"))
        firing = {(f.rule, f.severity, f.subject): 1.0 for f in folded(findings)}
        fired = {rule for rule, _, _ in firing}
        if latest.measured:  # blind is not quiet: only a run that looked may say 0
            house = (TARGET_MISSED,) if self.check.targets else ()
            firing |= {(r.name, r.severity, ""): 0.0 for r in (*self.check.probe.rules, *house) if r.name not in fired}
        samples = [((rule, severity, subject), number) for (rule, severity, subject), number in sorted(firing.items())]
        about = "Rules of the check: 1 while the rule fires for the subject, 0 with an empty subject while it is quiet."
        yield self._gauge("finding", about, *samples, labels=("rule", "severity", "subject"))

    def _targets(self, measured: Result) -> Iterator[Metric]:
        families = {name: Metric(f"{PREFIX}target_{name}", about, "gauge") for name, about in TARGET_FAMILIES.items()}
        for verdict in verdicts(measured, self.check.targets) if self.check.targets else ():
            target, m = verdict.target, verdict.measurement
            labels = {"check": self.check.name, "metric": target.metric, "severity": target.severity}
            labels |= dict(m.labels) if m else target.labels
            numbers = {"value": m.value if m else None, "upper": target.at_most, "lower": target.at_least}
            for name, number in {**numbers, "met": float(verdict.met)}.items():
                if number is not None:
                    families[name].add_sample(f"{PREFIX}target_{name}", labels, number)
        yield from (family for family in families.values() if family.samples)

    def _measurements(self, measured: Result) -> Iterator[Metric]:
        shown = measured.measurements[:MEASURED_SERIES_LIMIT]
        events = tuple(Measurement(name, value, labels) for (name, labels), value in self.counts.events.items())
        for metric in self.check.probe.metrics:
            full = f"{PREFIX}{self.check.probe.name}_{metric.name}"
            of_metric = [m for m in (events if metric.kind == "events" else shown) if m.metric == metric.name]
            labels = ("check", *metric.labels)
            if not of_metric:
                continue
            counter = metric.kind in ("counter", "events")
            family: Metric = (CounterMetricFamily if counter else GaugeMetricFamily)(full, metric.help, labels=labels)
            for m in of_metric:
                family.add_metric((self.check.name, *(v for _, v in m.labels)), m.value)  # type: ignore[attr-defined]
            yield family


def folded(findings: Iterable[Finding]) -> list[Finding]:
    """At most 20 subjects a rule; the rest becomes the one subject `others`."""
    seen: Counter[str] = Counter()
    kept: list[Finding] = []
    for finding in findings:
        seen[finding.rule] += 1
        over = seen[finding.rule] > SUBJECTS_LIMIT
        kept.append(Finding(finding.rule, finding.severity, "", "others") if over else finding)
    return kept
