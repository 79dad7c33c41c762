"""Does a panel show what it means? Labels that exist, colours that hold and have words, numbers that an alert has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dashboards.queries import Json, filled, panels, targets
from dashboards.sdk import units
from tests.dashboards import promql
from tests.dashboards.catalogue import Catalogue
from tests.dashboards.declared import PAIRED, UNPAIRED
from tests.dashboards.labels import labels

NAMED = {"green", "orange", "red", "blue", "purple", "yellow", "text", "transparent"}  # Grafana's own, in both themes
UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
HEX = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", re.IGNORECASE)
BACKGROUNDS = ("#ffffff", "#181b1f")  # of a panel, light and dark
CONTRAST = 3.0  # https://www.w3.org/TR/WCAG21/#non-text-contrast


@dataclass(frozen=True)
class House:
    """What a dashboard is held against: all series, all uids, the numbers in alerts."""

    catalogue: Catalogue
    uids: frozenset[str]
    alert_numbers: dict[str, set[float]] = field(default_factory=dict)


def links(panel: Json) -> Iterator[str]:
    yield from (link["url"] for link in panel.get("links") or ())
    yield from re.findall(r"\]\(([^)]+)\)", panel.get("options", {}).get("content", ""))  # of a text
    for properties in overrides(panel, "links"):
        yield from (link["url"] for link in properties)
    yield from (link["url"] for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links") or ())


def overrides(panel: Json, name: str) -> Iterator[Any]:
    for override in panel.get("fieldConfig", {}).get("overrides", ()):
        yield from (p["value"] for p in override["properties"] if p["id"] == name)


def labels_that_are_shown_are_there(board: Json, house: House) -> Iterator[str]:
    """A legend, a column or a link that names a label no query has stays empty."""
    for panel in panels(board):
        there: set[str] = set()
        any_label = False
        for target in targets(panel):
            found = _labels(target.expr, house)
            any_label |= found is None
            there |= found or set()
            missing = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.legend)) - (found or set())
            if found is not None and missing:
                yield f"{panel['title']} {target.ref}: its legend names {sorted(missing)}, which its series lack"
        named = {name for url in links(panel) for name in re.findall(r"__(?:data\.fields|field\.labels)\.(\w+)", url)}
        changes = [c["options"] for c in panel.get("transformations") or () if c["id"] == "filterFieldsByName"]
        shown = {name for options in changes for name in options["include"]["names"]}
        columns = {name for name in shown if name.startswith("Value")}
        named |= shown - columns - {"Time"}
        refs = [target.ref for target in targets(panel)]
        numbers = {"Value"} if len(refs) == 1 else {f"Value #{ref}" for ref in refs}
        if columns - numbers:
            yield f"{panel['title']}: columns name {sorted(columns - numbers)}; its queries give {sorted(numbers)}"
        if not any_label and named - there:
            yield f"{panel['title']}: columns or links name {sorted(named - there)}, which its series lack"


def _labels(expr: str, house: House) -> frozenset[str] | None:
    try:
        names = {name: f"${name}" for name in re.findall(r"\$\{?([a-z]\w*)", expr)}
        return labels(promql.parsed(filled(expr, names, promql.MACROS), house.catalogue).root, house.catalogue)
    except (ValueError, KeyError):
        return None  # queries_are_right says so


def units_are_grafanas(board: Json, house: House) -> Iterator[str]:
    """dashboard-linter: panel-units. Grafana shows a unit that it does not know as text after the number."""
    for panel in panels(board):
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
        for found in (unit, *overrides(panel, "unit")):
            if found and found not in UNITS:
                yield f"{panel['title']}: Grafana has no unit {found!r}"


def colours_are_not_the_only_sign(board: Json, house: House) -> Iterator[str]:
    """A mapped value has a word, and colours hold on a light and on a dark panel."""
    for panel in panels(board):
        config = panel.get("fieldConfig") or {"defaults": {}, "overrides": []}
        mappings = [
            *config["defaults"].get("mappings", ()),
            *(m for found in overrides(panel, "mappings") for m in found),
        ]
        for result in (result for mapping in mappings for result in _results(mapping)):
            if not result.get("text"):
                yield f"{panel['title']}: a mapped value has a colour and no word"
        for color in re.findall(r"'color': '([^']+)'", str([mappings, list(_thresholds(panel))])):
            if color not in NAMED and not _readable(color):
                yield f"{panel['title']}: the colour {color} is lost on a light or a dark panel"


def _results(mapping: Json) -> Iterator[Json]:
    if mapping["type"] == "value":
        yield from mapping["options"].values()
    else:
        yield mapping["options"]["result"]


def _thresholds(panel: Json) -> Iterator[Json]:
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    for found in (defaults.get("thresholds"), *overrides(panel, "thresholds")):
        yield from (found or {}).get("steps", ())


def _readable(color: str) -> bool:
    if not HEX.fullmatch(color):
        return False
    pairs = (sorted((_luminance(color), _luminance(background))) for background in BACKGROUNDS)
    return all((bright + 0.05) / (dark + 0.05) >= CONTRAST for dark, bright in pairs)


def _luminance(color: str) -> float:
    """Relative luminance: https://www.w3.org/TR/WCAG21/#dfn-relative-luminance"""
    parts = [int(part, 16) / 255 for part in HEX.fullmatch(color).groups()]  # type: ignore[union-attr]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def numbers_are_those_of_the_alert(board: Json, house: House) -> Iterator[str]:
    """Where colours change at a number other than 0 or 1, an alert has that number, or declared.py says why not."""
    for panel in panels(board):
        place = (board["uid"], panel["title"])
        numbers = {step["value"] for step in _thresholds(panel) if step["value"] not in (None, 0, 1)}
        if numbers and place not in PAIRED and place not in UNPAIRED:
            yield f"{panel['title']}: colours change at {sorted(numbers)}; name the alert in PAIRED"
        if place in PAIRED:
            missing = numbers - house.alert_numbers.get(PAIRED[place], set())
            if missing or not numbers:
                yield f"{panel['title']}: {PAIRED[place]} does not have {sorted(missing) or 'its numbers here'}"
