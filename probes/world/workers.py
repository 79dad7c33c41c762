"""What does a worker write while it runs?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from probes.facts import Json


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the row file.

    start: `data` holds what the child sees from inside (python, torch, cuda, worker revision, device).
    fact: `metric`, `value` and `labels` of one measurement, checked against the probe's metrics by `facts_of`.
    data: any JSON the worker reports that is no number (`data`).
    progress: `done` of `total`.
    end: the worker finished; `data` holds its own peak RSS, and what the parent saw: `conditions` (driver, power limit, PCIe
    link under load), `evidence` (log tail, memory, clocks, power and throttling of the card) and `card` (as numbers: vram,
    vram_of, utilization, power) by name, and `energy`, a list of {gpu, uuid, joules}, one for each card.
    """

    kind: Literal["start", "fact", "data", "progress", "end"]
    metric: str = ""
    value: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    done: float = 0.0
    total: float = 0.0
    data: Mapping[str, Json] = field(default_factory=dict)
