"""Are the dashboards right, are they what the builders give, and does each rule of their linter catch what it is for?"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dashboards.__main__ import FOLDER, STEMS, boards
from dashboards.board import Board, Row
from dashboards.panels import GOOD, Panel, Query, series, stat, states, steps
from dashboards.preview.values import written
from dashboards.queries import filled, label_values, panels, targets
from dashboards.rest import completed, declared
from dashboards.sdk import JSONEncoder, model, register_default_plugins
from dashboards.tables import Column, table
from dashboards.verdicts import RANKS, VERDICTS, verdicts
from exporter.live import live_series
from exporter.schedule import Running
from probes import BUILTIN
from probes.api import Metric
from tests.dashboards import promql
from tests.dashboards.catalogue import SCRAPED, Series, alert_numbers, everything, house, probes
from tests.dashboards.declared import BARE, FOREIGN, LIVE, PAIRED, RETENTION_DAYS, UNPAIRED, UNSELECTED, UNSHOWN
from tests.dashboards.labels import names
from tests.dashboards.lint import CHECKS, House, lint

ROOT = Path(__file__).parent.parent
HERE = 'job=~"$job",instance=~"$instance"'


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Every dashboard's JSON, by stem."""
    return {board.stem: json.loads(board.json()) for board in boards()}


@pytest.fixture(scope="module")
def ours(made: dict[str, Any]) -> House:
    return House(everything(), frozenset(board["uid"] for board in made.values()), alert_numbers())


@pytest.mark.parametrize("stem", STEMS)
def test_the_linter_finds_nothing(stem: str, made: dict[str, Any], ours: House) -> None:
    assert lint(made[stem], ours) == []


def test_the_json_is_what_the_builders_give() -> None:
    built = {f"{board.uid}.json": board.json() for board in boards()}
    stored = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert sorted(stored) == sorted(built)
    late = [name for name, text in built.items() if stored[name] != text]
    assert late == [], "`make dashboards` writes them anew"


