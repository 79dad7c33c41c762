"""What should a card of this model reach? The table of probes/benchmarks/expected.yaml, and results held against it.

It is read when the first benchmark's result with a card's name arrives. A card that is not in it has no expected value.
"""

from __future__ import annotations

import functools
import re
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

Kind = Literal["fp32", "tf32", "matmul", "memory", "bus"]
Basis = Literal["measured", "inferred", "derived"]
BASES: tuple[Basis, ...] = ("measured", "inferred")  # what an entry states; the first that has a kind counts
# Which series each kind of value is about: (probe, metric) and the labels that tell its series.
SERIES: Mapping[tuple[str, str], Mapping[tuple[str, str], Kind]] = {
    ("matmul", "flops_per_second"): {
        ("dtype", "fp32"): "fp32",
        ("dtype", "tf32"): "tf32",
        ("dtype", "bf16"): "matmul",
        ("dtype", "fp16"): "matmul",
    },
    ("memory_copy", "bytes_per_second"): {("device", "cuda"): "memory"},
    ("host_copy", "bytes_per_second"): {("device", "cuda"): "bus"},
}
UNITS: Mapping[Kind, str] = {
    "fp32": "flops_per_second",
    "tf32": "flops_per_second",
    "matmul": "flops_per_second",
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
class Link:
    """A PCIe link: `gen 4 x16`. 0 is what was not told."""

    generation: int
    lanes: int

    def __str__(self) -> str:
        return f"gen {self.generation} x{self.lanes}"


UNKNOWN = Link(0, 0)


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
    link: Link
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
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """All of it. `buses`: by generation, what sixteen lanes reach. `conditions` and `basis` are those of the references."""

    cards: tuple[Card, ...]
    buses: Mapping[int, Value]
    references: tuple[Reference, ...]
    conditions: str
    basis: str
    source: Source

    def card(self, name: str, memory: float | None = None) -> Card | None:
        """The model of that name, with so many bytes of memory where that is known; None: no expected value."""
        return next((card for card in self.cards if card.named(name, memory)), None)

    def value(self, card: Card, kind: Kind, slot: Link = UNKNOWN) -> Value | None:
        """What is expected of one kind, over the bus no more than that slot gives; None: no expected value."""
        if kind != "bus":
            return card.values.get(kind)
        link = lesser(card.link, slot)
        whole, share = self.buses.get(link.generation), link.lanes / 16
        if whole is None or share == 1:
            return whole
        return Value(whole.value * share, whole.specification * share, "derived", whole.source)


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
    buses = {
        link_of(f"{name} x16").generation: Value(bus["value"], 16 * bus["lane"], "measured", sources[bus["source"]])
        for name, bus in data["buses"].items()
    }
    return Table(
        cards=tuple(_card(entry, data, sources) for entry in data["cards"]),
        buses=buses,
        references=tuple(_references(told)),
        conditions=told["conditions"],
        basis=told["basis"],
        source=sources[told["source"]],
    )


def _references(told: Mapping[str, Any]) -> Iterator[Reference]:
    for card, values in (*told["cards"].items(), ("", told["any"])):
        for name, bounds in values.items():
            low, high = bounds if isinstance(bounds, list) else (bounds, bounds)
            yield Reference(card, name, float(low), float(high), told["notes"].get(name, ""))


def _card(entry: Mapping[str, Any], data: Mapping[str, Any], sources: Mapping[str, Source]) -> Card:
    return Card(
        entry["model"],
        frozenset(map(_plain, entry["names"])),
        entry.get("shared_name", False),
        entry["kind"],
        entry["memory"],
        entry["watts"],
        link_of(entry["pcie"]),
        entry.get("multiprocessors", 0),
        entry.get("boost_hertz", 0.0),
        dict(_values(entry, data["shares"][entry["kind"]], data["ratios"][entry["kind"]], sources)),
    )


def _values(
    entry: Mapping[str, Any],
    shares: Mapping[str, float],
    ratios: Mapping[str, float],
    sources: Mapping[str, Source],
) -> Iterator[tuple[Kind, Value]]:
    told = entry["specification"]
    specification = {kind: ratio * told["matmul"] for kind, ratio in ratios.items()} | told
    stated = [(basis, group) for basis in BASES for group in entry.get(basis, ())]
    for kind in (kind for kind in UNITS if kind in specification):
        most = specification[kind]
        found = next((pair for pair in stated if kind in pair[1]), None)
        if found is not None:
            basis, group = found
            yield kind, Value(group[kind], most, basis, sources[group["source"]])
        elif kind in shares:
            yield kind, Value(most * shares[kind], most, "derived", sources[told["source"]])


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
    slot = link_of(result.conditions.get("pcie_slot", ""))
    told = list(_expectations(result, card, slot))
    low = tuple(_finding(result, card, *one) for one in told if one[3].ratio < LEAST)
    outcome = worst(result.outcome, *(SEVERITY_OUTCOME[f.severity] for f in low))
    expectations = tuple(expectation for *_, expectation in told)
    return replace(result, expectations=expectations, findings=(*result.findings, *low), outcome=outcome)


def _expectations(result: Result, card: Card, slot: Link) -> Iterator[tuple[Measurement, Kind, Value, Expectation]]:
    for m in result.measurements:
        kind = kind_of(result.probe, m.metric, m.labels)
        value = table().value(card, kind, slot) if kind and ("device", "cuda") in m.labels else None
        if kind is not None and value is not None:
            yield m, kind, value, Expectation(m.metric, m.labels, value.value, m.value / value.value)


def _finding(result: Result, card: Card, m: Measurement, kind: Kind, value: Value, expected: Expectation) -> Finding:
    causes = list(causes_of(result, card, kind))
    cause = f"seen with it: {'; '.join(causes)}" if causes else "no cause was seen in this run"
    seen, wanted = human(m.metric, m.value), human(m.metric, expected.value)
    detail = f"{seen} is {expected.ratio:.0%} of the {wanted} that a {card.model} reaches ({value.basis}); {cause}"
    return BELOW_EXPECTED(detail, series_name(m.metric, dict(m.labels)))


def causes_of(result: Result, card: Card, kind: Kind) -> Iterator[str]:
    """What this run saw that explains a low value: a lowered power limit, a lesser link, throttling, other processes.

    The link slows what goes over it, and the power limit what does not.
    """
    watts = _number(result.conditions.get("power_limit", ""))
    if kind != "bus" and watts is not None and watts < POWER_TOLERANCE * card.watts:
        yield f"power limit {watts:g} W of {card.watts:g} W"
    link = link_of(result.conditions.get("pcie_link", ""))
    if kind == "bus" and link.lanes and lesser(card.link, link) != card.link:
        yield f"PCIe link {link} of {card.link}"
    yield from strains(result)


def link_of(text: str) -> Link:
    """The link that a text tells: `gen 4 x16`, `gen 4` alone; zeros for what it does not tell."""
    told = re.fullmatch(r"gen (\d+)(?: x(\d+))?", text)
    return Link(int(told[1]), int(told[2] or 0)) if told else UNKNOWN


def lesser(card: Link, other: Link) -> Link:
    """What is left of a card's link in a slot, or under a load, that may give less; what is not told takes nothing."""
    return Link(min(card.generation, other.generation or 99), min(card.lanes, other.lanes or 99))


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
