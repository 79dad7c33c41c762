"""What may a probe use? Everything here, and nothing else of ours.

A probe is one module: a docstring that asks its question, `Params`, `Metric`s and `Rule`s, a generator
`run(params, world)` that yields facts, and `PROBE = Probe(...)`. It holds no state between runs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal

from probes.facts import (
    Conditions,
    Energy,
    Evidence,
    Fact,
    Finding,
    Identity,
    Json,
    Measurement,
    Metric,
    Progress,
    Remember,
    Rule,
    Severity,
)
from probes.measuring import BenchmarkParams, benchmark, card_of, cards_of, energy_of, facts_of
from probes.params import Bytes, Duration, P, Params, PatientRegex, Regex, Secret, parse_duration
from probes.rules import HOUSE_RULES
from probes.stops import Aborted, Blind, Deferred, NotApplicable, Skipped, SubjectFailed
from probes.world import MIB, World
from probes.world.workers import Row

__all__ = [
    "FAMILIES",
    "GIB",
    "HOUSE_RULES",
    "KIB",
    "MARKER",
    "MIB",
    "Aborted",
    "BenchmarkParams",
    "Blind",
    "Bytes",
    "Conditions",
    "Deferred",
    "Duration",
    "Energy",
    "Evidence",
    "Example",
    "Fact",
    "Finding",
    "Identity",
    "Json",
    "Lane",
    "Measurement",
    "Metric",
    "Needs",
    "NotApplicable",
    "P",
    "Params",
    "PatientRegex",
    "Probe",
    "Progress",
    "Regex",
    "Remember",
    "Row",
    "Rule",
    "Secret",
    "Severity",
    "Skipped",
    "SubjectFailed",
    "World",
    "benchmark",
    "card_of",
    "cards_of",
    "energy_of",
    "facts_of",
    "recorded",
]

MARKER = "gpu-canary probes 1"  # how `exporter` knows that the `probes` it imported is ours
KIB, GIB = 1024, 1024 * MIB
FAMILIES: Mapping[str, str] = {
    "environment": "Is this machine set up right?",
    "hardware": "What are the card and the host doing, and are they sound?",
    "benchmarks": "How fast is it, against its target and its past?",
    "services": "Do the services answer, correctly and in time?",
    "pipelines": "Do whole workflows work, from input to finished file?",
    "models": "Are the models, caches and checkpoints there and sound?",
    "resilience": "What happens under load and when something breaks?",
}  # and the larger question that the probes of each answer
Lane = Literal["light", "worker", "browser", "gpu"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run occupies. `gpu` takes the card exclusively, and only while it is idle when `idle` is set.

    `seconds`: for how long a run holds its card, with the start of its Python; an estimate, for the sum of a day.
    """

    lane: Lane = "light"
    idle: bool = False
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Example:
    """Test, documentation and demo data at once: with these params, this recorded world yields these facts.

    `world` is what `probes.testing.RecordedWorld` takes. `facts` lists every Measurement, Finding and Remember of the run,
    in order. `skip` is `class:reason` of an expected skip.
    """

    title: str
    params: Mapping[str, Json] = field(default_factory=dict)
    world: Mapping[str, Json] = field(default_factory=dict)
    facts: Sequence[Fact] = ()
    skip: str = ""


@dataclass(frozen=True)
class Probe(Generic[P]):
    """Code plus declaration: one kind of question. `family` is needed only outside this package."""

    name: str
    params: type[P]
    run: Callable[[P, World], Iterator[Fact]]
    metrics: tuple[Metric, ...] = ()
    rules: tuple[Rule, ...] = ()
    every: str = "5m"
    timeout: str = "30s"
    needs: Needs = Needs()
    examples: tuple[Example, ...] = ()
    family: str = ""
    _metrics: Mapping[str, Metric] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_metrics", {metric.name: metric for metric in self.metrics})
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", self.name):
            raise ValueError(f"probe {self.name!r}: use snake_case")
        package, _, rest = self.run.__module__.partition(".")
        if not self.family and package == "probes":
            object.__setattr__(self, "family", rest.partition(".")[0])
        if self.family not in FAMILIES:
            raise ValueError(f"probe {self.name!r}: family {self.family!r} is not one of {', '.join(FAMILIES)}")
        if parse_duration(self.timeout) > parse_duration(self.every):
            raise ValueError(f"probe {self.name!r}: timeout {self.timeout} is longer than its interval {self.every}")

    @property
    def title(self) -> str:
        """The question this probe answers: the first line of its module's docstring."""
        doc = sys.modules[self.run.__module__].__doc__ or ""
        return doc.strip().partition("\n")[0]

    def metric(self, name: str) -> Metric | None:
        """The declared metric of that short name."""
        return self._metrics.get(name)


def recorded(module_file: str) -> tuple[Example, ...]:
    """The examples in `examples/<stem>.json` beside a probe's module (`recorded(__file__)`).

    A list of objects with the fields of `Example`; facts are {"metric", "value", "labels"}, {"rule", "severity", "detail",
    "subject"} or {"remember": {...}}.
    """
    path = Path(module_file)
    entries = json.loads((path.parent / "examples" / f"{path.stem}.json").read_text(encoding="utf-8"))
    return tuple(Example(**{**entry, "facts": tuple(map(_fact, entry.get("facts", ())))}) for entry in entries)


def _fact(entry: dict[str, Json]) -> Fact:
    if "metric" in entry:
        labels = entry.get("labels") or {}
        if not isinstance(labels, dict):
            raise TypeError(f"labels of {entry['metric']!r} are not an object")
        return Measurement(
            str(entry["metric"]), float(str(entry["value"])), tuple((k, str(v)) for k, v in labels.items())
        )
    if "rule" in entry:
        return Finding(**entry)  # type: ignore[arg-type]  # the dataclass names what is wrong
    data = entry["remember"]
    if not isinstance(data, dict):
        raise TypeError("remember takes an object")
    return Remember(data)
