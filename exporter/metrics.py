"""What does a scrape see of a check? Its latest results as metric families (DESIGN.md section 6).

A result's families are rendered once, when it arrives; `exposition.py` merges the ready blocks.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from exporter.baseline import judged_metrics
from exporter.families import PREFIX, Blocks, Family, Labels, Renderer, Row, Rows, gauge
from exporter.judge import verdicts
from exporter.result import OUTCOMES, Check, Latest, Result
from probes.api import Finding, Measurement, Rule
from probes.rules import BELOW_EXPECTED, CONDITIONS_CHANGED, IMPROVED, REGRESSED, SERIES_DROPPED, TARGET_MISSED

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
HISTOGRAM_UP_TO = 300.0  # slower checks get no duration histogram: too few runs to fill one
MEASURED_SERIES_LIMIT = 500
COMPARED_LIMIT = 20  # series of a check that are shown with their baseline: six more series each
SUBJECTS_LIMIT = 20
COUNTED = ("counter", "events")

OUTCOME_ROWS: Rows = tuple(("", (("outcome", outcome),)) for outcome in OUTCOMES)
DURATION_ROWS: Rows = (
    *(("_bucket", (("le", bound),)) for bound in (*map(str, BUCKETS), "+Inf")),
    ("_count", ()),
    ("_sum", ()),
)
TARGETS = {
    "value": "The measurement a target is held against.",
    "upper": "The most a target allows.",
    "lower": "The least a target allows.",
    "met": "1 while a target is met; 0 also when nothing was measured.",
}
BASELINES = {
    "median": "Median of the comparable past runs that the newest run is held against.",
    "mad": "Median absolute deviation of those runs from their median.",
    "runs": "How many runs those are; without a median there are too few.",
    "deviation_ratio": "How far the newest value is from that median, in parts of it; negative below.",
    "shift_ratio": "How far the newest values are from it together, which is what the verdict says; 0 where that is chance.",
}
VERDICT = "Verdict on the newest run against the check's own past: the label says which. Absent where none is made."
EXPECTED = {
    "value": "What a card of this model reaches, by the table that `gpu-canary expected` shows.",
    "ratio": "The measurement as a part of what a card of this model reaches.",
}
ENERGY = "What the card used in the newest run, from the start of its Python to the end, whatever else ran on it."
QUIET = "Rules of the check: 1 while the rule fires for the subject, 0 with an empty subject while it is quiet."


@dataclass
class Counts:
    """What is counted about one check since the process started."""

    runs: Counter[str] = field(default_factory=Counter)
    skips: Counter[tuple[str, str]] = field(default_factory=Counter)
    events: dict[tuple[str, Labels], float] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0
    lost: int = 0  # events of labels over the limit of series

    def count(self, check: Check, result: Result) -> None:
        """Take one run into account."""
        self.runs[result.outcome] += 1
        if result.skip:
            self.skips[result.skip] += 1
        else:
            slot = next((i for i, bound in enumerate(BUCKETS) if result.duration <= bound), len(BUCKETS))
            self.buckets[slot] += 1
            self.seconds += result.duration
        events = {metric.name for metric in check.probe.metrics if metric.kind == "events"}
        for m in result.measurements if events and result.measured else ():
            key = (m.metric, m.labels)
            if m.metric in events and (key in self.events or len(self.events) < MEASURED_SERIES_LIMIT):
                self.events[key] = self.events.get(key, 0.0) + m.value
            elif m.metric in events:
                self.lost += 1


class CheckSeries:
    """Every series of one check: the house's own, its findings and targets, and what its probe measured."""

    def __init__(self, check: Check) -> None:
        self.check, self.counts = check, Counts()
        self.lock = threading.Lock()  # whoever changes or renders them
        self.latest: Latest | None = None
        self._renderer = Renderer("check", check.name)
        self._constant = self._renderer(self._about_the_check())

    def change(self, check: Check) -> None:
        """The check has another schedule, other targets: what was counted goes on."""
        self.check = check
        self._constant = self._renderer(self._about_the_check())

    def blocks(self) -> Blocks:
        return {**self._constant, **self._renderer(self._families())}

    def families(self) -> Iterator[Family]:
        """All of them; `blocks` renders the constant ones only once."""
        yield from self._about_the_check()
        yield from self._families()

    def _families(self) -> Iterator[Family]:
        yield from self._counted()
        latest = self.latest
        if latest is None:
            return
        yield from self._about_the_last_run(latest)
        yield self._findings(latest)
        if latest.measured is not None:
            yield from self._targets(latest.measured)
            yield from _compared(latest.measured)
            yield from _expected(latest.measured)
            yield from _energy(latest.measured)
            yield from self._measurements(latest.measured)

    def _about_the_check(self) -> Iterator[Family]:
        check = self.check
        about: Row = ("", (("probe", check.probe.name), ("family", check.family)))
        yield Family(f"{PREFIX}check_info", "A configured check, its probe and its family.", (about,), (1.0,))
        yield gauge("check_interval_seconds", "Time between two runs while the check does not fail.", check.every)
        yield gauge("check_confirm_runs", "Failed runs in a row after which alerts may believe them.", check.confirm)
        if check.objective is not None:
            yield gauge(
                "objective_ratio", "Share of measured time in which the check shall not be failed.", check.objective
            )

    def _counted(self) -> Iterator[Family]:
        counts = self.counts
        runs = [counts.runs[outcome] for outcome in OUTCOMES]
        yield Family(f"{PREFIX}check_runs_total", "Runs since the process started.", OUTCOME_ROWS, runs, "counter")
        skips = sorted(counts.skips.items())
        rows: Rows = tuple(("", (("class", skip_class), ("reason", reason))) for (skip_class, reason), _ in skips)
        yield Family(f"{PREFIX}check_skips_total", "Skipped runs.", rows, [number for _, number in skips], "counter")
        if self.check.every <= HISTOGRAM_UP_TO:
            total, values = 0, []
            for number in counts.buckets:
                total += number
                values.append(float(total))
            values += [total, counts.seconds]
            name = f"{PREFIX}check_duration_seconds"
            yield Family(name, "How long runs took.", DURATION_ROWS, values, "histogram")

    def _about_the_last_run(self, latest: Latest) -> Iterator[Family]:
        last = latest.last
        states = [float(last.outcome == outcome) for outcome in OUTCOMES]
        about = "Outcome of the last run: 1 for the one it is."
        yield Family(f"{PREFIX}check_outcome", about, OUTCOME_ROWS, states)
        if last.skip:
            why: Row = ("", (("class", last.skip[0]), ("reason", last.skip[1])))
            yield Family(
                f"{PREFIX}check_skip_info", "Why the last run was skipped; absent when it was not.", (why,), (1.0,)
            )
        yield gauge("check_last_duration_seconds", "How long the last run took.", last.duration)
        yield gauge("check_last_run_timestamp_seconds", "When the last run began.", last.started)
        yield gauge("check_consecutive_failures", "Failed runs in a row.", latest.failures)
        if latest.measured:
            about = "When the run began whose measurements are shown."
            yield gauge("check_last_measured_timestamp_seconds", about, latest.measured.started)
        if latest.succeeded is not None:
            yield gauge("check_last_success_timestamp_seconds", "When the last ok run began.", latest.succeeded)

    def _findings(self, latest: Latest) -> Family:
        shown = latest.measured or latest.last
        findings = shown.findings
        dropped = max(0, len(shown.measurements) - MEASURED_SERIES_LIMIT) + self.counts.lost
        if dropped > 0:
            findings += (SERIES_DROPPED(f"{dropped} series over the limit of {MEASURED_SERIES_LIMIT}"),)
        elif len(shown.comparisons) > COMPARED_LIMIT:
            findings += (SERIES_DROPPED(f"only {COMPARED_LIMIT} of {len(shown.comparisons)} baselines are shown"),)
        firing = {(f.rule, f.severity, f.subject): 1.0 for f in folded(findings)}
        fired = {rule for rule, _, _ in firing}
        if latest.measured:  # blind is not quiet: only a run that looked may say 0
            house: tuple[Rule, ...] = (TARGET_MISSED,) if self.check.targets else ()
            house += (REGRESSED, IMPROVED, CONDITIONS_CHANGED) if judged_metrics(self.check) else ()
            house += (BELOW_EXPECTED,) if latest.measured.expectations else ()
            firing |= {(r.name, r.severity, ""): 0.0 for r in (*self.check.probe.rules, *house) if r.name not in fired}
        rows: Rows = tuple(("", (("rule", r), ("severity", v), ("subject", s))) for r, v, s in firing)
        return Family(f"{PREFIX}finding", QUIET, rows, list(firing.values()))

    def _targets(self, measured: Result) -> Iterator[Family]:
        if not self.check.targets:
            return
        found: dict[str, dict[Row, float]] = {name: {} for name in TARGETS}
        for verdict in verdicts(measured, self.check.targets):
            target, m = verdict.target, verdict.measurement
            labels = m.labels if m else tuple(target.labels.items())
            row: Row = ("", (("metric", target.metric), ("severity", target.severity), *labels))
            numbers = {"value": m.value if m else None, "upper": target.at_most, "lower": target.at_least}
            for name, number in {**numbers, "met": float(verdict.met)}.items():
                if number is not None:  # two targets may bound one series: the tighter bound is the one that matters
                    tighter = max if name == "lower" else min
                    found[name][row] = tighter(number, found[name].get(row, number))
        for name, samples in found.items():
            if samples:
                yield Family(f"{PREFIX}target_{name}", TARGETS[name], tuple(samples), list(samples.values()))

    def _measurements(self, measured: Result) -> Iterator[Family]:
        by_metric: dict[str, list[Measurement]] = {}
        for m in measured.measurements[:MEASURED_SERIES_LIMIT]:
            by_metric.setdefault(m.metric, []).append(m)
        sums: dict[str, list[Measurement]] = {}
        for (name, labels), total in self.counts.events.items():
            sums.setdefault(name, []).append(Measurement(name, total, labels))
        for metric in self.check.probe.metrics:
            shown = (sums if metric.kind == "events" else by_metric).get(metric.name)
            if shown:
                full = f"{PREFIX}{self.check.probe.name}_{metric.name}"
                rows: Rows = tuple(("", m.labels) for m in shown)
                values = [m.value for m in shown]
                yield Family(full, metric.help, rows, values, "counter" if metric.kind in COUNTED else "gauge")


