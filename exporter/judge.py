"""Is a measured result good enough? Pure: a Result and its targets to the same Result with target findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from exporter.result import SEVERITY_OUTCOME, Result, Target, worst
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


def _finding(verdict: Verdict) -> Finding:
    target, measurement = verdict.target, verdict.measurement
    labels = dict(measurement.labels) if measurement else target.labels
    subject = target.metric + ("{" + ",".join(f"{k}={v}" for k, v in labels.items()) + "}" if labels else "")
    bounds = [f"at least {target.at_least:g}" if target.at_least is not None else ""]
    bounds.append(f"at most {target.at_most:g}" if target.at_most is not None else "")
    seen = f"{measurement.value:g}" if measurement else "no value was measured"
    detail = f"{seen}; the target is {' and '.join(filter(None, bounds))}"
    return Finding(TARGET_MISSED.name, target.severity, detail, subject)
