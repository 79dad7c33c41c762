"""What did a run say, told to a person? Outcome, measurements in human units, findings with remedies, evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from exporter.console import Console
from exporter.detectors import FAST, LEAST
from exporter.result import Comparison, Outcome, Result, worst
from exporter.units import duration, human
from probes.api import Finding, Json, Measurement, Probe, Rule
from probes.rules import HOUSE_RULES

EVIDENCE_LINES = 20
RUNS_NEEDED = LEAST + FAST - 1  # before this one


def verdict(results: Sequence[Result]) -> Outcome:
    """One outcome for several runs. Who could not look, or put it off, knows nothing: that counts as an error of ours."""
    return worst(*("error" if _unknown(result) else result.outcome for result in results))


def exit_code(results: Sequence[Result]) -> int:
    """0 ok or not applicable, 1 findings, 3 nobody knows (exporter/cli.py)."""
    return {"ok": 0, "skipped": 0, "degraded": 1, "failed": 1, "error": 3}[verdict(results)]


def _unknown(result: Result) -> bool:
    return result.skip is not None and result.skip[0] != "not_applicable"


def tell(result: Result, probe: Probe[Any] | None, console: Console) -> None:
    """One result in full."""
    console.line(f"{result.check}  {outcome_of(result)}  {duration(result.duration)}", style=result.outcome)
    if result.detail and result.outcome in ("skipped", "error"):
        console.line(result.detail, indent=2)
    against = {(c.metric, c.labels): against_past(c) for c in result.comparisons}
    rows = [(_series(m), human(m.metric, m.value), against.get((m.metric, m.labels), "")) for m in result.measurements]
    console.table((), rows if against else [row[:2] for row in rows], indent=2)
    rules = {rule.name: rule for rule in (*HOUSE_RULES, *(probe.rules if probe else ()))}
    for found in result.findings:
        tell_finding(found, rules, console)
    for name, text in result.evidence.items():
        lines = text.rstrip().splitlines()
        cut = f" (the last {EVIDENCE_LINES} of {len(lines)} lines)" if len(lines) > EVIDENCE_LINES else ""
        console.line(f"{name}{cut}:", style="dim", indent=2)
        console.line("\n".join(f"| {line}" for line in lines[-EVIDENCE_LINES:]), style="dim", indent=4)


def tell_finding(found: Finding, rules: Mapping[str, Rule], console: Console) -> None:
    """What was seen, what it means and what to do about it."""
    subject = f" {found.subject}" if found.subject else ""
    console.line(f"{found.severity} {found.rule}{subject}: {found.detail}", style=found.severity, indent=2)
    if found.rule in rules:
        console.line(f"{rules[found.rule].summary}\n{rules[found.rule].remedy}", indent=4)


def against_past(c: Comparison) -> str:
    """`ok, 0.3% below the median of 60 runs before: 165 TFLOP/s`; `too few runs (9 of 17)`."""
    state = c.state.replace("_", " ")
    if c.median is None or c.deviation is None:
        return f"{state} ({c.runs} of {RUNS_NEEDED})" if c.median is None else state
    side = "above" if c.deviation > 0 else "below"
    median = human(c.metric, c.median)
    return f"{state}, {abs(c.deviation):.1%} {side} the median of {c.runs} runs before: {median}"


def outcome_of(result: Result) -> str:
    """The outcome, and of a skipped run its class and reason."""
    return f"skipped ({result.skip[0]}: {result.skip[1]})" if result.skip else result.outcome


def _series(measurement: Measurement) -> str:
    labels = ",".join(f"{key}={value}" for key, value in measurement.labels)
    return f"{measurement.metric}{{{labels}}}" if labels else measurement.metric


def as_data(result: Result) -> Mapping[str, Json]:
    """The same as plain data with names for everything, for `--json`."""
    data = result.to_dict()
    data["measurements"] = [
        {"metric": m.metric, "value": m.value, "labels": dict(m.labels)} for m in result.measurements
    ]
    data["findings"] = [
        {"rule": f.rule, "severity": f.severity, "subject": f.subject, "detail": f.detail} for f in result.findings
    ]
    data["skip"] = {"class": result.skip[0], "reason": result.skip[1]} if result.skip else None
    data["comparisons"] = [{**asdict(c), "labels": dict(c.labels)} for c in result.comparisons]
    data["quantiles"] = [{**asdict(q), "labels": dict(q.labels)} for q in result.quantiles]
    del data["remember"]
    return data
