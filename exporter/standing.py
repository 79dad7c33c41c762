"""How does every check stand? Asked of the running exporter, or read from the history it left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from exporter import findings
from exporter.inquiry import answer
from exporter.maintenance import Maintenance
from exporter.result import Check, Latest, Outcome
from probes.api import Json


@dataclass(frozen=True, slots=True)
class Standing:
    """One check. Times in Unix seconds; `last` is its last run as in the API, empty before the first and while all is well."""

    name: str
    probe: str
    outcome: Outcome | None = None
    skip: Mapping[str, str] | None = None
    started: float | None = None
    since: float | None = None
    running: bool = False
    last: Mapping[str, Any] | None = None

    @property
    def verdict(self) -> Outcome:
        """The outcome, where blind counts as an error of ours; a check put off, or not yet run, says nothing."""
        if self.skip is not None and self.skip["class"] == "blind":
            return "error"
        return self.outcome or "skipped"

    @property
    def shown(self) -> str:
        """The outcome for people."""
        if self.skip is not None:
            return f"skipped ({self.skip['class']}: {self.skip['reason']})"
        return self.outcome or "not yet run"

    def to_dict(self) -> Mapping[str, Json]:
        return asdict(self)


def live(url: str) -> tuple[list[Standing], Maintenance | None]:
    """What the exporter at `url` says, and whether maintenance is on. Mistake when nobody answers."""
    told = answer(url, "/api/v1/checks")
    checks = told.get("checks") if isinstance(told, dict) else None
    standings = [_told(check, url) for check in checks] if isinstance(checks, list) else []
    return standings, _mute(told.get("maintenance") if isinstance(told, dict) else None)


def _mute(told: object) -> Maintenance | None:
    """Another version may tell more, or less."""
    if not isinstance(told, dict) or not isinstance(told.get("until"), int | float):
        return None
    return Maintenance(told["until"], str(told.get("why", "")), float(told.get("since") or 0.0))


def _told(check: Mapping[str, Any], url: str) -> Standing:
    last = None
    if check["outcome"] not in ("ok", None):
        whole = answer(url, f"/api/v1/checks/{quote(check['name'])}")
        last = whole.get("last") if isinstance(whole, dict) else None
    own = {key: check[key] for key in ("name", "probe", "outcome", "skip", "started", "since")}
    return Standing(**own, running=check["running"] is not None, last=last)


def remembered(checks: Iterable[Check], latest: Mapping[str, Latest]) -> Iterator[Standing]:
    """What history says of the configured checks."""
    for check in checks:
        found = latest.get(check.name)
        if found is None:
            yield Standing(check.name, check.probe.name)
            continue
        last = findings.as_data(found.last)
        skip = {"class": found.last.skip[0], "reason": found.last.skip[1]} if found.last.skip else None
        outcome, started = found.last.outcome, found.last.started
        yield Standing(check.name, check.probe.name, outcome, skip, started, found.since, last=last)
