"""When shall benchmarks leave the machine alone? The section `gate:`, which every check of that family obeys."""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from exporter.config.entries import Entry
from exporter.quiet_hours import PATTERN, QuietHours, parse
from probes.api import PatientRegex
from probes.world.http import checked_url


def _span(value: str) -> str:
    parse(value)
    return value


def _zone(value: str) -> str:
    try:
        if value:
            ZoneInfo(value)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"{value!r} is no time zone of this system; write it like Europe/Berlin") from None
    return value


def _path(value: str) -> str:
    if not re.fullmatch(r"([^.\[\]\s]+|\[[0-9]+\])(\.[^.\[\]\s]+|\[[0-9]+\])*", value):
        raise ValueError(f"{value!r} is no path into JSON; write it like queue_running or status.jobs[0]")
    return value


Span = Annotated[str, AfterValidator(_span), WithJsonSchema({"type": "string", "pattern": PATTERN})]


class BusyQuestion(Entry):
    """A service that may say that it works now."""

    url: Annotated[str, AfterValidator(checked_url)] = Field(description="Asked by GET before a benchmark, and during.")
    json_path: Annotated[str, AfterValidator(_path)] | None = Field(
        default=None,
        description="Like `queue_running` or `jobs[0].busy`. Busy unless it leads to [], {}, 0, false, null or an empty text.",
    )
    regex: PatientRegex | None = Field(default=None, description="Busy when the answer's body holds it.")

    @model_validator(mode="after")
    def _one_of_them(self) -> BusyQuestion:
        if (self.json_path is None) == (self.regex is None):
            raise ValueError("expected either json_path or regex: what of the answer says that it is busy?")
        return self


class Gate(Entry):
    """What keeps benchmarks away besides a card that works."""

    quiet_hours: tuple[Span, ...] = Field(
        default=(), description="Local times like `Mon-Fri 09:00-18:00` or `22:00-07:00` at which no benchmark runs."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="", description="Of `quiet_hours`, like Europe/Berlin; empty for this machine's."
    )
    lock_file: str = Field(default="", description="While this file exists, no benchmark runs: anybody may `touch` it.")
    device_budget: float = Field(
        default=0.01, gt=0, le=1, description="Share of a day that benchmarks may hold a card; more is an alert."
    )
    busy: tuple[BusyQuestion, ...] = Field(default=(), description="Services that are asked whether they work now.")

    @property
    def spans(self) -> tuple[QuietHours, ...]:
        """The quiet hours, as spans."""
        return tuple(map(parse, self.quiet_hours))
