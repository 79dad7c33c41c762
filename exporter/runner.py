"""What happened when this check ran once? The only place that catches everything."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from exporter.result import SEVERITY_OUTCOME, Check, Outcome, Result, worst
from exporter.world.token import Token
from probes.api import (
    HOUSE_RULES,
    Aborted,
    Conditions,
    Energy,
    Evidence,
    Fact,
    Finding,
    Identity,
    Json,
    Measurement,
    Progress,
    Remember,
    Skipped,
    SubjectFailed,
    World,
)
from probes.rules import CHECK_ERROR, DEADLINE_MISSED

log = logging.getLogger("gpu_canary.runner")

REMEMBER_LIMIT = 64 * 1024
EVIDENCE_LIMIT = 8 * 1024
LAST_WORDS = 2.0  # seconds after the deadline in which a probe with a worker may still say how that missed it
HOUSE_RULE_NAMES = frozenset(rule.name for rule in HOUSE_RULES)

Redact = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _End:
    """How a run ended."""

    outcome: Outcome
    skip: tuple[str, str] | None = None
    detail: str = ""


@dataclass
class _Record:
    """Facts as they arrive, checked against what the probe declared."""

    check: Check
    token: Token
    redact: Redact
    measurements: dict[tuple[str, tuple[tuple[str, str], ...]], Measurement] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    evidence: dict[str, str] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    remember: Mapping[str, Json] | None = None
    energy: dict[str, Energy] = field(default_factory=dict)

    def add(self, fact: Fact) -> None:
        match fact:
            case Measurement():
                self._measure(fact)
            case Finding():
                self.find(fact)
            case Progress():
                self.token.progress(fact.done, fact.total)
            case Remember():
                size = len(json.dumps(fact.data, allow_nan=False))
                if size > REMEMBER_LIMIT:
                    raise ValueError(f"Remember holds {size} bytes; the limit is {REMEMBER_LIMIT}")
                self.remember = dict(fact.data)
            case Evidence():
                self.evidence[fact.name] = self.text(fact.text)[-EVIDENCE_LIMIT:]
            case Identity():
                self.identity.update(self.texts(fact.values))
            case Conditions():
                self.conditions.update(self.texts(fact.values))
            case Energy():
                self.energy[fact.uuid] = fact
            case _:
                raise TypeError(f"a probe yields facts, not {type(fact).__name__}")

    def _measure(self, fact: Measurement) -> None:
        metric = self.check.probe.metric(fact.metric)
        if metric is None:
            raise ValueError(f"metric {fact.metric!r} is not declared by the probe")
        value, told = fact.value, tuple((name, self.text(value)) for name, value in fact.labels)
        fact = metric(value, **dict(told))  # made by hand or not: one shape, labels in one order
        key = (fact.metric, fact.labels)
        before = self.measurements.get(key)
        if before is not None:
            if metric.kind != "events":
                raise ValueError(f"metric {fact.metric!r} was measured twice with labels {dict(fact.labels)}")
            fact = Measurement(fact.metric, before.value + fact.value, fact.labels)
        self.measurements[key] = fact

    def text(self, raw: str) -> str:
        """Without secrets, and fit for UTF-8 whatever bytes a file name or a log held."""
        return self.redact(raw).encode("utf-8", "replace").decode("utf-8")

    def texts(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: self.text(str(value)) for name, value in values.items()}

    def find(self, fact: Finding) -> None:
        if fact.rule not in HOUSE_RULE_NAMES and all(rule.name != fact.rule for rule in self.check.probe.rules):
            raise ValueError(f"rule {fact.rule!r} is not declared by the probe")
        if fact.severity not in SEVERITY_OUTCOME:
            raise ValueError(f"rule {fact.rule!r} fired with the severity {fact.severity!r}")
        self.findings.append(Finding(fact.rule, fact.severity, self.text(fact.detail), self.text(fact.subject)))

    def _identity(self) -> Mapping[str, str]:
        return {"params": self.check.identity, **self.identity} if self.check.keeps_past else self.identity

    def result(self, started: float, duration: float, end: _End) -> Result:
        return Result(
            check=self.check.name,
            probe=self.check.probe.name,
            started=started,
            duration=duration,
            outcome=end.outcome,
            measurements=tuple(self.measurements.values()),
            findings=tuple(self.findings),
            skip=end.skip,
            detail=self.text(end.detail),
            evidence=self.evidence,
            identity=self._identity(),
            conditions=self.conditions,
            remember=self.remember,
            energy=tuple(self.energy.values()),
        )


def run(check: Check, world: World, token: Token, redact: Redact = str) -> Result:
    """One run of `check` as a Result; never raises. `redact` hides secrets in every text."""
    record = _Record(check, token, redact)
    started, clock = time.time(), time.monotonic()
    try:
        end = _ended(record, world)
    except (Exception, SystemExit) as error:  # a plugin may say anything, also sys.exit()
        end = _End("error", detail="".join(traceback.format_exception(error)).strip())
        record.find(CHECK_ERROR(f"{type(error).__name__}: {error}"))
    judged = (SEVERITY_OUTCOME[f.severity] for f in _subjects(record, end.outcome))
    return record.result(started, time.monotonic() - clock, replace(end, outcome=worst(end.outcome, *judged)))


def _ended(record: _Record, world: World) -> _End:
    """Take the facts of a run; whatever the house has no name for is raised."""
    check, token = record.check, record.token
    facts: Iterator[Fact] | None = None
    try:
        facts = check.probe.run(check.params, world)
        for fact in facts:
            record.add(fact)
            token.check(late=0.0 if check.lane == "light" else LAST_WORDS)
    except Skipped as stop:
        return _End("skipped", (stop.skip_class, stop.reason), stop.detail)
    except SubjectFailed as stop:
        record.find(stop.finding)
        if stop.evidence:
            record.add(Evidence("worker log", stop.evidence))
        for fact in stop.facts:
            record.add(fact)
    except Aborted as stop:
        return _aborted(stop, check, record)
    finally:
        _close(facts, check.name)
    return _End("ok")


def _aborted(stop: Aborted, check: Check, record: _Record) -> _End:
    """A missed deadline is our fault in a light lane and the subject's elsewhere; any other abort is a deferral."""
    if stop.reason != "deadline":
        return _End("skipped", ("deferred", stop.reason), "the run was stopped before it ended")
    late = DEADLINE_MISSED(f"not done after {check.timeout:g} s")
    ours = check.lane == "light"
    record.find(late if ours else replace(late, severity="critical"))
    return _End("error" if ours else "failed", detail=late.detail)


def _subjects(record: _Record, outcome: Outcome) -> Iterator[Finding]:
    """The findings that judge the subject; those of our own fault already made the outcome `error`."""
    ours = {CHECK_ERROR.name, DEADLINE_MISSED.name} if outcome == "error" else set()
    return (f for f in record.findings if f.rule not in ours)


def _close(facts: Iterator[Fact] | None, name: str) -> None:
    close = getattr(facts, "close", None)
    if close is not None:
        try:
            close()  # runs the probe's own finally blocks, which end its worker
        except (Exception, SystemExit):
            log.exception("the probe did not end cleanly", extra={"check": name})
