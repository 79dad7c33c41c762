"""Which hosts are simulated, and what happens to them? A scenario's YAML to Hosts; every error at once, with its line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from exporter.config.conversion import read
from exporter.config.document import ConfigError, Ledger, Node, plant
from exporter.config.entries import CheckEntry, Entry, checks
from exporter.config.overlay import merged
from exporter.config.validation import nearest, validated
from exporter.demo.changes import Change, leads
from exporter.demo.worlds import Recording, Subject, on_host
from exporter.result import Check
from probes.api import Json, Measurement, Probe

SHIPPED = {path.stem: path for path in Path(__file__).parent.glob("*.yml")}
OURS = ("example", "changes")  # of a check's keys; all others are those of a config


class SimulatedCheck(CheckEntry):
    """A check as in a config. Its params are those of its example, and over them its own."""

    example: str = Field("", description="The title of one of the probe's examples; default: its first.")
    changes: list[Change] = Field([], description="What moves.")


class HostEntry(Entry):
    """One simulated host."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")] = Field(description="Its `instance`.")
    tier: Literal["", "server"] = Field("", description="`server`: a machine that must never sleep.")
    cards: list[Annotated[str, Field(min_length=1)]] = Field([], max_length=16, description="The names of its cards.")
    rest: bool = Field(False, description="Has a check of every probe that no host names, too.")
    checks: list[SimulatedCheck] = Field([], description="What is asked there.")


class Settings(Entry):
    """The shape of a scenario file."""

    hosts: list[HostEntry] = Field(min_length=1, max_length=20, description="The simulated hosts.")


@dataclass(frozen=True)
class Host:
    """One simulated host, ready to run."""

    name: str
    tier: str
    subjects: tuple[Subject, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(subject.check for subject in self.subjects)


def load(name: str, probes: Mapping[str, Probe[Any]]) -> tuple[Host, ...]:
    """The hosts of a scenario: a file, or a shipped one by its name. ConfigError tells everything that is wrong."""
    ledger = Ledger()
    root = read(SHIPPED.get(name, Path(name)), ledger)
    settings = None if ledger.problems else validated(Settings, root, "", ledger)
    if settings is None:
        raise ConfigError(ledger.problems)
    named = {check.probe for host in settings.hosts for check in host.checks}
    unnamed = [probe for probe in probes.values() if probe.name not in named]
    hosts: dict[str, Host] = {}
    for entry, node in zip(settings.hosts, (root.get("hosts") or Node(())).items(), strict=True):
        if entry.name in hosts:
            ledger.wrong(node, f"hosts[{entry.name}]", "a second host of this name; give it another")
        hosts[entry.name] = _host(entry, node, unnamed if entry.rest else [], probes, ledger)
    if ledger.problems:
        raise ConfigError(ledger.problems)
    return tuple(hosts.values())


def _host(
    entry: HostEntry, node: Node, rest: Iterable[Probe[Any]], probes: Mapping[str, Probe[Any]], ledger: Ledger
) -> Host:
    listed = zip(entry.checks, (node.get("checks") or Node(())).items(), strict=True)
    given = [*listed, *(pair for probe in rest for pair in _of_rest(probe, node))]
    recordings = [_recordings(check, entry, probes.get(check.probe)) for check, _ in given]
    plain = Node(tuple(_of_config(g, place, r) for (g, place), r in zip(given, recordings, strict=True)))
    built = {check.name: check for check in checks(replace(node, value={"checks": plain}), probes, ledger)}
    subjects = []
    for (wanted, place), recorded in zip(given, recordings, strict=True):
        check = built.get(wanted.name or wanted.probe)
        if check is not None:  # or it is wrong, which was told
            subject = _subject(wanted, check, recorded, entry.name)
            _fits(subject, place, ledger)
            subjects.append(subject)
    return Host(entry.name, entry.tier, tuple(subjects))


def _of_rest(probe: Probe[Any], node: Node) -> Iterator[tuple[SimulatedCheck, Node]]:
    """As few checks of a probe as show each of its metrics: nobody named it in the scenario."""
    missing, number = {metric.name for metric in probe.metrics}, 0
    for example in probe.examples:
        shown = {fact.metric for fact in example.facts if isinstance(fact, Measurement)}
        if number == 0 or missing & shown:
            missing, number = missing - shown, number + 1
            name = probe.name if number == 1 else f"{probe.name}-{number}"
            entry: dict[str, Json] = {"probe": probe.name, "name": name, "example": example.title}
            yield SimulatedCheck.model_validate(entry), replace(plant(entry), file=node.file, line=node.line)


def _recordings(check: SimulatedCheck, host: HostEntry, probe: Probe[Any] | None) -> Mapping[str, Recording]:
    """What a probe's examples would have been on this host, by their titles."""
    gpu = str((check.params or {}).get("gpu", ""))
    card = int(gpu) if gpu.isdecimal() else 0
    return {e.title: on_host(e, host.name, host.cards, card) for e in (probe.examples if probe else ())}


def _of_config(check: SimulatedCheck, place: Node, recordings: Mapping[str, Recording]) -> Node:
    """The check as a config would say it: with the params of its example under its own."""
    pairs = {key: value for key, value in place.pairs().items() if key not in OURS}
    example = recordings.get(check.example or next(iter(recordings), ""))
    if example is not None:
        own = pairs.get("params") or Node({}, place.file, place.line)
        pairs["params"] = merged(plant(example.params, place.file), own)
    return replace(place, value=pairs)


def _subject(wanted: SimulatedCheck, check: Check, recorded: Mapping[str, Recording], host: str) -> Subject:
    worlds = {title: recording.world for title, recording in recorded.items()}
    return Subject(host, check, worlds, wanted.example or next(iter(worlds), ""), tuple(wanted.changes))


def _fits(subject: Subject, place: Node, ledger: Ledger) -> None:
    """Is there every example that is named, and does every path lead somewhere in one of them?"""
    key, worlds = f"hosts[{subject.host}].checks[{subject.check.name}]", subject.recordings
    for title in (subject.example, *(change.example for change in subject.changes if change.example)):
        if title not in worlds:
            hint = nearest(title, worlds) or f"; it has {', '.join(map(repr, worlds)) or 'none'}"
            ledger.wrong(place, f"{key}.example", f"{subject.check.probe.name} has no example {title!r}{hint}")
    shown = [worlds[t] for t in {subject.example, *(c.example for c in subject.changes)} if t in worlds]
    lost = [path for change in subject.changes for path in change.paths() if not any(leads(w, path) for w in shown)]
    for path in lost:
        known = ", ".join(sorted({key for world in shown for key in world})) or "nothing"
        ledger.wrong(place, f"{key}.changes", f"{path!r} is nowhere in the examples used here; they record {known}")