@pytest.mark.parametrize("stem", STEMS)
def test_the_sdk_reads_the_json_and_writes_the_same_bytes(stem: str) -> None:
    register_default_plugins()
    text = (FOLDER / f"gpucanary-{stem}.json").read_text(encoding="utf-8")
    read = model.Dashboard.from_json(json.loads(text))
    assert json.dumps(read, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n" == text


def test_a_key_that_the_sdk_does_not_know_does_not_survive_it() -> None:
    register_default_plugins()
    board = json.loads((FOLDER / "gpucanary-canary.json").read_text(encoding="utf-8"))
    board["unheardOf"] = 1
    assert "unheardOf" not in json.dumps(model.Dashboard.from_json(board), cls=JSONEncoder)


def test_no_two_dashboards_share_a_uid_or_a_title(made: dict[str, Any]) -> None:
    for key in ("uid", "title"):
        assert len({board[key] for board in made.values()}) == len(STEMS)


def shown(made: dict[str, Any]) -> set[str]:
    """Every metric that some panel or annotation asks for."""
    found = set()
    for board in made.values():
        asked = [target.expr for panel in panels(board) for target in targets(panel)]
        asked += [annotation["expr"] for annotation in board["annotations"]["list"]]
        found |= {name for text in asked for name in re.findall(r"[a-zA-Z_:][\w:]*", text)}
    return found


def test_every_series_of_ours_is_on_a_panel_or_has_a_reason_not_to_be(made: dict[str, Any]) -> None:
    missing = {*probes(), *house()} - shown(made)
    assert sorted(missing - set(UNSHOWN)) == [], "show it, or say in UNSHOWN why nobody needs to see it"
    assert sorted(set(UNSHOWN) - missing) == [], "no longer needed in UNSHOWN"


NEW = (
    Metric("waits_seconds", "How long a request waits in line.", ("queue",)),
    Metric("finished_timestamp_seconds", "When the last request was done."),
    Metric("lost_bytes_total", "Bytes that never arrived.", kind="counter"),
    Metric("seen_total", "Requests that were seen.", ("class",), kind="events"),
    Metric("server_info", "Which server answers.", ("version",), kind="info"),
)


@pytest.mark.parametrize("family", [stem for stem in STEMS if stem in BUILTIN])
def test_metrics_that_nobody_drew_get_panels_that_the_linter_finds_nothing_wrong_with(family: str) -> None:
    """So that a new probe is one file and one line here, too."""
    before = boards()
    after = completed(before, [(family, f"gpucanary_toy_{metric.name}", metric) for metric in NEW])
    (more,) = (json.loads(board.json()) for board in after if board.stem == family)
    titles = [panel["title"] for panel in panels(more)]
    assert titles[-len(NEW) :] == [f"toy_{metric.name}" for metric in NEW]
    assert [board.json() for board in after if board.stem != family] == [b.json() for b in before if b.stem != family]
    toys = {
        f"gpucanary_toy_{metric.name}": Series(
            metric.kind in ("counter", "events"), SCRAPED | {"check"} | frozenset(metric.labels)
        )
        for metric in NEW
    }
    uids = frozenset(board.uid for board in after)
    assert lint(more, House({**everything(), **toys}, uids, alert_numbers())) == []


def test_what_is_drawn_gets_no_second_panel() -> None:
    assert [board.json() for board in completed(boards(), declared())] == [board.json() for board in boards()]


def test_every_exception_is_still_needed(made: dict[str, Any]) -> None:
    titles = {(board["uid"], panel["title"]) for board in made.values() for panel in panels(board)}
    assert sorted({*PAIRED, *UNPAIRED} - titles) == []
    assert sorted(set(PAIRED.values()) - set(alert_numbers())) == []
    assert sorted({*FOREIGN, *BARE} - shown(made)) == []
    everywhere = " ".join(
        target.expr for board in made.values() for panel in panels(board) for target in targets(panel)
    )
    assert [text for text in UNSELECTED if text not in everywhere] == []


def test_panels_look_back_as_far_as_the_shipped_prometheus_keeps() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    kept = re.search(r"retention\.time=\$\{\w+:-(\d+)d\}", compose)
    assert kept
    assert int(kept[1]) == RETENTION_DAYS


def test_what_regressed_is_the_first_row_of_the_verdicts() -> None:
    assert max(RANKS, key=RANKS.__getitem__) == "regressed"
    assert set(RANKS) == set(VERDICTS)
    shown: Any = verdicts('check=~".+"').builder.build()
    assert [(one.display_name, one.desc) for one in shown.options.sort_by] == [("Verdict", True)]


def test_the_preview_writes_numbers_without_a_unit_like_grafana() -> None:
    assert [written(2.62e13, unit) for unit in ("short", "sishort")] == ["26.2 T", "26.2 T"]


def test_the_series_of_runs_in_progress_are_those_of_the_exporter() -> None:
    text = live_series({"toy": Running(0.0, 0.5, 3.0)}).decode()
    assert set(re.findall(r"^(\w+)\{", text, re.MULTILINE)) == set(LIVE)


# What follows proves the linter: a small dashboard that is right, and one change that each check must see.


def small() -> Board:
    """One panel of each kind, and nothing wrong with them."""
    info = f"gpucanary_check_info{{{HERE}}}"
    rate = f"sum by (outcome) (rate(gpucanary_check_runs_total{{{HERE}}}[$__rate_interval]))"
    columns = (Column("instance", "Instance"), Column("check", "Check"))
    of: tuple[Panel, ...] = (
        stat("Number", "How many checks are there?", (Query(f"count({info})", "checks"),), colors=steps((None, GOOD))),
        series("Lines", "How many runs are there?", (Query(rate, "{{outcome}}"),), "ops"),
        states(
            "States",
            "Is maintenance on?",
            (Query(f"gpucanary_maintenance{{{HERE}}}", "{{instance}}"),),
            {0.0: ("off", GOOD)},
        ),
        table("Rows", "Which checks are there?", (Query(info),), columns),
    )
    return Board(
        "small", "Small", "What is a small dashboard?", (Row("All", of[:2]), Row("More", of[2:], collapsed=True))
    )


SMALL = json.loads(small().json())
SMALL_HOUSE = House(everything(), frozenset({"gpucanary-small"}), {"GpuCanaryOverhead": {0.02}})


def test_the_small_dashboard_is_right() -> None:
    assert lint(SMALL, SMALL_HOUSE) == []


def panel(board: Any, title: str) -> Any:
    return next(found for found in panels(board) if found["title"] == title)


def ask(board: Any, expr: str, title: str = "Number") -> None:
    panel(board, title)["targets"][0].update(expr=expr, legendFormat="x")


def put(board: Any, path: str, value: object) -> None:
    """`put(board, "Lines.fieldConfig.defaults.unit", "")`: a panel by title or a key of the board, then keys and places."""
    first, *keys = path.split(".")
    node = board[first] if first in board else panel(board, first)
    for key in keys[:-1]:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = value


STEP = {"mode": "absolute", "steps": [{"value": None, "color": "green"}, {"value": 0.03, "color": "red"}]}
BROKEN: list[tuple[str, Callable[[Any], object]]] = [
    ("has_its_own_head: uid", lambda b: b.update(uid="small")),
    ("has_its_own_head: schemaVersion", lambda b: b.update(schemaVersion=41)),
    ("has_its_own_head: editable", lambda b: b.update(editable=True)),
    ("has_its_own_head: no tag", lambda b: b.update(tags=[])),
    ("ids_are_unique: panel id", lambda b: put(b, "Rows.id", 1)),
    (
        "ids_are_unique: Number: refIds",
        lambda b: panel(b, "Number")["targets"].append(panel(b, "Number")["targets"][0]),
    ),
    ("panels_keep_their_places: Lines overlaps", lambda b: put(b, "Lines.gridPos.x", 0)),
    ("panels_keep_their_places: Lines: ", lambda b: put(b, "Lines.gridPos.w", 24)),
    (
        "panels_keep_their_places: panels in the collapsed row",
        lambda b: put(b, "Rows.gridPos", panel(b, "States")["gridPos"]),
    ),
    ("few_panels_at_first: 21 panels", lambda b: b.update(panels=[panel(b, "Number")] * 21)),
    ("panels_explain_themselves: Lines: it needs", lambda b: put(b, "Lines.description", "")),
    ("panels_explain_themselves: Lines: no unit", lambda b: put(b, "Lines.fieldConfig.defaults.unit", "")),
    (
        "units_are_grafanas: Lines: Grafana has no unit 'second'",
        lambda b: put(b, "Lines.fieldConfig.defaults.unit", "second"),
    ),
    ("panels_explain_themselves: Rows: no words", lambda b: put(b, "Rows.fieldConfig.defaults.noValue", "")),
    (
        "panels_explain_themselves: States: a state timeline",
        lambda b: put(b, "States.fieldConfig.defaults.mappings", []),
    ),
    ("panels_explain_themselves: Lines: no query", lambda b: put(b, "Lines.targets", [])),
    ("queries_fit_their_panel: Number A: must be instant", lambda b: put(b, "Number.targets.0.instant", False)),
    ("queries_fit_their_panel: Lines A: must be a range", lambda b: put(b, "Lines.targets.0.instant", True)),
    ("queries_fit_their_panel: Rows A: format", lambda b: put(b, "Rows.targets.0.format", "time_series")),
    ("queries_fit_their_panel: Number: no reducer", lambda b: put(b, "Number.options.reduceOptions.calcs", [])),
    ("the_datasource_is_a_variable: Lines", lambda b: put(b, "Lines.targets.0.datasource.uid", "abc")),
    ("the_datasource_is_a_variable: the first", lambda b: put(b, "templating.list.0.label", "Prometheus")),
    ("the_datasource_is_a_variable: job", lambda b: put(b, "templating.list.1.datasource.uid", "abc")),
    ("variables_are_sound: variable job: must allow", lambda b: put(b, "templating.list.1.multi", False)),
    ("variables_are_sound: variable instance: must be filled", lambda b: put(b, "templating.list.2.refresh", 1)),
    (
        "variables_are_sound: variable job: every_metric_exists",
        lambda b: put(b, "templating.list.1.query.query", "label_values(gpucanary_bild_info, job)"),
    ),
    ("variables_are_used_and_defined: $host", lambda b: put(b, "Lines.title", "Lines of $host")),
    (
        "variables_are_used_and_defined: variable gpu",
        lambda b: b["templating"]["list"].append(b["templating"]["list"][1] | {"name": "gpu"}),
    ),
    ("links_resolve: Lines: there is no", lambda b: put(b, "Lines.links", [{"url": "/d/gpucanary-gone?instance"}])),
    ("links_resolve: Lines: https", lambda b: put(b, "Lines.links", [{"url": "https://example.org"}])),
    (
        "links_resolve: Lines: /d/gpucanary-small drops",
        lambda b: put(b, "Lines.links", [{"url": "/d/gpucanary-small"}]),
    ),
    ("queries_are_right: Number A: no PromQL", lambda b: ask(b, f"count(gpucanary_checks{{{HERE}}}")),
    ("queries_are_right: annotation Alerts: no PromQL", lambda b: put(b, "annotations.list.0.expr", "ALERTS{")),
    (
        "labels_that_are_shown_are_there: Lines A: its legend names ['check']",
        lambda b: put(b, "Lines.targets.0.legendFormat", "{{check}}"),
    ),
    (
        "labels_that_are_shown_are_there: Rows: columns or links name ['gpu']",
        lambda b: put(b, "Rows.links", [{"url": "/d/gpucanary-small?x=${__data.fields.gpu}"}]),
    ),
    (
        "labels_that_are_shown_are_there: Rows: columns name ['Value #B']",
        lambda b: put(b, "Rows.transformations.1.options.include.names", ["instance", "Value #B"]),
    ),
    (
        "colours_are_not_the_only_sign: States: a mapped",
        lambda b: put(b, "States.fieldConfig.defaults.mappings.0.options.0.text", ""),
    ),
    (
        "colours_are_not_the_only_sign: States: the colour #ffff00",
        lambda b: put(b, "States.fieldConfig.defaults.mappings.0.options.0.color", "#ffff00"),
    ),
    (
        "numbers_are_those_of_the_alert: Number: colours change at [0.03]",
        lambda b: put(b, "Number.fieldConfig.defaults.thresholds", STEP),
    ),
    (
        "numbers_are_those_of_the_alert: CPU, worst host: GpuCanaryOverhead does not have [0.03]",
        lambda b: (
            b.update(uid="gpucanary-canary"),
            put(b, "Number.fieldConfig.defaults.thresholds", STEP),
            put(b, "Number.title", "CPU, worst host"),
        ),
    ),
]


@pytest.mark.parametrize(("message", "change"), BROKEN, ids=[message for message, _ in BROKEN])
def test_a_broken_dashboard_is_caught(message: str, change: Callable[[Any], object]) -> None:
    board = copy.deepcopy(SMALL)
    change(board)
    assert [found for found in lint(board, SMALL_HOUSE) if found.startswith(message)]


def test_each_check_of_the_linter_is_proved_above() -> None:
    assert {message.partition(":")[0] for message, _ in BROKEN} == {check.__name__ for check in CHECKS}


RUNS, INFO = f"gpucanary_check_runs_total{{{HERE}}}", f"gpucanary_check_info{{{HERE}}}"
QUERIES = [  # what is wrong, the query, and the same query put right
    ("every_metric_exists", f"gpucanary_chekcs{{{HERE}}}", f"gpucanary_checks{{{HERE}}}"),
    ("every_metric_exists", f'{{__name__=~"gpucanary_chekcs",{HERE}}}', f'{{__name__=~"up|gpucanary_checks",{HERE}}}'),
    ("every_selector_follows_the_variables", "gpucanary_checks", f"gpucanary_checks{{{HERE}}}"),
    ("every_selector_follows_the_variables", 'up{job=~"$job"} == 0', f"up{{{HERE}}} == 0"),
    ("matchers_name_labels_that_exist", f'gpucanary_checks{{{HERE},gpu="0"}}', f"gpucanary_checks{{{HERE}}}"),
    ("regular_expressions_are_needed", f'up{{{HERE},tier=~"server"}}', f'up{{{HERE},tier="server"}}'),
    ("regular_expressions_are_needed", f'up{{{HERE},tier=~"^serv.+"}}', f'up{{{HERE},tier=~"serv.+"}}'),
    ("rates_are_of_counters", f"rate({RUNS}[5m])", f"rate({RUNS}[$__rate_interval])"),
    ("rates_are_of_counters", f"rate({RUNS}[$__interval])", f"rate({RUNS}[$__rate_interval])"),
    ("rates_are_of_counters", f"increase({RUNS}[5m])", f"increase({RUNS}[1d])"),
    ("rates_are_of_counters", f"rate({INFO}[$__rate_interval])", f"rate({RUNS}[$__rate_interval])"),
    ("rates_are_of_counters", f"rate(sum({RUNS})[$__range:1m])", f"sum(rate({RUNS}[$__rate_interval]))"),
    ("counters_are_not_shown_bare", f"{RUNS} > 5", f"increase({RUNS}[$__range]) > 5"),
    ("labels_survive", f"sum by (gpu) ({INFO})", f"sum by (probe) ({INFO})"),
    ("labels_survive", f"sum by (probe) (sum by (check) ({INFO}))", f"sum by (check) (sum by (check) ({INFO}))"),
    ("labels_survive", f"sum ({INFO}) and on (check) {INFO}", f"sum by (check) ({INFO}) and on (check) {INFO}"),
    (
        "labels_survive",
        f"{INFO} * on (job, instance) group_left (remedy) gpucanary_links_info{{{HERE}}}",
        f"{INFO} * on (job, instance) group_left (self) gpucanary_links_info{{{HERE}}}",
    ),
    ("both_sides_have_the_same_labels", f"{INFO} * up{{{HERE}}}", None),
    (
        "both_sides_have_the_same_labels",
        f"{INFO} * gpucanary_maintenance{{{HERE}}}",
        f"{INFO} * on (job, instance) group_left () gpucanary_maintenance{{{HERE}}}",
    ),
    (
        "sums_hold_no_nan",
        f"sum(gpucanary_lane_runs{{{HERE}}} / gpucanary_lane_slots{{{HERE}}})",
        f"sum(gpucanary_lane_runs{{{HERE}}} / (gpucanary_lane_slots{{{HERE}}} > 0))",
    ),
    ("looks_back_no_farther_than_kept", f"max_over_time({INFO}[31d])", f"max_over_time({INFO}[30d])"),
    ("looks_back_no_farther_than_kept", f"{INFO} offset 5w", f"{INFO} offset 4w"),
    ("only_functions_of_the_floor", f"mad_over_time({INFO}[1h])", f"stddev_over_time({INFO}[1h])"),
]


def wrong(expr: str) -> set[str]:
    names_of = {name: f"${name}" for name in ("job", "instance")}
    asked = promql.parsed(filled(expr, names_of, promql.MACROS), SMALL_HOUSE.catalogue)
    return {check.__name__ for check in promql.CHECKS if list(check(asked))}


@pytest.mark.parametrize(("check", "bad", "good"), [row for row in QUERIES if row[2]])
def test_a_query_is_caught_and_the_same_put_right_is_not(check: str, bad: str, good: str) -> None:
    assert check in wrong(bad)
    assert wrong(good) == set()


def test_labels_that_nobody_knows_are_not_complained_about() -> None:
    assert wrong(f"{INFO} * up{{{HERE}}}") == set()  # a target can have any label


def test_each_check_of_a_query_is_proved_above() -> None:
    assert {check for check, _, _ in QUERIES} == {check.__name__ for check in promql.CHECKS}


@pytest.mark.parametrize(
    ("expr", "labels"),
    [
        (f"sum by (check, outcome) ({RUNS})", {"check", "outcome"}),
        (f"sum without (outcome) ({RUNS})", {"job", "instance", "check"}),
        (f"topk(3, gpucanary_checks{{{HERE}}})", {"job", "instance"}),
        (f'label_replace(gpucanary_checks{{{HERE}}}, "board", "x", "", "")', {"job", "instance", "board"}),
        (f"sum by (le) (gpucanary_check_duration_seconds_bucket{{{HERE}}})", {"le"}),
        (f"histogram_quantile(0.9, gpucanary_check_duration_seconds_bucket{{{HERE}}})", {"job", "instance", "check"}),
        (
            f"gpucanary_checks{{{HERE}}} * on (job) group_left (version) gpucanary_build_info{{{HERE}}}",
            {"job", "instance", "version"},
        ),
        (f"time() - gpucanary_checks{{{HERE}}}", {"job", "instance"}),
        (f"gpucanary_checks{{{HERE}}} or sum by (job) (gpucanary_checks{{{HERE}}})", {"job", "instance"}),
        (f"sum(gpucanary_checks{{{HERE}}})", set()),
    ],
)
def test_labels_are_followed_through_a_query(expr: str, labels: set[str]) -> None:
    asked = promql.parsed(filled(expr, {"job": "a", "instance": "b"}), SMALL_HOUSE.catalogue)
    assert promql.labels(asked.root, asked.catalogue) == labels


def test_a_selector_by_name_is_taken_apart() -> None:
    asked = promql.parsed('{__name__=~"a|b"}', {})
    assert [names(selector) for selector, _ in promql.selectors(asked)] == [["a", "b"]]


def test_a_variable_is_filled_and_what_belongs_to_promql_is_left() -> None:
    assert filled('x{a=~"$job"} ${job:regex} "$1"', {"job": "j"}) == 'x{a=~"j"} j "$1"'
    with pytest.raises(KeyError):
        filled("$nobody", {})
    assert label_values("label_values(up, job)") == ("up", "job")
