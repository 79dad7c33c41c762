"""What is a check, and what is the record of a run? The records everybody passes around."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from probes.api import Energy, Finding, Json, Lane, Measurement, Params, Probe, Severity

State = Literal["ok", "regressed", "improved", "new_conditions", "too_few_runs"]
Labels = tuple[tuple[str, str], ...]
Outcome = Literal["ok", "degraded", "failed", "skipped", "error"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "degraded", "failed", "skipped", "error")
MEASURED: frozenset[Outcome] = frozenset({"ok", "degraded", "failed"})
# The worse outcome wins when a run yields facts and then ends early. A critical finding outranks our own error.
RANK: Mapping[Outcome, int] = {"ok": 0, "skipped": 1, "degraded": 2, "error": 3, "failed": 4}
SEVERITY_OUTCOME: Mapping[Severity, Outcome] = {"info": "ok", "warning": "degraded", "critical": "failed"}


def worst(*outcomes: Outcome) -> Outcome:
    """The outcome that wins; `ok` when there is none."""
    return max(outcomes, key=RANK.__getitem__, default="ok")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a metric (short name). `labels` narrow it to the series that carry them. At least one bound is set.

    With `quantile`, not the newest value is held against it but that quantile of the newest `runs` values.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    severity: Severity = "warning"
    labels: Mapping[str, str] = field(default_factory=dict)
    quantile: float | None = None
    runs: int = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measured series against the check's own past (exporter/comparison.py). `median` and `mad` of the baseline, which
    is made of `runs`; `deviation` is how far the new value is from the median, in parts of it; None without a baseline.
    `shift`: how far the newest values are from it together, 0 where that is chance."""

    metric: str
    labels: Labels
    state: State
    runs: int
    median: float | None = None
    mad: float | None = None
    deviation: float | None = None
    shift: float = 0.0
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a card of this model reaches in a series (exporter/expected.py); `ratio` is measured / expected."""

    metric: str
    labels: Labels
    value: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of the newest values of a series, this run's among them. `runs`: over so many, if there are."""

    metric: str
    labels: Labels
    quantile: float
    runs: int
    value: float


Part = TypeVar("Part", Comparison, Quantile, Expectation, Energy)


@dataclass(frozen=True, slots=True)
class Check:
    """A probe configured. Times in seconds. `retry_every` applies while the check is failing; `confirm` is the number of
    failed runs in a row after which alerts may believe it (every attempt is recorded)."""

    name: str
    probe: Probe[Any]
    params: Params
    every: float
    timeout: float
    targets: tuple[Target, ...] = ()
    objective: float | None = None
    retry_every: float | None = None
    confirm: int = 1

    @property
    def family(self) -> str:
        return self.probe.family

    @property
    def fingerprint(self) -> str:
        """Changes when the probe or its params do: a stored result of another fingerprint is not this check's."""
        text = f"{self.probe.name} {self.params.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def identity(self) -> str:
        """Changes when the probe does, or a param that is not at its default: runs that differ in it are not compared."""
        text = f"{self.probe.name} {self.params.model_dump_json(exclude_defaults=True)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def keeps_past(self) -> bool:
        """Is a run of it judged by those before? Benchmarks are, and what has a target on a quantile."""
        return self.family == "benchmarks" or any(target.quantile is not None for target in self.targets)

    @property
    def lane(self) -> Lane:
        return self.probe.needs.lane