def _compared(measured: Result) -> Iterator[Family]:
    """The newest run against the check's own past (exporter/comparison.py)."""
    shown = measured.comparisons
    if len(shown) > COMPARED_LIMIT:  # an alert must see what regressed
        shown = tuple(sorted(shown, key=lambda c: c.state != "regressed"))[:COMPARED_LIMIT]
    for name, about in BASELINES.items():
        numbers = [
            (c, getattr(c, name.removesuffix("_ratio"))) for c in shown if c.median is not None or name == "runs"
        ]
        known = [
            (("", (("metric", c.metric), *c.labels)), float(number)) for c, number in numbers if number is not None
        ]
        if known:
            yield Family(f"{PREFIX}baseline_{name}", about, tuple(row for row, _ in known), [n for _, n in known])
    if shown:
        rows: Rows = tuple(("", (("metric", c.metric), ("verdict", c.state), *c.labels)) for c in shown)
        yield Family(f"{PREFIX}verdict_info", VERDICT, rows, [1.0] * len(rows))


def _expected(measured: Result) -> Iterator[Family]:
    expected = measured.expectations
    rows: Rows = tuple(("", (("metric", e.metric), *e.labels)) for e in expected)
    numbers = {"value": [e.value for e in expected], "ratio": [e.ratio for e in expected]}
    for name, values in numbers.items() if expected else ():
        yield Family(f"{PREFIX}expected_{name}", EXPECTED[name], rows, values)


def _energy(measured: Result) -> Iterator[Family]:
    if measured.energy:
        rows: Rows = tuple(("", (("gpu", str(e.gpu)), ("uuid", e.uuid))) for e in measured.energy)
        yield Family(f"{PREFIX}benchmark_energy_joules", ENERGY, rows, [e.joules for e in measured.energy])


def folded(findings: Iterable[Finding]) -> list[Finding]:
    """At most 20 subjects a rule; the rest becomes the one subject `others`."""
    seen: Counter[str] = Counter()
    kept: list[Finding] = []
    for finding in findings:
        seen[finding.rule] += 1
        over = seen[finding.rule] > SUBJECTS_LIMIT
        kept.append(Finding(finding.rule, finding.severity, "", "others") if over else finding)
    return kept
