"""Is a measured result good enough? Pure: a Result and its targets to the same Result with target findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from exporter.result import SEVERITY_OUTCOME, Latest, Result, Target, worst
from exporter.units import human
from probes.api import Finding, Measurement
from probes.rules import TARGET_MISSED


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target held against one series. `measurement` is None where nothing was measured: then it is not met."""

    target: Target
    measurement: Measurement | None

    @property
    def met(self) -> bool:
        if self.measurement is None:
            return False
        value, low, high = self.measurement.value, self.target.at_least, self.target.at_most
        return (low is None or value >= low) and (high is None or value <= high)


def verdicts(result: Result, targets: Sequence[Target]) -> Iterator[Verdict]:
    """Every target against every series that carries its labels; a target without a series fails closed."""
    for target in targets:
        wanted = target.labels.items()
        matching = [m for m in result.measurements if m.metric == target.metric and wanted <= dict(m.labels).items()]
        for measurement in matching or (None,):
            yield Verdict(target, measurement)


def judge(result: Result, targets: Sequence[Target]) -> Result:
    """The same Result with a finding for every target missed. Skipped and broken runs are nobody's verdict."""
    if not result.measured or not targets:
        return result
    # a run that failed already told why it has no value; one that did not must not pass for want of one
    closed = result.outcome != "failed"
    missed = tuple(_finding(v) for v in verdicts(result, targets) if not v.met and (v.measurement or closed))
    if not missed:
        return result
    outcome = worst(result.outcome, *(SEVERITY_OUTCOME[f.severity] for f in missed))
    return replace(result, findings=(*result.findings, *missed), outcome=outcome)


def judged_anew(latest: Latest, targets: Sequence[Target]) -> Latest:
    """The same records under the targets of today: a restart or a reload may have changed them since the run."""
    last = _anew(latest.last, targets)
    measured = latest.measured
    if measured is not None:
        measured = last if measured is latest.last else _anew(measured, targets)
    return replace(latest, last=last, measured=measured)


def _anew(result: Result, targets: Sequence[Target]) -> Result:
    if not result.measured:
        return result
    kept = tuple(f for f in result.findings if f.rule != TARGET_MISSED.name)
    return judge(replace(result, findings=kept, outcome=worst(*(SEVERITY_OUTCOME[f.severity] for f in kept))), targets)


def _finding(verdict: Verdict) -> Finding:
    target, measurement = verdict.target, verdict.measurement
    labels = dict(measurement.labels) if measurement else target.labels
    subject = target.metric + ("{" + ",".join(f"{k}={v}" for k, v in labels.items()) + "}" if labels else "")
    bounds = {"at least": target.at_least, "at most": target.at_most}
    known = {word: bound for word, bound in bounds.items() if bound is not None}
    told = _told(target.metric, *([measurement.value] if measurement else []), *known.values())
    seen = told.pop(0) if measurement else "no value was measured"
    wanted = " and ".join(f"{word} {bound}" for word, bound in zip(known, told, strict=True))
    return Finding(TARGET_MISSED.name, target.severity, f"{seen}; the target is {wanted}", subject)


def _told(metric: str, *values: float) -> list[str]:
    """The values as people read them; in full where two would read alike."""
    short = [human(metric, value) for value in values]
    return short if len(set(short)) == len(short) else [f"{value:.15g}" for value in values]