@dataclass(frozen=True, slots=True)
class Result:
    """The record of one run. `started` is Unix time, `duration` seconds; `skip` is (class, reason) of a skipped run."""

    check: str
    probe: str
    started: float
    duration: float
    outcome: Outcome
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    skip: tuple[str, str] | None = None
    detail: str = ""  # of a skip or an error, for people
    evidence: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    remember: Mapping[str, Json] | None = None
    comparisons: tuple[Comparison, ...] = ()
    quantiles: tuple[Quantile, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    energy: tuple[Energy, ...] = ()  # of a benchmark's cards

    @property
    def measured(self) -> bool:
        """Did this run learn something about the subject? Also one whose question applied to a part of this machine only."""
        in_part = self.skip is not None and self.skip[0] == "not_applicable" and bool(self.measurements)
        return self.outcome in MEASURED or in_part

    @property
    def deferred(self) -> bool:
        """Was this run put off? Then the last measured result stands."""
        return self.skip is not None and self.skip[0] == "deferred"

    def to_dict(self) -> dict[str, Json]:
        """Plain data that `from_dict` turns back into an equal Result."""
        data: dict[str, Json] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["measurements"] = [[m.metric, m.value, [list(pair) for pair in m.labels]] for m in self.measurements]
        data["findings"] = [[f.rule, f.severity, f.detail, f.subject] for f in self.findings]
        data["skip"] = list(self.skip) if self.skip else None
        data["comparisons"] = [asdict(c) for c in self.comparisons]
        data["quantiles"] = [asdict(q) for q in self.quantiles]
        data["expectations"] = [asdict(e) for e in self.expectations]
        data["energy"] = [asdict(e) for e in self.energy]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """Unknown fields are ignored (a newer minor version wrote them). KeyError, TypeError or ValueError on nonsense."""
        known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        known["measurements"] = tuple(
            Measurement(metric, value, tuple((k, v) for k, v in labels))
            for metric, value, labels in data["measurements"]
        )
        known["findings"] = tuple(Finding(*finding) for finding in data["findings"])
        known["skip"] = tuple(data["skip"]) if data.get("skip") else None
        known["comparisons"] = tuple(_made(Comparison, c) for c in data.get("comparisons", ()))
        known["quantiles"] = tuple(_made(Quantile, q) for q in data.get("quantiles", ()))
        known["expectations"] = tuple(_made(Expectation, e) for e in data.get("expectations", ()))
        known["energy"] = tuple(_made(Energy, e) for e in data.get("energy", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Latest:
    """The two records of a check (DESIGN.md section 5) and what follows from the runs before them.

    `since`: when the present outcome began; `succeeded`: start of the last ok run; `failures`: failed runs in a row.
    """

    last: Result
    measured: Result | None = None
    since: float = 0.0
    succeeded: float | None = None
    failures: int = 0
    remembered: Mapping[str, Json] = field(default_factory=dict)  # outlives runs that were blind or broke

    def after(self, result: Result) -> Latest:
        """The records once `result` arrived: a deferred run leaves `measured` alone, a blind or broken one removes it."""
        return _follow(result, self)

    @classmethod
    def first(cls, result: Result) -> Latest:
        return _follow(result, None)

    def to_dict(self) -> dict[str, Json]:
        """Plain data for history; `measured` is "last" where both records are one."""
        same = self.measured is self.last
        measured: Json = "last" if same else self.measured.to_dict() if self.measured else None
        return {
            "last": self.last.to_dict(),
            "measured": measured,
            "since": self.since,
            "succeeded": self.succeeded,
            "failures": self.failures,
            "remembered": dict(self.remembered),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Latest:
        last, measured = Result.from_dict(data["last"]), data["measured"]
        return cls(
            last,
            last if measured == "last" else Result.from_dict(measured) if measured else None,
            data["since"],
            data["succeeded"],
            data["failures"],
            data["remembered"],
        )


def _made(kind: type[Part], data: Mapping[str, Any]) -> Part:
    """That part of a record, without fields that this version does not know."""
    known = {name: data[name] for name in kind.__dataclass_fields__ if name in data}
    if "labels" in known:
        known["labels"] = tuple((k, v) for k, v in known["labels"])
    return kind(**known)


def _follow(result: Result, before: Latest | None) -> Latest:
    kept = before.measured if before and result.deferred else None
    same = before is not None and before.last.outcome == result.outcome
    failures = before.failures if before else 0
    if result.measured:
        failures = failures + 1 if result.outcome == "failed" else 0
    return Latest(
        last=result,
        measured=result if result.measured else kept,
        since=before.since if before and same else result.started,
        succeeded=result.started if result.outcome == "ok" else (before.succeeded if before else None),
        failures=failures,
        remembered=result.remember if result.remember is not None else before.remembered if before else {},
    )
