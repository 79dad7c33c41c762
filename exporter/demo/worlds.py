"""What does the world say in one run of a simulated check? An example of its probe, moved to the time of the run."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from exporter.demo.changes import Change
from exporter.result import Check
from probes.api import Example, Json
from probes.testing import RecordedWorld

RECORDED = 1_700_000_000.0  # when examples were recorded, unless they say so: RecordedWorld.now()
LIFETIME = 1e8  # numbers this near to it are times too: when a machine started, when a certificate ends


class Recording(NamedTuple):
    """An example's params and world."""

    params: dict[str, Any]
    world: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One check of one simulated host, and everything its world may be. `recordings` are worlds by their example's title."""

    host: str
    check: Check
    recordings: Mapping[str, Mapping[str, Any]]
    example: str
    changes: Sequence[Change] = ()
    took: float | None = None  # seconds that a run seems to last

    def world(self, moment: float, now: float, previous: Mapping[str, Json], speed: float = 1.0) -> RecordedWorld:
        """The world at `moment`, seconds from the scenario's start; its clock says `now`, Unix time.

        The scenario's time passes `speed` times as fast as that clock.

        An example that remembers something always remembers that: it shows the same in every run.
        """
        example = self.example
        for change in self.changes:
            if change.example and change.since(moment) is not None:
                example = change.example
        recorded = self.recordings[example]
        world: dict[str, Any] = _shifted(recorded, now - float(recorded.get("now", RECORDED)))
        for change in self.changes:
            change.apply(world, moment, f"{self.host} {self.check.name}", now, speed)
        return RecordedWorld({"previous": previous, **world, "now": now})


def _shifted(data: Any, by: float) -> Any:
    """A copy in which every time is `by` seconds later."""
    if isinstance(data, dict):
        return {key: _shifted(value, by) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_shifted(value, by) for value in data]
    if isinstance(data, int | float) and abs(data - RECORDED) < LIFETIME and not isinstance(data, bool):
        return round(data + by) if isinstance(data, int) else data + by
    return data


def card_uuid(host: str, index: int) -> str:
    """The same in every run of the demo, as NVML writes it."""
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{index}.{host}.gpu-canary.example')}"


def on_host(example: Example, host: str, cards: Sequence[str], card: int = 0) -> Recording:
    """An example as if it had been recorded on a host with these cards (their names).

    Where the example saw a card, it sees all of the host's; what it says of its first one, it says of number `card`.
    """
    params, world = dict(example.params), dict(example.world)
    seen = world.get("gpus")
    recorded = seen.get("gpus") if isinstance(seen, dict) else None
    if not recorded or not isinstance(recorded, list) or not isinstance(recorded[0], dict) or card >= len(cards):
        return Recording(params, world)
    first = recorded[0]
    text = json.dumps([params, world])
    for old, new in ((first.get("uuid"), card_uuid(host, card)), (first.get("name"), cards[card])):
        text = text.replace(json.dumps(old), json.dumps(new)) if old else text
    params, world = json.loads(text)
    gpus: dict[str, Any] = world["gpus"]
    gpus["gpus"] = [
        {**copy.deepcopy(gpus["gpus"][0]), "index": index, "uuid": card_uuid(host, index), "name": name}
        | ({"pci_bus_id": _slot(index)} if "pci_bus_id" in first else {})
        for index, name in enumerate(cards)
    ]
    on_bus = [entry for entry in gpus.get("pci", ()) if entry.get("vendor") == "nvidia"]
    if on_bus:
        others = [entry for entry in gpus["pci"] if entry not in on_bus]
        gpus["pci"] = [*others, *({**on_bus[0], "address": _slot(index)} for index in range(len(cards)))]
    return Recording(params, world)


def _slot(index: int) -> str:
    return f"0000:{index + 1:02x}:00.0"
