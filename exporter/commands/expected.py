"""What should a card reach, where does that come from, and what did the cards of this machine reach last?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from exporter import flags, registry, storage
from exporter.comparison import series_name
from exporter.config import Config
from exporter.config.validation import nearest
from exporter.console import Console, Mistake
from exporter.expected import POWER_TOLERANCE, UNITS, UNKNOWN, Card, Kind, Link, Reference, Table, Value, lesser, table
from exporter.history import recall
from exporter.machine import Machine
from exporter.result import Result
from exporter.units import human
from exporter.world.token import Token
from probes.api import Skipped, SubjectFailed
from probes.world.gpus import Gpu

LOOK = 10.0  # seconds for the driver to answer
NONE = "-"
TITLES: Mapping[Kind, str] = {
    "fp32": "matmul fp32",
    "tf32": "matmul tf32",
    "matmul": "matmul bf16, fp16",
    "memory": "memory_copy",
    "bus": "host_copy",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A card that is asked about: its name, its model where the table has it, and what checks here measured of it.

    `figures`: what programs wrote of themselves last, by name; they run on any card.
    """

    name: str
    card: Card | None
    gpu: Gpu | None = None
    reached: tuple[tuple[str, str, float, float], ...] = ()  # check, series, value, ratio
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def slot(self) -> Link:
        """What its slot is known to give: an older board's generation."""
        return Link(self.gpu.pcie_generation_max or 0, 0) if self.gpu else UNKNOWN


def main(args: argparse.Namespace, console: Console) -> int:
    known = table()
    subjects = _here(args, console, known) if args.card is None else _asked(args.card, known)
    if args.json:
        console.json([_data(subject, known) for subject in subjects])
        return 0
    for subject in subjects:
        _tell(subject, known, console)
    if not subjects:
        console.line(
            "this machine has no card that the driver tells of; `--card 4090` tells where another's values come from"
        )
        _overview(known, console)
    return 0


def _asked(word: str, known: Table) -> list[Subject]:
    """The cards of that model or name; else those whose name has all of the words, such as `rtx 4070`."""
    plain = " ".join(word.casefold().split())
    words = set(plain.split())
    found = [card for card in known.cards if plain in ("all", card.model.casefold(), *card.names)]
    found = found or [card for card in known.cards if words and words <= set(card.model.casefold().split())]
    if not found:
        near = nearest(word, [card.model for card in known.cards])
        raise Mistake(
            f"there is no expected value for {word!r}{near or '; `--card all` lists the cards that have one'}"
        )
    return [Subject(card.model, card) for card in found]


def _here(args: argparse.Namespace, console: Console, known: Table) -> list[Subject]:
    machine = Machine(flags.places(args))
    try:
        config = flags.wanted(args, registry.load(), machine)
        console.redact.learn(config.secrets)
        seen = machine.doors.gpus.look(Token(LOOK))
    except (Skipped, SubjectFailed) as stop:
        console.trouble(f"the cards of this machine cannot be asked: {stop}")
        return []
    finally:
        machine.close()
    if seen.error or (seen.nvidia and not seen.gpus):
        told = f"the driver says {seen.error}" if seen.error else "a card is on the PCI bus, and no driver tells of it"
        console.trouble(f"{told}: `gpu-canary run gpu_driver` says what to do")
    newest = dict(_newest(config))
    figures = {
        dict(m.labels).get("figure", ""): m.value
        for run in newest.values()
        for m in run.measurements
        if run.probe == "command" and m.metric == "figures"
    }
    return [
        # A slice of a card is not the card, and one that the driver lost tells no name.
        Subject(
            gpu.name or f"card {gpu.index} ({gpu.error or 'without a name'})",
            None if gpu.mig else known.card(gpu.name, gpu.memory_total),
            gpu,
            tuple(_reached(newest, gpu)),
            figures,
        )
        for gpu in seen.gpus
    ]


def _newest(config: Config) -> Iterator[tuple[str, Result]]:
    """The newest run that history has of each benchmark, by its check."""
    file = Path(config.storage.path) / storage.HISTORY
    for check in config.checks:
        for run in recall(file, check.name, 1) if check.family == "benchmarks" else []:
            yield check.name, run


def _reached(newest: Mapping[str, Result], gpu: Gpu) -> Iterator[tuple[str, str, float, float]]:
    """What those runs say of the expected values of that card."""
    for name, run in newest.items():
        if run.identity.get("uuid", gpu.uuid if gpu.index == 0 else "") == gpu.uuid:
            values = {(m.metric, m.labels): m.value for m in run.measurements}
            for e in run.expectations:
                yield name, series_name(e.metric, dict(e.labels)), values[e.metric, e.labels], e.ratio


