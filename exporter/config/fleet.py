"""Which exporters belong together? The entries under `fleet:`, which Prometheus reads at /sd."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from exporter.config.entries import Entry

SELF = "self"  # this exporter, wherever it listens
TARGET = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
LABEL = r"^[a-zA-Z_][a-zA-Z0-9_]*$"  # https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels


def _target(value: str) -> str:
    match = TARGET.fullmatch(value)
    if value != SELF and (match is None or not 0 < int(match[1]) < 65536):
        raise ValueError(f"{value!r} is no target; write host:port like gpu2:19835, or {SELF} for this exporter")
    return value


def _label(value: str) -> str:
    if not re.fullmatch(LABEL, value):
        raise ValueError(f"{value!r} is no label name; use letters, digits and _, and begin with no digit")
    return value


Target = Annotated[str, AfterValidator(_target)]
Label = Annotated[str, AfterValidator(_label)]


class FleetEntry(Entry):
    """Exporters that get the same labels."""

    targets: tuple[Target, ...] = Field(min_length=1, description="host:port of each exporter; `self` is this one.")
    labels: dict[Label, str] = Field({}, description="Labels Prometheus gives their series, like `tier: server`.")
