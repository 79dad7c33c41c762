"""What should a card of this model reach? The table of probes/benchmarks/expected.yaml, and results held against it.

It is read when the first benchmark's result with a card's name arrives. A card that is not in it has no expected value.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import probes
from exporter.baseline import strains
from exporter.comparison import series_name
from exporter.config.conversion import read
from exporter.config.document import ConfigError, Ledger
from exporter.result import SEVERITY_OUTCOME, Expectation, Result, worst
from exporter.units import human
from probes.api import Finding, Measurement
from probes.rules import BELOW_EXPECTED

FILE = Path(probes.__file__).parent / "benchmarks" / "expected.yaml"
LEAST = 0.8  # of the expected value; DECISIONS.md says why
MEMORY_TOLERANCE = 0.1  # drivers keep some of it, and makers count in other units than torch
POWER_TOLERANCE = 0.98  # of the model's own limit

Kind = Literal["matmul", "fp8", "memory", "bus"]
Basis = Literal["measured", "inferred", "derived"]
# Which series each kind of value is about: (probe, metric) and the labels that tell its series.
SERIES: Mapping[tuple[str, str], Mapping[tuple[str, str], Kind]] = {
    ("matmul", "flops_per_second"): {("dtype", "bf16"): "matmul", ("dtype", "fp16"): "matmul", ("dtype", "fp8"): "fp8"},
    ("memory_copy", "bytes_per_second"): {("device", "cuda"): "memory"},
    ("host_copy", "bytes_per_second"): {("device", "cuda"): "bus"},
}
UNITS: Mapping[Kind, str] = {
    "matmul": "flops_per_second",
    "fp8": "flops_per_second",
    "memory": "bytes_per_second",
    "bus": "bytes_per_second",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number comes from, and the day it was taken over."""

    link: str
    date: str


@dataclass(frozen=True, slots=True)
class Value:
    """What is expected of one kind, in operations or bytes a second, and the most that the specification allows."""

    value: float
    specification: float
    basis: Basis
    source: Source


@dataclass(frozen=True, slots=True)
class Card:
    """One model. `names` are whole names of NVML and torch; `memory` is in bytes, as its maker counts them.

    `shared_name`: another card, with other memory, has the same name. `multiprocessors` and `boost_hertz`: 0 where no
    formula needs them.
    """

    model: str
    names: frozenset[str]
    shared_name: bool
    kind: str
    memory: float
    watts: float
    pcie: str
    multiprocessors: int
    boost_hertz: float
    values: Mapping[Kind, Value]

    def named(self, name: str, memory: float | None) -> bool:
        """Is a card of that name and so many bytes this model? An unknown size is no size, where it must tell."""
        if _plain(name) not in self.names:
            return False
        if memory is None:
            return not self.shared_name
        return abs(memory - self.memory) <= MEMORY_TOLERANCE * self.memory


@dataclass(frozen=True, slots=True)
class Reference:
    """A value of the source systems for their own workload: from, to. `card` is "" where it holds for any."""

    card: str
    name: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Table:
    """All of it. `conditions` are those of the references."""

    cards: tuple[Card, ...]
    references: tuple[Reference, ...]
    conditions: str
    source: Source

    def card(self, name: str, memory: float | None = None) -> Card | None:
        """The model of that name, with so many bytes of memory where that is known; None: no expected value."""
        return next((card for card in self.cards if card.named(name, memory)), None)


@functools.cache
def table() -> Table:
    """The table that comes with gpu-canary."""
    return load(FILE)


def load(file: Path) -> Table:
    """Read a table. ConfigError when it is no YAML; KeyError, TypeError or ValueError when it is no table."""
    ledger = Ledger()
    data: Any = read(file, ledger).plain()
    if ledger.problems:
        raise ConfigError(ledger.problems)
    sources = {name: Source(entry["link"], entry["date"]) for name, entry in data["sources"].items()}
    told = data["references"]
    entries = [*told["cards"].items(), ("", told["any"])]
    references = [
        Reference(card, name, *(map(float, bounds) if isinstance(bounds, list) else (float(bounds),) * 2))
        for card, values in entries
        for name, bounds in values.items()
    ]
    cards = tuple(_card(entry, data, sources) for entry in data["cards"])
    return Table(cards, tuple(references), told["conditions"], sources[told["source"]])