# -- what a person sees -----------------------------------------------------------------------------------------------


def _overview(known: Table, console: Console) -> None:
    rows = [(card.model, *(_shown(kind, known.value(card, kind)) for kind in UNITS)) for card in known.cards]
    console.table(("MODEL", *(TITLES[kind].upper() for kind in UNITS)), rows, indent=2)


def _shown(kind: Kind, value: Value | None) -> str:
    return human(UNITS[kind], value.value) if value else NONE


def _tell(subject: Subject, known: Table, console: Console) -> None:
    card = subject.card
    if card is None:
        why = "MIG cuts it into slices, which have " if subject.gpu and subject.gpu.mig else ""
        console.line(f"{subject.name}: {why}no expected value", style="warning")
        console.line("its benchmarks are judged by their own past and by targets alone", indent=2)
        return
    console.line(f"{card.model}: {card.memory / 1e9:g} GB, {card.watts:g} W, PCIe {card.link}", style="bold")
    for held in _held_back(subject, card):
        console.line(held, style="warning", indent=2)
    rows = [
        (TITLES[kind], _shown(kind, v), human(UNITS[kind], v.specification), v.basis, v.source.date, v.source.link)
        for kind, v in _values(subject, card, known).items()
    ]
    console.table(("BENCHMARK", "EXPECTED", "SPECIFICATION", "BASIS", "TAKEN OVER", "SOURCE"), rows, indent=2)
    console.line("every other series has no expected value: its own past judges it", indent=2)
    measured = [
        (check, name, human(name.partition("{")[0], v), f"{ratio:.0%}") for check, name, v, ratio in subject.reached
    ]
    console.table(("CHECK", "SERIES", "LAST", "OF EXPECTED"), measured, indent=2)
    if subject.gpu and not measured:
        console.line("nothing of it was measured here yet: `gpu-canary bench`", indent=2)
    _tell_references(subject, card, known, console)


def _held_back(subject: Subject, card: Card) -> Iterator[str]:
    """What keeps this very card below its model before anything is measured."""
    gpu = subject.gpu
    if gpu and gpu.power_limit is not None and gpu.power_limit < POWER_TOLERANCE * card.watts:
        yield f"its power limit is {gpu.power_limit:g} W of {card.watts:g} W: expect less of it under load"
    if lesser(card.link, subject.slot) != card.link:
        yield f"its slot gives PCIe gen {subject.slot.generation} at most: what host_copy is expected to reach is over that"


def _values(subject: Subject, card: Card, known: Table) -> dict[Kind, Value]:
    values = ((kind, known.value(card, kind, subject.slot)) for kind in UNITS)
    return {kind: value for kind, value in values if value is not None}


def _tell_references(subject: Subject, card: Card, known: Table, console: Console) -> None:
    references = _references(card, known)
    if references:
        console.line(f"reference: {known.conditions}", indent=2)
        console.line(
            f"{known.basis}; for the targets of your `command` checks, whose figures of that name are beside it",
            indent=2,
        )
        rows = [(r.name, _range(r), _figure(r.name, subject.figures.get(r.name)), r.note) for r in references]
        console.table(("FIGURE", "REFERENCE", "LAST HERE", ""), rows, indent=4)


def _references(card: Card, known: Table) -> list[Reference]:
    """Those of the card and those of any; none where the sources say nothing of that card."""
    own = [r for r in known.references if r.card == card.model]
    return own + [r for r in known.references if not r.card] if own else []


def _range(reference: Reference) -> str:
    low, high = (_figure(reference.name, bound) for bound in (reference.low, reference.high))
    return low if low == high else f"{low} to {high}"


def _figure(name: str, value: float | None) -> str:
    """The sources count memory in GB of 10^9 bytes: so do their references."""
    if value is None:
        return NONE
    return f"{value / 1e9:.3g} GB" if name.endswith("_bytes") else human(name, value)


def _data(subject: Subject, known: Table) -> dict[str, object]:
    card = subject.card
    return {
        "name": subject.name,
        "uuid": subject.gpu.uuid if subject.gpu else "",
        "model": card.model if card else None,
        "values": {kind: asdict(value) for kind, value in _values(subject, card, known).items()} if card else {},
        "held_back": list(_held_back(subject, card)) if card else [],
        "reached": [{"check": c, "series": s, "value": v, "ratio": r} for c, s, v, r in subject.reached],
        "references": [
            {**asdict(r), "last": subject.figures.get(r.name)} for r in (_references(card, known) if card else [])
        ],
    }
