"""What does a Prometheus answer to a dashboard? Every query executed, as the panel would: instant or over the range."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from dashboards.queries import Json, Target, filled, label_values, targets, variables

EVERYTHING = ".+"


class QueryError(Exception):
    """Prometheus refused a query; the text is its own."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of an answer. `points`: (Unix time, value); a single one for an instant query."""

    ref: str
    legend: str
    labels: dict[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when a dashboard looks, in Unix time."""

    start: float
    end: float
    step: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The query API of one Prometheus."""

    url: str

    def get(self, path: str, **params: str | float) -> Any:
        """`data` of an answer. QueryError when it refuses, OSError when it does not answer."""
        try:
            with urlopen(f"{self.url}{path}?{urlencode(params)}", timeout=30) as response:
                return json.load(response)["data"]
        except HTTPError as refusal:
            raise QueryError(refusal.read().decode("utf-8", "replace")) from None

    def choose(self, board: Json, given: Mapping[str, str]) -> dict[str, str]:
        """A value for each variable: what is `given`, everything where several may be chosen, or the first there is."""
        chosen = {"datasource": "prometheus", **given}
        for variable in variables(board):
            name = variable["name"]
            if name in chosen:
                continue
            if variable.get("includeAll"):
                chosen[name] = variable.get("allValue") or EVERYTHING
                continue
            found = self.options(variable, chosen)
            chosen[name] = found[0] if found else ""
        return chosen

    def options(self, variable: Json, chosen: Mapping[str, str]) -> list[str]:
        """What a variable may be, in order."""
        query = variable["query"]["query"] if isinstance(variable["query"], dict) else variable["query"]
        if asked := re.fullmatch(r"query_result\((.+)\)", query, re.DOTALL):
            answer = self.get("/api/v1/query", query=filled(asked[1], chosen))
            return [value for _, value in matching(variable["regex"], [one["metric"] for one in answer["result"]])]
        selector, label = label_values(query)
        match = {"match[]": filled(selector, chosen)} if selector else {}
        return list(self.get(f"/api/v1/label/{label}/values", **match))

    def answer(self, target: Target, values: Mapping[str, str], window: Window) -> list[Series]:
        """The series of one query. QueryError names the query."""
        expr = filled(target.expr, values)
        try:
            if target.instant:
                data = self.get("/api/v1/query", query=expr, time=window.end)
            else:
                data = self.get("/api/v1/query_range", query=expr, start=window.start, end=window.end, step=window.step)
        except QueryError as refusal:
            raise QueryError(f"{expr}: {refusal}") from None
        if data["resultType"] == "scalar":
            return [_series(target, {"metric": {}, "value": data["result"]})]
        return [_series(target, found) for found in data["result"]]

    def panel(self, panel: Json, values: Mapping[str, str], window: Window) -> list[Series]:
        """Everything one panel shows."""
        return [one for target in targets(panel) for one in self.answer(target, values, window)]


def matching(regex: str, found: Iterable[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Text and value of each option that Grafana reads from the series of a `query_result`, by text."""
    lines = ["{" + ",".join(f'{name}="{value}"' for name, value in sorted(one.items())) + "}" for one in found]
    pattern = re.compile(regex.strip("/").replace("(?<", "(?P<"))
    return sorted((hit["text"], hit["value"]) for hit in map(pattern.search, lines) if hit)


def _series(target: Target, found: Mapping[str, Any]) -> Series:
    labels = dict(found["metric"])
    points = tuple((float(at), float(value)) for at, value in found.get("values") or [found["value"]])
    return Series(target.ref, legend(target.legend, labels), labels, points)


def legend(form: str, labels: Mapping[str, str]) -> str:
    """Grafana's `{{label}}` filled in; without a form all labels but the name."""
    if not form:
        return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key != "__name__")
    for key, value in labels.items():
        form = form.replace(f"{{{{{key}}}}}", value).replace(f"{{{{ {key} }}}}", value)
    return form
