"""Which hosts are simulated, and what happens to them? A scenario's YAML to Hosts; every error at once, with its line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from exporter.config.conversion import read
from exporter.config.document import ConfigError, Ledger, Node, plant
from exporter.config.entries import CheckEntry, Entry, checks
from exporter.config.overlay import merged
from exporter.config.validation import nearest, validated
from exporter.demo.changes import Change, Moment, leads
from exporter.demo.worlds import Recording, Subject, on_host
from exporter.result import Check
from probes.api import Duration, Example, Finding, Json, Measurement, Probe

SHIPPED = {path.stem: path for path in Path(__file__).parent.glob("*.yml")}
OURS = ("example", "changes", "took")  # of a check's keys; all others are those of a config

Pair = tuple[Probe[Any], Example]


class SimulatedCheck(CheckEntry):
    """A check as in a config. Its params are those of its example, and over them its own."""

    example: str = Field("", description="The title of one of the probe's examples; default: its first.")
    changes: list[Change] = Field([], description="What moves.")
    took: Duration | None = Field(None, description="How long a run seems to last.")


class HostEntry(Entry):
    """One simulated host."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")] = Field(description="Its `instance`.")
    tier: Literal["", "server"] = Field("", description="`server`: a machine that must never sleep.")
    cards: list[Annotated[str, Field(min_length=1)]] = Field([], max_length=16, description="The names of its cards.")
    rest: Literal["", "metrics", "examples"] = Field(
        "",
        description="What else is asked: `metrics`, as few checks as show each metric of the probes that no host names; "
        "`examples`, a check for each example of every probe.",
    )
    checks: list[SimulatedCheck] = Field([], description="What is asked there.")


class Alert(Entry):
    """An alert that fired in the past. Of what lies before the demo's start no Prometheus could judge."""

    alert: str = Field(min_length=1, description="Its name.")
    host: str = Field(description="The host it is about.")
    labels: dict[Annotated[str, Field(pattern=r"^[a-z_]+$")], str] = Field({}, description="Its other labels.")
    summary: str = Field("", description="Its summary.")
    during: tuple[Moment, Moment] = Field(description="From when until when it fired.")


class Settings(Entry):
    """The shape of a scenario file."""

    hosts: list[HostEntry] = Field(min_length=1, max_length=20, description="The simulated hosts.")
    alerts: list[Alert] = Field([], description="Alerts that fired and were resolved before the start.")


@dataclass(frozen=True)
class Host:
    """One simulated host, ready to run."""

    name: str
    tier: str
    subjects: tuple[Subject, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(subject.check for subject in self.subjects)


@dataclass(frozen=True)
class Scenario:
    """A scenario, ready to run."""

    hosts: tuple[Host, ...]
    alerts: tuple[Alert, ...]


def load(name: str, probes: Mapping[str, Probe[Any]]) -> Scenario:
    """A scenario: a file, or a shipped one by its name. ConfigError tells everything that is wrong."""
    ledger = Ledger()
    root = read(SHIPPED.get(name, Path(name)), ledger)
    settings = None if ledger.problems else validated(Settings, root, "", ledger)
    if settings is None:
        raise ConfigError(ledger.problems)
    named = {check.probe for host in settings.hosts for check in host.checks}
    rests = {
        "": [],
        "metrics": [pair for probe in probes.values() if probe.name not in named for pair in _showing(probe)],
        "examples": [(probe, example) for probe in probes.values() for example in probe.examples],
    }
    hosts: dict[str, Host] = {}
    for entry, node in zip(settings.hosts, (root.get("hosts") or Node(())).items(), strict=True):
        if entry.name in hosts:
            ledger.wrong(node, f"hosts[{entry.name}]", "a second host of this name; give it another")
        hosts[entry.name] = _host(entry, node, rests[entry.rest], probes, ledger)
    for index, (alert, node) in enumerate(zip(settings.alerts, (root.get("alerts") or Node(())).items(), strict=True)):
        if alert.host not in hosts:
            told = f"{alert.host!r} is none of the hosts{nearest(alert.host, hosts) or '; ' + ', '.join(hosts)}"
            ledger.wrong(node, f"alerts[{index}].host", told)
    if ledger.problems:
        raise ConfigError(ledger.problems)
    return Scenario(tuple(hosts.values()), tuple(settings.alerts))


def _host(entry: HostEntry, node: Node, rest: Sequence[Pair], probes: Mapping[str, Probe[Any]], ledger: Ledger) -> Host:
    listed = zip(entry.checks, (node.get("checks") or Node(())).items(), strict=True)
    given = [*listed, *_of_rest(rest, node)]
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


def _showing(probe: Probe[Any]) -> Iterator[Pair]:
    """As few examples of a probe as show each of its metrics, those without trouble first."""
    missing, first = {metric.name for metric in probe.metrics}, True
    for example in sorted(probe.examples, key=lambda e: any(isinstance(f, Finding) for f in e.facts)):
        shown = {fact.metric for fact in example.facts if isinstance(fact, Measurement)}
        if first or missing & shown:
            missing, first = missing - shown, False
            yield probe, example


def _of_rest(pairs: Sequence[Pair], node: Node) -> Iterator[tuple[SimulatedCheck, Node]]:
    """A check for each example, named like its probe, the second one `disk-2`."""
    seen: Counter[str] = Counter()
    for probe, example in pairs:
        seen[probe.name] += 1
        name = probe.name if seen[probe.name] == 1 else f"{probe.name}-{seen[probe.name]}"
        entry: dict[str, Json] = {"probe": probe.name, "name": name, "example": example.title}
        yield SimulatedCheck.model_validate(entry), replace(plant(entry), file=node.file, line=node.line)


def _recordings(check: SimulatedCheck, host: HostEntry, probe: Probe[Any] | None) -> Mapping[str, Recording]:
    """What a probe's examples would have been on this host, by their titles."""
    gpu = str((check.params or {}).get("gpu", ""))
    card = int(gpu) if gpu.isdecimal() and len(gpu) < 3 else 0
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
    example = wanted.example or next(iter(worlds), "")
    return Subject(host, check, worlds, example, tuple(wanted.changes), wanted.took)


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
