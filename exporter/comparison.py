"""How does a measured series compare with the check's own past, and what may be the cause? Pure: the verdict's words.

Runs are comparable when identity and conditions are the same (DESIGN.md section 7). Under new conditions the newest runs
are held against those under the conditions before until there are enough for a baseline of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporter import detectors
from exporter.baseline import Baseline, Key, Past, Run, baseline, differences, of_series, strains, worse_of
from exporter.detectors import FAST, LEAST
from exporter.result import Comparison, Result, State
from exporter.units import human
from probes.api import Finding, Measurement
from probes.facts import Better
from probes.rules import CONDITIONS_CHANGED, IMPROVED, REGRESSED

MENTIONED = 4  # components, and causes beside them, that a finding names
LIKELY = ("power_limit", "pcie_link", "driver")  # the components that explain most, told first
TEXT = 80  # characters of each
# By unit: a smaller shift is nobody's business, also from nearly nothing.
FLOORS = {"_ratio": 0.02, "_celsius": 5.0, "_bytes": 2.0**20}


@dataclass(frozen=True)
class Before:
    """What a run is held against: runs like it and, while those are few, the runs under the conditions before."""

    alike: Sequence[Run]
    previous: Sequence[Run]

    @classmethod
    def of(cls, result: Result, past: Past) -> Before:
        alike = past.comparable(result)
        young = len(alike) + 1 - FAST < LEAST
        return cls(alike, past.previous(result, LEAST) if young else ())

    def usual(self, key: Key) -> Sequence[float]:
        """The baseline under the conditions before."""
        return detectors.past(of_series(self.previous, key), 0, worse_of(self.previous, key))

    def changed(self, result: Result) -> list[str]:
        """Which components are others than before: `driver 570.86.15 -> 575.51.03`."""
        if not self.previous:
            return []
        pairs = differences(self.previous[-1].conditions, result.conditions).items()
        named = sorted(pairs, key=lambda pair: (LIKELY.index(pair[0]) if pair[0] in LIKELY else len(LIKELY), pair[0]))
        return [f"{name} {old} -> {new}"[:TEXT] for name, (old, new) in named[:MENTIONED]]

    def unusual(self, result: Result) -> list[str]:
        """What was seen in this run and in less than half of those before: most cards reach their power cap in every run."""
        runs = self.previous or [run for run in self.alike if not run.worse] or self.alike
        seen = [s[:TEXT] for s in strains(result) if 2 * sum(s in run.strains for run in runs) < len(runs)]
        return seen[:MENTIONED]


def compare(result: Result, past: Past) -> tuple[Comparison, ...]:
    """Every judged series of a measured result against its past."""
    if not past.better:
        return ()
    before = Before.of(result, past)
    judged = (m for m in result.measurements if m.metric in past.better)
    return tuple(_compare(result, m, past.better[m.metric], before) for m in judged)


def _compare(result: Result, m: Measurement, better: Better, before: Before) -> Comparison:
    key, floor = (m.metric, m.labels), floor_of(m.metric)
    values, worse = [*of_series(before.alike, key), m.value], worse_of(before.alike, key)
    if len(values) - FAST >= LEAST:
        changed: list[str] = []
        usual, shift = detectors.past(values, FAST, worse), detectors.shift(values, floor, worse)
    else:
        usual, changed = before.usual(key), before.changed(result)
        if len(usual) < LEAST:
            return Comparison(*key, "too_few_runs", len(values) - 1)
        shift = detectors.against(usual, values, floor)
    base = baseline(usual)
    state = _state(shift, better, "new_conditions" if changed else "ok")
    cause = "; ".join(changed + before.unusual(result)) if shift else ""
    return Comparison(*key, state, base.runs, base.median, base.mad, _deviation(m.value, base), shift, cause)


def findings(result: Result, past: Past) -> Iterator[Finding]:
    """What a compared result has to say of its verdicts."""
    values = {(m.metric, m.labels): m.value for m in result.measurements}
    for c in result.comparisons:
        if c.shift and c.median is not None:
            value, median = human(c.metric, values[c.metric, c.labels]), human(c.metric, c.median)
            away = f"{abs(c.shift):.1%} {'above' if c.shift > 0 else 'below'} the median {median} of {c.runs} runs"
            cause = f"seen with it: {c.cause}" if c.cause else "no cause was seen in this run"
            rule = REGRESSED if c.state == "regressed" else IMPROVED
            yield rule(f"{value}; the newest runs are {away}; {cause}", series_name(c.metric, dict(c.labels)))
    changed = Before.of(result, past).changed(result) if result.comparisons else []
    if changed and any(c.median is not None for c in result.comparisons):
        yield CONDITIONS_CHANGED(f"{'; '.join(changed)}; held against the runs before until there are enough")


def floor_of(metric: str) -> float:
    """The shift that does not matter, in the metric's unit."""
    return next((floor for unit, floor in FLOORS.items() if metric.endswith(unit)), 0.0)


def series_name(metric: str, labels: Mapping[str, str]) -> str:
    """A series as a finding's subject: `flops_per_second{dtype=fp16,device=cuda}`."""
    return metric + ("{" + ",".join(f"{key}={value}" for key, value in labels.items()) + "}" if labels else "")


def _state(shift: float, better: Better, otherwise: State) -> State:
    if not shift:
        return otherwise
    return "improved" if (shift > 0) == (better == "higher") else "regressed"


def _deviation(value: float, base: Baseline) -> float | None:
    return (value - base.median) / abs(base.median) if base.median else None
