"""What should a card reach, where does that come from, and what did the cards of this machine reach last?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from exporter import flags, registry, storage
from exporter.comparison import series_name
from exporter.config import Config
from exporter.config.validation import nearest
from exporter.console import Console, Mistake
from exporter.expected import UNITS, Card, Reference, Table, table
from exporter.history import recall
from exporter.machine import Machine
from exporter.units import human
from exporter.world.token import Token
from probes.api import Skipped, SubjectFailed
from probes.world.gpus import Gpu

LOOK = 10.0  # seconds for the driver to answer


@dataclass(frozen=True, slots=True)
class Subject:
    """A card that is asked about: its name, its model where the table has it, and what checks here measured of it."""

    name: str
    uuid: str
    card: Card | None
    reached: tuple[tuple[str, str, float, float], ...] = ()  # check, series, value, ratio


def main(args: argparse.Namespace, console: Console) -> int:
    known = table()
    subjects = _asked(args.card, known) if args.card else _here(args, console, known)
    if args.json:
        console.json([_data(subject, known) for subject in subjects])
        return 0
    for subject in subjects:
        _tell(subject, known, console)
    if not subjects:
        console.line("this machine has no card that the driver tells of; `--card MODEL` shows another's values")
        console.line(f"known: {', '.join(card.model for card in known.cards)}")
    return 0


def _asked(word: str, known: Table) -> list[Subject]:
    plain = " ".join(word.casefold().split())
    found = [card for card in known.cards if plain in ("all", card.model.casefold(), *card.names)]
    if not found:
        models = [card.model for card in known.cards]
        near = nearest(word, models) or f"; known: {', '.join(models)}"
        raise Mistake(f"there is no expected value for {word!r}{near}")
    return [Subject(card.model, "", card) for card in found]


def _here(args: argparse.Namespace, console: Console, known: Table) -> list[Subject]:
    machine = Machine(flags.places(args))
    try:
        config = flags.wanted(args, registry.load(), machine)
        console.redact.learn(config.secrets)
        cards: Sequence[Gpu] = machine.doors.gpus.look(Token(LOOK)).gpus
    except (Skipped, SubjectFailed) as stop:
        console.trouble(f"the cards of this machine cannot be asked: {stop}")
        cards = ()
    finally:
        machine.close()
    found = ((gpu, known.card(gpu.name, gpu.memory_total)) for gpu in cards)
    return [Subject(gpu.name, gpu.uuid, card, tuple(_reached(config, gpu.uuid, gpu.index))) for gpu, card in found]


def _reached(config: Config, uuid: str, index: int) -> Iterator[tuple[str, str, float, float]]:
    """What history's newest runs on that card say of its expected values."""
    file = Path(config.storage.path) / storage.HISTORY
    for check in config.checks:
        newest = recall(file, check.name, 1) if check.family == "benchmarks" else []
        for run in newest:
            if run.identity.get("uuid", uuid if index == 0 else "") == uuid:
                values = {(m.metric, m.labels): m.value for m in run.measurements}
                for e in run.expectations:
                    yield check.name, series_name(e.metric, dict(e.labels)), values[e.metric, e.labels], e.ratio


def _tell(subject: Subject, known: Table, console: Console) -> None:
    card = subject.card
    if card is None:
        console.line(f"{subject.name}: no expected value", style="warning")
        console.line("its benchmarks are judged by their own past and by targets alone", indent=2)
        return
    console.line(f"{card.model}: {card.memory / 1e9:g} GB, {card.watts:g} W, PCIe {card.pcie}", style="bold")
    rows = [
        (kind, human(UNITS[kind], v.value), human(UNITS[kind], v.specification), v.basis, v.source.date, v.source.link)
        for kind, v in card.values.items()
    ]
    console.table(("TEST", "EXPECTED", "SPECIFICATION", "BASIS", "TAKEN OVER", "SOURCE"), rows, indent=2)
    measured = [
        (check, name, human(name.partition("{")[0], v), f"{ratio:.0%}") for check, name, v, ratio in subject.reached
    ]
    console.table(("CHECK", "SERIES", "LAST", "OF EXPECTED"), measured, indent=2)
    if subject.uuid and not measured:
        console.line("nothing of it was measured here yet: `gpu-canary bench`", indent=2)
    references = [r for r in known.references if r.card == card.model]
    if references:
        console.line(f"reference: {known.conditions}", indent=2)
        console.table((), [_reference(r) for r in (*references, *_of_any(known))], indent=4)


def _of_any(known: Table) -> list[Reference]:
    return [r for r in known.references if not r.card]


def _reference(reference: Reference) -> tuple[str, str]:
    low, high = (human(reference.name, bound) for bound in (reference.low, reference.high))
    return reference.name, low if low == high else f"{low} to {high}"


def _data(subject: Subject, known: Table) -> dict[str, object]:
    card, references = subject.card, []
    if card is not None:
        references = [asdict(r) for r in known.references if r.card in (card.model, "")]
    values = {kind: asdict(value) for kind, value in card.values.items()} if card else {}
    return {
        "name": subject.name,
        "uuid": subject.uuid,
        "model": card.model if card else None,
        "values": values,
        "reached": [{"check": c, "series": s, "value": v, "ratio": r} for c, s, v, r in subject.reached],
        "references": references,
    }
