"""What did a check measure, now and before? Its series in human units, each with its past and its targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from exporter.families import PREFIX
from exporter.findings import against_past
from exporter.judge import Verdict, verdicts
from exporter.result import Check, Result, Target
from exporter.units import duration, human
from exporter.web import remedy
from exporter.web.chart import Spark, rates, spark
from probes.api import Measurement, Metric

SERIES_LIMIT = 60  # on a check's page; /metrics and the API have them all
UNITS = re.compile(
    r"_?((?:bytes|seconds|joules)(?:_total)?|timestamp_seconds|ratio|celsius|watts|hertz|volts|per_second|total|info)$"
)
MOMENT = "_timestamp_seconds"
FAR = 253402214400.0  # the year 9999, the last that datetime knows
Points = Sequence[tuple[float, float]]  # (Unix time, value), oldest first
Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of the check. `met` is None where no target applies; `past` says in words what the line shows."""

    caption: str
    labels: str
    value: str
    name: str
    help: remedy.Step
    spark: Spark | None
    past: str
    targets: str
    met: bool | None
    unit: str  # "" of what is no quantity at a glance: counts, counters, moments
    order: tuple[bool, bool, bool, int]
    verdict: str = ""  # of a benchmark, against its own past
    expected: str = ""  # of a card of this model


def series(check: Check, measured: Result, runs: Sequence[Result]) -> list[Series]:
    """Every series of a measured result, in the order the probe gave them."""
    past, held = _past(runs), list(verdicts(measured, check.targets))
    judged = {(c.metric, c.labels): against_past(c) for c in measured.comparisons}
    expected = {
        (e.metric, e.labels): f"{human(e.metric, e.value)}, {e.ratio:.0%} reached" for e in measured.expectations
    }
    order = {metric.name: number for number, metric in enumerate(check.probe.metrics)}
    found = []
    for m in measured.measurements[:SERIES_LIMIT]:
        metric = check.probe.metric(m.metric)
        if metric is not None:
            key = (m.metric, m.labels)
            own = [v for v in held if v.measurement and (v.measurement.metric, v.measurement.labels) == key]
            one = _series(check, metric, m, past.get(key, ()), own, order[m.metric])
            found.append(replace(one, verdict=judged.get(key, ""), expected=expected.get(key, "")))
    return found


def foremost(all_series: Sequence[Series], number: int) -> list[Series]:
    """The few series for the overview: those with a target, then what moves; of each unit one, then of each metric."""
    chosen: list[Series] = []
    ordered = sorted((one for one in all_series if one.value), key=lambda s: s.order)
    kinds: tuple[Callable[[Series], object], ...] = (lambda s: s.unit, lambda s: s.name, lambda s: s)
    for same in kinds:
        for one in ordered:
            if len(chosen) < number and same(one) and same(one) not in map(same, chosen):
                chosen.append(one)
    return sorted(chosen, key=lambda s: s.order)


def _series(
    check: Check, metric: Metric, m: Measurement, points: Points, held: Sequence[Verdict], place: int
) -> Series:
    targets = [v.target for v in held]
    counter = metric.kind == "counter"
    drawn = rates(points) if counter else points
    plain = metric.kind == "info" or metric.name.endswith(MOMENT)
    line = None if plain else spark(drawn, () if counter else targets)
    unit, aside = UNITS.search(metric.name), plain or metric.kind != "gauge"
    return Series(
        caption=UNITS.sub("", metric.name).replace("_", " ") or metric.name,
        labels=_labels(m),
        value=_value(metric, m.value),
        name=f"{PREFIX}{check.probe.name}_{metric.name}",
        help=remedy.pieces(metric.help),
        spark=line,
        past=_told(metric.name, line, drawn, counter) if line else "",
        targets="; ".join(_target(metric.name, target) for target in targets),
        met=all(v.met for v in held) if held else None,
        unit="" if aside or unit is None else unit[1],
        order=(
            not held,
            line is not None and line.low == line.high,
            aside or unit is None,
            place,
        ),
    )


def _value(metric: Metric, value: float) -> str:
    if metric.name.endswith(MOMENT):
        return f"{datetime.fromtimestamp(value):%Y-%m-%d %H:%M}" if 0 < value < FAR else "never"
    return "" if metric.kind == "info" else human(metric.name, value)


def _labels(m: Measurement) -> str:
    """Labels in words. A card's uuid says to people nothing that its index does not."""
    indexed = any(name == "gpu" for name, _ in m.labels)
    return ", ".join(f"{name} {value}" for name, value in m.labels if value and not (indexed and name == "uuid"))


def _told(metric: str, line: Spark, points: Points, counter: bool) -> str:
    rate = " a second" if counter else ""
    span = duration(points[-1][0] - points[0][0])
    low, high = human(metric, line.low), human(metric, line.high)
    return f"{low}{rate} in {span}" if low == high else f"{low} to {high}{rate} in {span}"


def _target(metric: str, target: Target) -> str:
    bounds = [f"at least {human(metric, target.at_least)}" if target.at_least is not None else ""]
    bounds.append(f"at most {human(metric, target.at_most)}" if target.at_most is not None else "")
    over = f" for the {target.quantile:g} quantile of {target.runs} runs" if target.quantile is not None else ""
    return " and ".join(filter(None, bounds)) + over


def _past(runs: Sequence[Result]) -> Mapping[Key, Points]:
    """Each series' points, from the runs that measured something, oldest first."""
    points: dict[Key, list[tuple[float, float]]] = {}
    for run in runs:
        for m in run.measurements if run.measured else ():
            points.setdefault((m.metric, m.labels), []).append((run.started, m.value))
    return points
