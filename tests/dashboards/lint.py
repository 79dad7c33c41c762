"""Is a dashboard right? Each check takes one dashboard's JSON and yields what is wrong with it, for every type of panel.

Panels in collapsed rows are looked at like all others. What a query can do wrong is in promql.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from dashboards.queries import Json, filled, label_values, panels, targets, variables
from tests.dashboards import promql
from tests.dashboards.shown import (
    House,
    colours_are_not_the_only_sign,
    labels_that_are_shown_are_there,
    links,
    numbers_are_those_of_the_alert,
    units_are_grafanas,
)

COLUMNS, FIRST_LOOK = 24, 20
SPEAKING = ("text", "row")  # they have no query
NOW = ("stat", "table", "gauge", "bargauge", "piechart")  # they show the value at the end of the time range


def lint(board: Json, house: House) -> list[str]:
    """Everything that is wrong, as `check: where: what`."""
    return [f"{check.__name__}: {message}" for check in CHECKS for message in check(board, house)]


def has_its_own_head(board: Json, house: House) -> Iterator[str]:
    """File provisioning, links and readers need these."""
    if not re.fullmatch(r"gpucanary-[a-z]+", board.get("uid", "")):
        yield f"uid {board.get('uid')!r}: use gpucanary-STEM"
    if board.get("schemaVersion") != 42:
        yield f"schemaVersion {board.get('schemaVersion')}: 42 is the newest classic one"
    wanted = {"editable": False, "refresh": "1m", "graphTooltip": 1}
    yield from (
        f"{key} is {board.get(key)!r}, not {value!r}" for key, value in wanted.items() if board.get(key) != value
    )
    yield from (f"no {key}" for key in ("title", "description") if not board.get(key))
    if "gpu-canary" not in board.get("tags", ()):
        yield "no tag gpu-canary: the other dashboards' drop-down would not list it"


def ids_are_unique(board: Json, house: House) -> Iterator[str]:
    """Grafana numbers panels anew where they clash, and links to them break."""
    everything = [*board["panels"], *(p for row in board["panels"] for p in row.get("panels", ()))]
    for number, times in Counter(panel.get("id") for panel in everything).items():
        if number is None or number < 1 or times > 1:
            yield f"panel id {number} occurs {times} times"
    for title, times in Counter(panel["title"] for panel in panels(board)).items():
        if times > 1:
            yield f"{times} panels are called {title}"
    for panel in panels(board):
        refs = [target.ref for target in targets(panel)]
        if len(set(refs)) < len(refs):
            yield f"{panel['title']}: refIds {refs} are not unique"


def panels_keep_their_places(board: Json, house: House) -> Iterator[str]:
    """No overlap, nothing beyond the 24 columns."""
    taken: dict[tuple[int, int], str] = {}
    for panel in [*(p for p in board["panels"] if p["type"] == "row"), *panels(board)]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > COLUMNS or min(place["w"], place["h"]) < 1 or place["x"] < 0:
            yield f"{panel['title']}: {place} does not fit on {COLUMNS} columns"
        cells = [
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        shared = {taken[cell] for cell in cells if cell in taken} if not _in_collapsed(board, panel) else set()
        yield from (f"{panel['title']} overlaps {other}" for other in sorted(shared))
        if not _in_collapsed(board, panel):
            taken |= dict.fromkeys(cells, panel["title"])
    for row in board["panels"]:
        inside: Counter[tuple[int, int]] = Counter()
        for panel in row.get("panels") or ():
            place = panel["gridPos"]
            inside.update(
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            )
        if any(times > 1 for times in inside.values()):
            yield f"panels in the collapsed row {row['title']} overlap"


def _in_collapsed(board: Json, panel: Json) -> bool:
    return any(panel in (row.get("panels") or ()) for row in board["panels"])


def few_panels_at_first(board: Json, house: House) -> Iterator[str]:
    """Each panel asks Prometheus something whenever somebody looks."""
    first = 0
    for panel in board["panels"]:
        if panel["type"] == "row" and panel.get("collapsed"):
            break
        first += panel["type"] != "row"
    if first > FIRST_LOOK:
        yield f"{first} panels before a collapsed row; collapse what few people need"


def panels_explain_themselves(board: Json, house: House) -> Iterator[str]:
    """dashboard-linter: panel-title-description, panel-units, panel-no-targets; and words for no data."""
    for panel in panels(board):
        title = panel.get("title") or f"panel {panel.get('id')}"
        if not panel.get("title") or len(panel.get("description", "")) < 10:
            yield f"{title}: it needs a title and a description that says which question it answers"
        if panel["type"] in SPEAKING:
            continue
        defaults = panel["fieldConfig"]["defaults"]
        if not defaults.get("unit"):
            yield f"{title}: no unit"
        if not defaults.get("noValue"):
            yield f"{title}: no words for no data"
        if panel["type"] == "state-timeline" and not _maps_null(defaults):
            yield f"{title}: a state timeline ignores noValue; map null to words"
        if not list(targets(panel)):
            yield f"{title}: no query"


def _maps_null(defaults: Json) -> bool:
    special = [m["options"] for m in defaults.get("mappings", ()) if m["type"] == "special"]
    return any(options.get("match") == "null" and options["result"].get("text") for options in special)


def queries_fit_their_panel(board: Json, house: House) -> Iterator[str]:
    """The value now for a number or a table, a range for lines; a reducer that somebody chose."""
    for panel in panels(board):
        for target in panel.get("targets") or ():
            now = panel["type"] in NOW
            if bool(target.get("instant")) != now or bool(target.get("range")) == now:
                yield f"{panel['title']} {target['refId']}: must be {'instant' if now else 'a range query'}"
            if (target.get("format") == "table") != (panel["type"] == "table"):
                yield f"{panel['title']} {target['refId']}: format is {target.get('format')!r}"
        if panel["type"] in NOW and panel["type"] != "table" and not panel["options"]["reduceOptions"].get("calcs"):
            yield f"{panel['title']}: no reducer; Grafana would take the mean"


def the_datasource_is_a_variable(board: Json, house: House) -> Iterator[str]:
    """dashboard-linter: template-datasource, panel-datasource."""
    first = board["templating"]["list"][0]
    if (first["name"], first["type"], first["label"]) != ("datasource", "datasource", "Data source"):
        yield "the first variable is not the data source"
    for panel in panels(board):
        if panel["type"] in SPEAKING:
            continue
        for found in (panel, *panel.get("targets", ())):
            if (found.get("datasource") or {}).get("uid") != "${datasource}":
                yield f"{panel['title']}: its data source is fixed"
    for name, found in (
        *((v["name"], v) for v in variables(board)),
        *((a["name"], a) for a in board["annotations"]["list"]),
    ):
        if (found.get("datasource") or {}).get("uid") != "${datasource}":
            yield f"{name}: its data source is fixed"


def variables_are_sound(board: Json, house: House) -> Iterator[str]:
    """dashboard-linter: template-job, template-instance, template-label-promql, template-on-time-change-reload."""
    known = {variable["name"]: variable for variable in variables(board)}
    for name in ("job", "instance"):
        found = known.get(name, {})
        if not (found.get("multi") and found.get("includeAll") and found.get("allValue") == ".+"):
            yield f"variable {name}: must allow several values and All as .+"
    for name, found in known.items():
        if found.get("refresh") != 2:
            yield f"variable {name}: must be filled anew when the time range changes"
        if not found.get("label") or not found.get("description"):
            yield f"variable {name}: no label or description"
        asks = found["query"]["query"]
        of_query = re.fullmatch(r"query_result\((.+)\)", asks, re.DOTALL)
        selector = of_query[1] if of_query else label_values(asks)[0]
        if selector:
            yield from _wrong_in(
                f"variable {name}", selector, house, (promql.every_metric_exists, promql.labels_survive)
            )


def variables_are_used_and_defined(board: Json, house: House) -> Iterator[str]:
    """Both ways, over the whole JSON."""
    defined = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"(?<![\w$])\$\{?([a-z]\w*)(?::\w+)?\}?", _text({**board, "templating": {}})))
    chained = set(re.findall(r"\$\{?([a-z]\w*)", _text([v["query"] for v in variables(board)])))
    yield from (f"${name} is used and not defined" for name in sorted((used | chained) - defined))
    yield from (f"variable {name} is used by no panel" for name in sorted(defined - used - chained))


def _text(node: Any) -> str:
    """All strings in it."""
    if isinstance(node, dict):
        return "\n".join(_text(value) for value in node.values())
    return "\n".join(map(_text, node)) if isinstance(node, list) else str(node)


def links_resolve(board: Json, house: House) -> Iterator[str]:
    """A link leads to a dashboard of ours, or to the exporter, and keeps what was chosen."""
    for panel in panels(board):
        for url in links(panel):
            uid = re.match(r"/d/([^/?]+)", url)
            if uid and uid[1] not in house.uids and not uid[1].endswith(".board}"):
                yield f"{panel['title']}: there is no dashboard {uid[1]}"
            if not uid and not url.startswith(("${__data.fields.self}/", "${__field.labels.self}/")):
                yield f"{panel['title']}: {url} leads neither to a dashboard nor to the exporter"
            kept = ("${datasource:queryparam}", "${__url_time_range}", "instance")
            yield from (f"{panel['title']}: {url} drops {word}" for word in kept if uid and word not in url)
        boards = re.findall(
            r'"board", "([^"$]+)(?:\$1", "\w+", "\((.+?)\))?"', "\n".join(t.expr for t in targets(panel))
        )
        named = {before + stem for before, stems in boards for stem in (stems.split("|") if stems else [""])}
        yield from (f"{panel['title']}: there is no dashboard {uid}" for uid in sorted(named - house.uids))


def _wrong_in(
    where: str, expr: str, house: House, checks: tuple[Callable[[promql.Asked], Iterator[str]], ...]
) -> Iterator[str]:
    names = re.findall(r"\$\{?([a-z]\w*)", expr)
    try:
        asked = promql.parsed(filled(expr, {name: f"${name}" for name in names}, promql.MACROS), house.catalogue)
    except (ValueError, KeyError) as refusal:
        yield f"{where}: no PromQL: {refusal}"
        return
    for check in checks:
        yield from (f"{where}: {check.__name__}: {message}" for message in check(asked))


def queries_are_right(board: Json, house: House) -> Iterator[str]:
    """Every query of every panel and annotation, by every check of promql.py."""
    for panel in panels(board):
        for target in targets(panel):
            yield from _wrong_in(f"{panel['title']} {target.ref}", target.expr, house, promql.CHECKS)
    for found in board["annotations"]["list"]:
        yield from _wrong_in(f"annotation {found['name']}", found["expr"], house, promql.CHECKS)


CHECKS: tuple[Callable[[Json, House], Iterator[str]], ...] = (
    has_its_own_head,
    ids_are_unique,
    panels_keep_their_places,
    few_panels_at_first,
    panels_explain_themselves,
    queries_fit_their_panel,
    the_datasource_is_a_variable,
    variables_are_sound,
    variables_are_used_and_defined,
    links_resolve,
    queries_are_right,
    labels_that_are_shown_are_there,
    units_are_grafanas,
    colours_are_not_the_only_sign,
    numbers_are_those_of_the_alert,
)
