"""What is a check, and what is the record of a run? The records everybody passes around."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from probes.api import Finding, Json, Lane, Measurement, Params, Probe, Severity

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
    """A bound on a metric (short name). `labels` narrow it to the series that carry them. At least one bound is set."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    severity: Severity = "warning"
    labels: Mapping[str, str] = field(default_factory=dict)


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

    @property
    def measured(self) -> bool:
        """Did this run learn something about the subject?"""
        return self.outcome in MEASURED

    @property
    def deferred(self) -> bool:
        """Was this run put off? Then the last measured result stands."""
        return self.skip is not None and self.skip[0] == "deferred"

    def to_json(self) -> str:
        """One line of JSON that `from_json` turns back into an equal Result."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Unknown fields are ignored (a newer minor version wrote them). ValueError or TypeError on anything else."""
        data = json.loads(text)
        data = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        data["measurements"] = tuple(
            Measurement(m["metric"], m["value"], tuple((k, v) for k, v in m["labels"]))
            for m in data.get("measurements", ())
        )
        data["findings"] = tuple(Finding(**f) for f in data.get("findings", ()))
        data["skip"] = tuple(data["skip"]) if data.get("skip") else None
        return cls(**data)
