"""Is a measured result good enough? Pure: a Result, its targets and its past to the same Result with findings of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from exporter.baseline import NOTHING, Past, of_series, quantile
from exporter.comparison import compare, findings, series_name
from exporter.result import SEVERITY_OUTCOME, Latest, Outcome, Quantile, Result, Target, worst
from exporter.units import human
from probes.api import Finding, Measurement
from probes.rules import TARGET_MISSED


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target held against one series. `measurement` is None where nothing was measured: then it is not met."""

    target: Target
    measurement: Measurement | None

    @property
    def value(self) -> float | None:
        """What the bounds are held against."""
        return self.measurement.value if self.measurement else None

    @property
    def met(self) -> bool:
        value, low, high = self.value, self.target.at_least, self.target.at_most
        return value is not None and (low is None or value >= low) and (high is None or value <= high)


def verdicts(result: Result, targets: Sequence[Target]) -> Iterator[Verdict]:
    """Every target against every series that carries its labels; a target without a series fails closed."""
    for target in targets:
        matching = list(_matching(result.measurements, target))
        if target.quantile is not None:
            known = {(q.metric, q.labels): q.value for q in result.quantiles if _same(q, target)}
            matching = [replace(m, value=known.get((m.metric, m.labels), m.value)) for m in matching]
        for measurement in matching or (None,):
            yield Verdict(target, measurement)


def judge(result: Result, targets: Sequence[Target], past: Past = NOTHING) -> Result:
    """The same Result, compared with its past, with a finding for every shift and for every target missed.

    Skipped and broken runs are nobody's verdict.
    """
    if not result.measured:
        return result
    comparisons = compare(result, past)
    if comparisons:
        result = replace(result, comparisons=comparisons)
        result = _with(result, tuple(findings(result, past)))
    return _held(result, targets, past)


def _held(result: Result, targets: Sequence[Target], past: Past) -> Result:
    """The same Result, held against its targets."""
    if not targets:
        return result
    if any(target.quantile is not None for target in targets):
        result = replace(result, quantiles=tuple(_quantiles(result, targets, past)))
    # a run that failed, or does not apply here, told already why it has no value; another must not pass for want of one
    closed = result.outcome not in ("failed", "skipped")
    missed = tuple(_finding(v) for v in verdicts(result, targets) if not v.met and (v.measurement or closed))
    return _with(result, missed)


def _with(result: Result, found: tuple[Finding, ...]) -> Result:
    if not found:
        return result
    outcome = worst(result.outcome, *(SEVERITY_OUTCOME[f.severity] for f in found))
    return replace(result, findings=(*result.findings, *found), outcome=outcome)


def _quantiles(result: Result, targets: Sequence[Target], past: Past) -> Iterator[Quantile]:
    """The quantiles that targets name, over runs of the same identity whatever their conditions."""
    alike = [run for run in past.runs if run.identity == result.identity]
    seen = set()
    for target in targets:
        for m in _matching(result.measurements, target) if target.quantile is not None else ():
            key = (m.metric, m.labels, target.quantile, target.runs)
            if target.quantile is not None and key not in seen:
                seen.add(key)
                values = [*of_series(alike, (m.metric, m.labels)), m.value][-target.runs :]
                yield Quantile(m.metric, m.labels, target.quantile, target.runs, quantile(values, target.quantile))


def _matching(measurements: Sequence[Measurement], target: Target) -> Iterator[Measurement]:
    wanted = target.labels.items()
    return (m for m in measurements if m.metric == target.metric and wanted <= dict(m.labels).items())


def _same(found: Quantile, target: Target) -> bool:
    return (found.metric, found.quantile, found.runs) == (target.metric, target.quantile, target.runs)


def judged_anew(latest: Latest, targets: Sequence[Target], past: Past = NOTHING) -> Latest:
    """The same records under the targets of today: a restart or a reload may have changed them since the run."""
    last = _anew(latest.last, targets, past)
    measured = latest.measured
    if measured is not None:
        measured = last if measured is latest.last else _anew(measured, targets, past)
    return replace(latest, last=last, measured=measured)


def _anew(result: Result, targets: Sequence[Target], past: Past) -> Result:
    if not result.measured:
        return result
    kept = tuple(f for f in result.findings if f.rule != TARGET_MISSED.name)
    first: Outcome = "skipped" if result.skip else "ok"
    bare = replace(result, findings=kept, outcome=worst(first, *(SEVERITY_OUTCOME[f.severity] for f in kept)))
    return _held(bare, targets, past.before(result.started))


def _finding(verdict: Verdict) -> Finding:
    target, measurement = verdict.target, verdict.measurement
    labels = dict(measurement.labels) if measurement else target.labels
    bounds = {"at least": target.at_least, "at most": target.at_most}
    known = {word: bound for word, bound in bounds.items() if bound is not None}
    told = _told(target.metric, *([measurement.value] if measurement else []), *known.values())
    seen = told.pop(0) if measurement else "no value was measured"
    if measurement and target.quantile is not None:
        seen += f" is the {target.quantile:g} quantile of the newest {target.runs} runs"
    wanted = " and ".join(f"{word} {bound}" for word, bound in zip(known, told, strict=True))
    detail = f"{seen}; the target is {wanted}"
    return Finding(TARGET_MISSED.name, target.severity, detail, series_name(target.metric, labels))


def _told(metric: str, *values: float) -> list[str]:
    """The values as people read them; in full where two would read alike."""
    short = [human(metric, value) for value in values]
    return short if len(set(short)) == len(short) else [f"{value:.15g}" for value in values]
