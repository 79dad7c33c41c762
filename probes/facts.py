"""What can a run say? Metrics and rules are declared once and called to make facts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
Severity = Literal["critical", "warning", "info"]
Kind = Literal["gauge", "counter", "events", "info"]
Better = Literal["higher", "lower"]

# Labels that belong to Prometheus, to its exposition format or to the house (DESIGN.md section 6).
RESERVED_LABELS = frozenset({"job", "instance", "check", "name", "le", "quantile", "metric", "severity", "verdict"})
SUFFIX: Mapping[Kind, str] = {"counter": "_total", "events": "_total", "info": "_info"}


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with labels, of a declared metric (`metric` is the short name, without the probe's prefix)."""

    metric: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that fired. `subject` comes from params or inventory, never a pid or free text; `detail` is for people."""

    rule: str
    severity: Severity
    detail: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long run is: `done` of `total`, in any one unit."""

    done: float
    total: float


@dataclass(frozen=True, slots=True)
class Remember:
    """What the check's next run finds in `world.previous`. JSON, at most 64 KiB; replaces what was remembered before."""

    data: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Text that joins the result for people (a log tail, a body excerpt). Never a label, cut at 8 KiB."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """What may change between comparable runs and explain a shift: driver, torch, CUDA, power limit, PCIe link."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides whether two runs are comparable at all, beyond probe and params: worker revision, card uuid."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Energy:
    """What a card used during a benchmark, whatever else ran on it: `gpucanary_benchmark_energy_joules`.

    gpu: the card's index; uuid: its full name by NVML. ValueError where `joules` are no such number.
    """

    gpu: int
    uuid: str
    joules: float

    def __post_init__(self) -> None:
        if not 0 <= self.joules < math.inf:
            raise ValueError(f"{self.joules} J are no energy that a card used")


Fact: TypeAlias = Measurement | Finding | Progress | Remember | Evidence | Conditions | Identity | Energy


@dataclass(frozen=True, slots=True)
class Metric:
    """A declared metric: exported as `gpucanary_<probe>_<name>`, in base units (seconds, bytes, ratios, hertz, watts).

    kind: `gauge`; `counter` (an absolute counter of the source, passed through); `events` (each fact is an increment,
    summed since process start); `info` (value 1, the labels are the message).
    better: which direction is an improvement; None where neither is.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = "gauge"
    better: Better | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", self.name):
            raise ValueError(f"metric {self.name!r}: use snake_case")
        suffix = SUFFIX.get(self.kind, "")
        ending = f"_{self.name}"  # so that `gpucanary_gpu_info` may be the metric `info` of the probe `gpu`
        if not ending.endswith(suffix) or (self.kind == "gauge" and ending.endswith(("_total", "_info"))):
            raise ValueError(
                f"metric {self.name!r}: a {self.kind} ends in {suffix or 'its unit, not in _total or _info'}"
            )
        bad = RESERVED_LABELS.intersection(self.labels)
        if bad:
            raise ValueError(f"metric {self.name!r}: reserved labels {sorted(bad)}")

    def __call__(self, value: float = 1.0, **labels: str | int) -> Measurement:
        """One measurement. TypeError on a wrong label, ValueError on NaN, infinity or a negative increment."""
        if labels.keys() != set(self.labels):
            raise TypeError(f"metric {self.name!r} has labels {self.labels}, got {tuple(labels)}")
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(
                f"metric {self.name!r}: {number} is not a measurement; yield nothing where a value is absent"
            )
        if number < 0 and self.kind in ("counter", "events"):
            raise ValueError(f"metric {self.name!r}: a {self.kind} cannot be negative ({number})")
        return Measurement(self.name, number, tuple((k, str(labels[k])) for k in self.labels))


@dataclass(frozen=True, slots=True)
class Rule:
    """A declared kind of trouble, with severity and remedy (Markdown steps, at least one command in backticks).

    `proof`: what it found stands also when somebody disturbed the run; of a benchmark's other findings nothing does.
    """

    name: str
    severity: Severity
    summary: str
    remedy: str
    proof: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            raise ValueError(f"rule {self.name!r}: use kebab-case")
        if "`" not in self.remedy:
            raise ValueError(f"rule {self.name!r}: the remedy names no command in backticks")

    def __call__(self, detail: str, subject: str = "") -> Finding:
        """One finding of this rule. `detail` says what was seen, with numbers and units."""
        return Finding(self.name, self.severity, detail, subject)
