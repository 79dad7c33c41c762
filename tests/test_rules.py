"""Are the alert rules complete, alike, tested, and about series that exist? What promtool and pint would say, and more."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import registry, shipped
from exporter.cli import parser
from exporter.families import PREFIX
from exporter.metrics import CheckSeries
from exporter.result import Check, Latest, Result, Target
from probes.api import Rule
from tests.promql import (
    COMPARISONS,
    FUNCTIONS,
    OF_ANYTHING,
    OF_COUNTERS,
    OPERATORS,
    admits,
    known_series,
    parts,
    selectors,
)

ALERTS = shipped.ALERTS
NO_RULES = {"alertmanager.yml", "planned.yml"}
FILES = sorted(path for path in ALERTS.glob("*.yml") if path.name not in NO_RULES)
TESTS = sorted((ALERTS / "tests").glob("*.yml"))
RUNBOOKS = ALERTS / "runbooks"
SEVERITIES = {"critical", "warning", "info", "none"}
ANNOTATIONS = {"summary", "description", "remedy", "runbook_url", "dashboard_url"}
HEADINGS = ["Meaning", "Impact", "First three commands", "Diagnosis", "Mitigation", "False positives"]
OF_THE_INSTANCE = (
    '{{ with printf "gpucanary_links_info{job=%q,instance=%q}" $labels.job $labels.instance | query }}'
    '{{ . | first | label "self" }}{{ end }}/runbooks/'
)
# where the instance is down, or not ours: the pages of any exporter that lives
OF_ANY = '{{ with query "gpucanary_links_info" | sortByLabel "self" }}{{ . | first | label "self" }}{{ end }}/runbooks/'
RECORD = re.compile(r"[a-z_]+:[A-Za-z0-9_]+:[a-z0-9_]+")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Alert:
    file: str
    rule: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.rule["alert"])

    @property
    def severity(self) -> str:
        return str(self.rule["labels"]["severity"])


def groups() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in FILES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield path, group


RULES = [(path, rule) for path, group in groups() for rule in group["rules"]]
EVERY = [Alert(path.name, rule) for path, rule in RULES if "alert" in rule]
PLANNED = yaml.safe_load((ALERTS / "planned.yml").read_text(encoding="utf-8"))["planned"]
KNOWN = sorted(registry.load().rules(), key=lambda rule: rule.name)
NAMES = {alert.name for alert in EVERY}
for_every_alert = pytest.mark.parametrize("alert", EVERY, ids=lambda a: f"{a.name}-{a.severity}")
for_every_rule = pytest.mark.parametrize(
    "rule", [rule for _, rule in RULES], ids=lambda r: r.get("alert") or r["record"]
)


def seconds(duration: str) -> float:
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration))


def promtool(*arguments: str | Path) -> None:
    ran = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}"


# -- promtool -------------------------------------------------------------------------------------------------------


@pytest.mark.prometheus
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_promtool_accepts_the_rules(path):
    promtool("check", "rules", "--lint=all", "--lint-fatal", path)


@pytest.mark.prometheus
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_the_alerts_do_what_their_tests_say(path):
    promtool("test", "rules", path)


Case = tuple[float, str, list[dict[str, Any]]]


def stories() -> Iterator[list[Case]]:
    """Of all promtool tests: when which alert is asked for, and what is expected of it; in the order of time."""
    for path in TESTS:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            asked = group.get("alert_rule_test", ())
            told = [
                (seconds(str(case["eval_time"])), case["alertname"], case.get("exp_alerts") or []) for case in asked
            ]
            yield sorted(told, key=lambda case: case[0])


STORIES = list(stories())


def firing(expected: list[dict[str, Any]], severity: str) -> set[frozenset[tuple[str, str]]]:
    labels = [one["exp_labels"] for one in expected]
    return {frozenset(one.items()) for one in labels if one.get("severity") == severity}


@for_every_alert
def test_an_alert_is_seen_quiet_then_firing_then_resolved(alert):
    """Each severity of it, and within one story: that another alert of that name was quiet says nothing."""
    told = [one for story in STORIES for _, name, expected in story if name == alert.name for one in expected]
    fired = [one for one in told if one["exp_labels"].get("severity") == alert.severity]
    assert fired, "no test sees it fire"
    assert all(set(one["exp_annotations"]) == ANNOTATIONS for one in fired), "a test must tell all annotations"
    if alert.name == "GpuCanaryWatchdog":
        return
    seen = [
        [firing(expected, alert.severity) for _, name, expected in story if name == alert.name] for story in STORIES
    ]
    rises = [story for story in seen for before, now in pairwise(story) if now - before]
    falls = [story for story in seen for before, now in pairwise(story) if before - now]
    assert rises, "no story sees it quiet before it fires"
    assert falls, "no story sees it resolved"


def test_promtool_is_asked_about_no_alert_that_is_not_there():
    assert {name for story in STORIES for _, name, _ in story} <= NAMES


# -- shape ----------------------------------------------------------------------------------------------------------


@for_every_alert
def test_an_alert_has_the_labels_that_routes_and_inhibition_stand_on(alert):
    labels = alert.rule["labels"]
    assert re.fullmatch(r"GpuCanary([A-Z][a-z0-9]+)+", alert.name)
    assert alert.severity in SEVERITIES
    assert set(labels) <= {"severity", "scope"}
    assert labels.get("scope", "check") in {"check", "cause"}


@for_every_alert
def test_an_alert_says_what_where_how_much_and_what_to_do(alert):
    notes = alert.rule["annotations"]
    assert set(notes) == ANNOTATIONS
    assert "{{" not in notes["summary"], "the headline of a group must be the same for all of it"
    assert notes["summary"].endswith(".")
    assert "$labels.instance" in notes["description"] or alert.name == "GpuCanaryWatchdog"
    assert "`" in notes["remedy"], "a remedy names a command"
    assert notes["runbook_url"] in {OF_THE_INSTANCE + alert.name, OF_ANY + alert.name}


@for_every_alert
def test_the_dashboard_of_an_alert_exists(alert):
    uids = {json.loads(path.read_text(encoding="utf-8"))["uid"] for path in shipped.DASHBOARDS.glob("*.json")}
    url = alert.rule["annotations"]["dashboard_url"]
    named = set(re.findall(r"/d/(gpucanary-[a-z]+)", url))
    if not named:  # by the family of the check; those without a dashboard get the overview
        family = re.search(r'/d/gpucanary- ?\{\{.*?family=~\\"([a-z|]+)\\".*\{\{ else }}(\w+)\{\{ end', url)
        assert family, url
        named = {f"gpucanary-{name}" for name in (*family[1].split("|"), family[2])}
    assert named <= uids
    assert "grafana" in url
    assert 'label "self"' in url, "without a Grafana, the exporter's own page"


@for_every_alert
def test_an_alert_does_not_flap(alert):
    """It waits, or it counts confirmed runs; a page comes soon all the same."""
    wait, keep = (seconds(alert.rule.get(key, "0s")) for key in ("for", "keep_firing_for"))
    confirmed = "gpucanary_check_confirm_runs" in alert.rule["expr"]
    assert wait >= 60 or keep >= 60 or confirmed or alert.severity == "none"
    assert wait <= (900 if alert.severity == "critical" else 2 * 86400)
    assert keep <= 3600


def test_a_cause_is_held_longer_than_what_it_mutes():
    """Else the effect comes through, for one evaluation, at the end of an outage. ExporterDown mutes what has no hold."""
    held = [(a, a.rule["labels"].get("scope"), seconds(a.rule.get("keep_firing_for", "0s"))) for a in EVERY]
    # a regression is seen once a run, and what made the card slow is in its own text
    longest = max(keep for a, scope, keep in held if scope == "check" and a.name != "GpuCanaryRegression")
    causes = [(a, keep) for a, scope, keep in held if scope == "cause" and a.name != "GpuCanaryExporterDown"]
    assert longest >= 60
    assert len(causes) > 20
    assert [a.name for a, keep in causes if keep < longest + 60] == []


def test_the_pages_are_those_of_the_alerts():
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_page_has_the_headings_that_people_know(name):
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    sections = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    assert sections[1::2] == HEADINGS
    assert all(section.strip() for section in sections[2::2]), "an empty section helps nobody"
    commands = sections[2 * HEADINGS.index("First three commands") + 2]
    block = re.search(r"```sh\n(.*?)```", commands, re.DOTALL)
    assert block
    assert len([line for line in block[1].splitlines() if line.strip()]) == 3


def test_the_commands_that_pages_and_alerts_name_exist():
    there = {name for action in parser({})._actions for name in (action.choices or ())}
    texts = [page.read_text(encoding="utf-8") for page in RUNBOOKS.glob("*.md")]
    texts += [str(alert.rule["annotations"]["remedy"]) for alert in EVERY]
    named = {name for text in texts for name in re.findall(r"`gpu-canary ([a-z]+)", text)}
    named |= {name for text in texts for name in re.findall(r"^gpu-canary ([a-z]+)", text, re.MULTILINE)}
    assert {"run", "status"} <= named <= there


def names_a_rule(selector: promql_parser.VectorSelector) -> bool:
    return any(m.name == "rule" and "Not" not in str(m.op) for m in selector.matchers.matchers)


@for_every_alert
def test_a_page_holds_the_remedies_of_the_rules_its_alert_names(alert):
    """Between marks, written by `make docs`; tests/test_docs.py finds drift."""
    named = {
        rule.name
        for part in selectors(alert.rule["expr"])
        if part.node.name == f"{PREFIX}finding" and "unless" not in part.inside and names_a_rule(part.node)
        for rule in KNOWN
        if admits(part.node, {"rule": rule.name, "severity": rule.severity})
    }
    page = (RUNBOOKS / f"{alert.name}.md").read_text(encoding="utf-8")
    marked = {name.strip() for names in re.findall(r"<!-- remedies: (.+?) -->", page) for name in names.split(",")}
    assert named <= marked


# -- expressions ----------------------------------------------------------------------------------------------------


@for_every_rule
def test_a_rule_asks_only_for_series_that_exist(rule):
    texts = [rule["expr"], *rule.get("annotations", {}).values()]
    recorded = {other["record"] for _, other in RULES if "record" in other}
    named = {name for text in texts for name in re.findall(r"(?<![:\w])gpucanary_[a-z0-9_]+(?![:\w])", str(text))}
    assert named <= known_series()
    chained = {part.node.name for part in selectors(rule["expr"]) if part.node.name and ":" in part.node.name}
    assert chained <= recorded


@for_every_rule
def test_a_rule_uses_what_2_42_and_3_both_know(rule):
    for part in parts(rule["expr"]):
        if isinstance(part.node, promql_parser.Call):
            assert part.node.func.name in FUNCTIONS
        elif isinstance(part.node, promql_parser.AggregateExpr):
            assert str(part.node.op) in OPERATORS
        elif isinstance(part.node, promql_parser.SubqueryExpr):
            assert part.node.step is None or part.node.range > part.node.step


@for_every_rule
def test_counters_are_counted_and_gauges_are_not(rule):
    for part in selectors(rule["expr"]):
        name = part.node.name or ""
        counter = name.startswith(PREFIX) and name.endswith("_total")
        counted = OF_COUNTERS.intersection(part.inside)
        if counter and "alert" in rule:
            assert counted or OF_ANYTHING.intersection(part.inside), f"{name} compared bare"
        if counted and name.startswith(PREFIX):
            assert re.search(r"_(total|count|sum|bucket)$", name), f"{counted} of {name}, which is a gauge"


@for_every_alert
def test_an_alert_compares(alert):
    found = {str(part.node.op) for part in parts(alert.rule["expr"]) if isinstance(part.node, promql_parser.BinaryExpr)}
    assert found.intersection(COMPARISONS) or alert.name == "GpuCanaryWatchdog"


@for_every_rule
def test_a_rule_leaves_the_labels_of_others_alone(rule):
    """`cluster`, `replica` and `prometheus` are external labels in many installations."""
    assert not re.search(r"\b(cluster|replica|prometheus)\b(?!_)", rule["expr"])
    assert not {"cluster", "replica", "prometheus"} & set(rule.get("labels", ()))


@for_every_rule
def test_up_is_asked_for_by_the_names_that_our_job_may_have(rule):
    ups = [part.node for part in selectors(rule["expr"]) if part.node.name == "up"]
    assert all(any(admits(up, {"job": "gpu-canary", "tier": tier}) for tier in ("server", "")) for up in ups)
    assert not any(admits(up, {"job": "node", "tier": "server"}) for up in ups)


def test_recorded_names_say_level_metric_and_operations():
    names = [rule["record"] for _, rule in RULES if "record" in rule]
    assert names
    assert [name for name in names if not RECORD.fullmatch(name)] == []


def test_groups_are_ours_and_evaluated_within_the_lookback():
    names = [group["name"] for _, group in groups()]
    assert len(set(names)) == len(names)
    assert all(name.startswith("gpucanary-") for name in names), "GpuCanaryRuleEvaluationFailing knows them by it"
    assert all(seconds(group.get("interval", "1m")) <= 300 for _, group in groups())
    assert all(set(group) <= {"name", "interval", "rules"} for _, group in groups()), "2.42 knows no more"


# -- what must not be forgotten -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", KNOWN, ids=lambda rule: rule.name)
def test_every_rule_that_matters_reaches_an_alert(rule: Rule):
    """Critical rules a critical alert, warnings any; infos are for the page."""
    wanted = {"critical": {"critical"}, "warning": {"critical", "warning"}, "info": {*SEVERITIES}}[rule.severity]
    series = {"rule": rule.name, "severity": rule.severity, "check": "c", "job": "j", "instance": "i"}
    reached = [
        alert.name
        for alert in EVERY
        if alert.severity in wanted
        for part in selectors(alert.rule["expr"])
        if part.node.name == f"{PREFIX}finding" and admits(part.node, series)
    ]
    errors = rule.name in {"check-error", "deadline-missed", "plugin-broken"}  # told by their outcome
    assert reached or errors or rule.severity == "info"


@pytest.mark.parametrize("entry", PLANNED, ids=lambda entry: entry["alert"])
def test_a_planned_alert_is_written_once_its_metric_exists(entry):
    assert set(entry) == {"alert", "metric", "why"}
    probe = entry["metric"].removeprefix(PREFIX)
    assert entry["metric"] not in known_series(), f"the metric is there: move {entry['alert']} into a rule file"
    assert not [name for name in registry.load().probes if probe.startswith(f"{name}_")], f"its probe is there: {entry}"
    assert entry["alert"] not in NAMES


LABELS = st.dictionaries(st.sampled_from(["path"]), st.sampled_from(["/", "/models"]), max_size=1)
BOUNDS = st.one_of(st.none(), st.floats(0, 10))
TARGETS = st.builds(
    Target,
    st.sampled_from(["free_bytes", "total_bytes"]),
    BOUNDS,
    BOUNDS,
    st.sampled_from(["critical", "warning"]),
    LABELS,
)


@given(st.lists(TARGETS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_whatever_targets_are_set_no_two_series_are_the_same(targets):
    """Prometheus drops the second, and a rule that joins them would fail."""
    probe = registry.load().probes["disk"]
    metrics = {metric.name: metric for metric in probe.metrics}
    measured = tuple(metrics["free_bytes"](5.0, path=path) for path in ("/", "/models"))
    series = CheckSeries(Check("disk", probe, probe.params(), 60.0, 10.0, tuple(targets)))
    series.latest = Latest.first(Result("disk", "disk", 1.0, 0.1, "ok", measured))
    for family in series.families():
        rows = [(suffix, frozenset(labels)) for suffix, labels in family.rows]
        assert len(set(rows)) == len(rows), family.name
