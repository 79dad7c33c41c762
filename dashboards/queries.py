"""Which queries does a dashboard ask? With Grafana's variables and macros filled in, as a Prometheus would get them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

MACROS = {
    "__rate_interval": "4m",
    "__interval": "1m",
    "__range": "6h",
    "__range_s": "21600",
    "__from": "0",
    "__to": "0",
}
# `$1` belongs to PromQL's label_replace.
_NAME = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$([A-Za-z_]\w*)|\[\[(\w+)\]\]")
_LABEL_VALUES = re.compile(r"label_values\((?:(?P<selector>.+),\s*)?(?P<label>\w+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel."""

    ref: str
    expr: str
    legend: str
    instant: bool


def panels(board: Json) -> Iterator[Json]:
    """Every panel that shows something, those in collapsed rows included."""
    for panel in board["panels"]:
        yield from panel.get("panels") or ([panel] if panel["type"] != "row" else [])


def targets(panel: Json) -> Iterator[Target]:
    """Every query of one panel, as it stands in the JSON."""
    for found in panel.get("targets") or ():
        yield Target(found["refId"], found["expr"], found.get("legendFormat", ""), bool(found.get("instant")))


def variables(board: Json) -> Iterator[Json]:
    """The variables that a query fills, in order: a later one may use an earlier one."""
    yield from (v for v in board["templating"]["list"] if v["type"] == "query")


def filled(expr: str, values: Mapping[str, str], macros: Mapping[str, str] = MACROS) -> str:
    """`expr` with every `$name`, `${name}`, `${name:regex}` and `[[name]]` replaced; KeyError on one nobody knows."""
    known = {**macros, **values}
    return _NAME.sub(lambda found: known[found[1] or found[2] or found[3]], expr)


def label_values(query: str) -> tuple[str | None, str]:
    """Selector and label of Grafana's `label_values(selector, label)`; ValueError when it is something else."""
    found = _LABEL_VALUES.fullmatch(query.strip())
    if found is None:
        raise ValueError(f"not a label_values(...): {query}")
    return found["selector"], found["label"]