def _card(entry: Mapping[str, Any], data: Mapping[str, Any], sources: Mapping[str, Source]) -> Card:
    values: dict[Kind, Value] = dict(_values(entry, data["shares"][entry["kind"]], sources))
    bus = data["buses"][entry["pcie"]]
    values["bus"] = Value(bus["value"], bus["specification"], "measured", sources[bus["source"]])
    return Card(
        entry["model"],
        frozenset(map(_plain, entry["names"])),
        entry.get("shared_name", False),
        entry["kind"],
        entry["memory"],
        entry["watts"],
        entry["pcie"],
        entry.get("multiprocessors", 0),
        entry.get("boost_hertz", 0.0),
        values,
    )


def _values(
    entry: Mapping[str, Any], shares: Mapping[str, float], sources: Mapping[str, Source]
) -> Iterator[tuple[Kind, Value]]:
    specification = entry["specification"]
    kinds: tuple[Kind, ...] = ("matmul", "fp8", "memory")
    for kind in (kind for kind in kinds if kind in specification and kind not in entry.get("without", ())):
        most = specification[kind]
        bases: tuple[Basis, ...] = ("measured", "inferred")
        basis = next((basis for basis in bases if kind in entry.get(basis, ())), None)
        if basis is not None:
            yield kind, Value(entry[basis][kind], most, basis, sources[entry[basis]["source"]])
        else:
            yield kind, Value(most * shares[kind], most, "derived", sources[specification["source"]])


def kind_of(probe: str, metric: str, labels: Sequence[tuple[str, str]]) -> Kind | None:
    """Which kind of value is this series held against? None: the table says nothing about it."""
    kinds = SERIES.get((probe, metric), {})
    return next((kinds[label] for label in labels if label in kinds), None)


def held(result: Result) -> Result:
    """The same result with what its card is expected to reach, and a finding for each series far below that."""
    name = result.conditions.get("device_name", "")
    if not result.measured or not name or not any((result.probe, m.metric) in SERIES for m in result.measurements):
        return result
    card = table().card(name, _memory(result))
    if card is None:
        return result
    pairs = list(_expectations(result, card))
    low = tuple(_finding(result, card, m, e) for m, e in pairs if e.ratio < LEAST)
    outcome = worst(result.outcome, *(SEVERITY_OUTCOME[f.severity] for f in low))
    expectations = tuple(e for _, e in pairs)
    return replace(result, expectations=expectations, findings=(*result.findings, *low), outcome=outcome)


def _expectations(result: Result, card: Card) -> Iterator[tuple[Measurement, Expectation]]:
    for m in result.measurements:
        kind = kind_of(result.probe, m.metric, m.labels)
        if kind is not None and kind in card.values and ("device", "cuda") in m.labels:
            value = card.values[kind].value
            yield m, Expectation(m.metric, m.labels, value, m.value / value)


def _finding(result: Result, card: Card, m: Measurement, expected: Expectation) -> Finding:
    kind = kind_of(result.probe, m.metric, m.labels)
    basis = card.values[kind].basis if kind else ""
    causes = list(causes_of(result, card))
    cause = f"seen with it: {'; '.join(causes)}" if causes else "no cause was seen in this run"
    seen, wanted = human(m.metric, m.value), human(m.metric, expected.value)
    detail = f"{seen} is {expected.ratio:.0%} of the {wanted} that a {card.model} reaches ({basis}); {cause}"
    return BELOW_EXPECTED(detail, series_name(m.metric, dict(m.labels)))


def causes_of(result: Result, card: Card) -> Iterator[str]:
    """What this run saw that explains a low value: a lowered power limit, a lesser link, throttling, other processes."""
    watts = _number(result.conditions.get("power_limit", ""))
    if watts is not None and watts < POWER_TOLERANCE * card.watts:
        yield f"power limit {watts:g} W of {card.watts:g} W"
    link = result.conditions.get("pcie_link", card.pcie)
    if _rate(link) < _rate(card.pcie):
        yield f"PCIe link {link} of {card.pcie}"
    yield from strains(result)


def _rate(link: str) -> float:
    """What a link of `gen 4 x16` carries, in lanes of the first generation; each generation doubles it."""
    words = link.replace("x", " ").split()
    try:
        return float(words[2]) * 2.0 ** int(words[1])
    except (IndexError, ValueError):
        return float("inf")


def _memory(result: Result) -> float | None:
    gib = _number(result.conditions.get("device_memory", ""))
    return None if gib is None else gib * 2**30


def _number(text: str) -> float | None:
    """The number that a text begins with: `450 W`."""
    try:
        return float(text.split()[0])
    except (IndexError, ValueError):
        return None


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())
