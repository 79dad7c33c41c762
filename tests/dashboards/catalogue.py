"""Which series can a dashboard ask for? Ours from the code, the rules' from alerts/*.yml, others' by declaration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser
import yaml

from exporter import registry
from exporter.about import About, for_templates
from exporter.families import PREFIX, Family
from exporter.history_probe import SIZE
from exporter.inbox_probe import ALERTS, WATCHDOG
from exporter.metrics import CheckSeries
from exporter.result import Comparison, Expectation, Latest, Target
from exporter.shipped import ALERTS as RULES
from probes import BUILTIN
from probes.api import Energy, Finding, Metric
from probes.rules import TARGET_MISSED
from tests.checks import SPEED, check, quiet, result
from tests.dashboards.declared import FOREIGN, LIVE

SCRAPED = frozenset({"job", "instance"})  # what Prometheus adds to every series


@dataclass(frozen=True)
class Series:
    """One metric: is it a counter, and which labels can it have? None: any."""

    counter: bool
    labels: frozenset[str] | None


Catalogue = dict[str, Series]


def probes() -> Catalogue:
    """Every metric of every probe of ours, those of the house included."""
    known = registry.load().probes
    declared = {stem: known[stem].metrics for stems in BUILTIN.values() for stem in stems}
    declared |= {"history": (SIZE,), "inbox": (ALERTS, WATCHDOG)}
    return {f"{PREFIX}{stem}_{metric.name}": _of(metric) for stem, metrics in declared.items() for metric in metrics}


def house() -> Catalogue:
    """Every series that the exporter makes itself, from the code that makes them."""
    about = About(lanes={"light": (0, 1)}, held={"gpu:0": 0.0}, next_runs={"toy": 0.0})
    found = dict(map(_family, (*about.families(), *for_templates((TARGET_MISSED,), "", ""))))
    found |= dict(map(_family, _of_a_check()))
    found |= {name: Series(False, SCRAPED | {"check"}) for name in LIVE}
    for name in found:
        if name.startswith((f"{PREFIX}target_", f"{PREFIX}baseline_", f"{PREFIX}verdict_", f"{PREFIX}expected_")):
            found[name] = Series(False, None)  # those of the measurement too
    labels = found[f"{PREFIX}finding"].labels or frozenset()
    return found | {f"{PREFIX}finding": Series(False, labels | {"injected"})}


def recorded() -> Catalogue:
    """What recording rules make, with the labels that their expression leaves them."""
    files = [path for path in sorted(RULES.glob("*.yml")) if path.name not in ("alertmanager.yml", "planned.yml")]
    groups = [group for path in files for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return {rule["record"]: Series(False, None) for group in groups for rule in group["rules"] if "record" in rule}


def everything() -> Catalogue:
    """All that a panel may name."""
    foreign = {name: Series(name.endswith("_total"), None) for name in FOREIGN}
    return {**foreign, **recorded(), **house(), **probes()}


def alert_numbers() -> dict[str, set[float]]:
    """The numbers in each alert's expression, by the alert's name."""
    found: dict[str, set[float]] = {}
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8")).get("groups", ()):
            for rule in group["rules"]:
                if "alert" in rule:
                    found.setdefault(rule["alert"], set()).update(_numbers(rule["expr"]))
    return found


def _numbers(expr: str) -> Iterator[float]:
    numbers: list[float] = []

    def note(node: promql_parser.Expr) -> bool:
        match node:
            case promql_parser.NumberLiteral(val=number):
                numbers.append(number)
            case promql_parser.BinaryExpr(
                lhs=promql_parser.NumberLiteral(val=left), rhs=promql_parser.NumberLiteral(val=right)
            ):
                numbers.append(left * right)  # 24 * 3600
        return True

    promql_parser.walk(promql_parser.parse(expr), note)
    return iter(numbers)


def _of(metric: Metric) -> Series:
    return Series(metric.kind in ("counter", "events"), SCRAPED | {"check"} | frozenset(metric.labels))


def _family(family: Family) -> tuple[str, Series]:
    labels = SCRAPED | {name for _, row in family.rows for name, _ in row}
    return family.name, Series(family.type != "gauge", labels)


def _of_a_check() -> Iterator[Family]:
    """A check that has everything a check can have."""
    targets = (Target("speed_bytes_per_second", 1.0, 9.0),)
    made = CheckSeries(check(quiet, targets=targets, objective=0.99))
    expected = (Expectation("speed_bytes_per_second", (("path", "/"),), 5.0, 1.0),)
    compared = (Comparison("speed_bytes_per_second", (("path", "/"),), "ok", 60, 5.0, 0.1, 0.0),)
    findings = (Finding("toy-slow", "warning", "", ""),)
    judged = {"findings": findings, "comparisons": compared, "expectations": expected}
    ran = result(measurements=(SPEED(5.0, path="/"),), **judged, energy=(Energy(0, "GPU-1", 1.0),))
    made.counts.count(made.check, ran)
    skipped = result(outcome="skipped", skip=("deferred", "busy"))
    made.counts.count(made.check, skipped)
    made.latest = Latest(skipped, ran, succeeded=0.0)
    for family in made.families():
        suffixes = sorted({suffix for suffix, _ in family.rows})
        for suffix in suffixes:
            rows = tuple(("", (("check", "toy"), *labels)) for ending, labels in family.rows if ending == suffix)
            if not family.name.startswith(f"{PREFIX}toy_"):
                yield Family(family.name + suffix, "", rows, [0.0] * len(rows), family.type)
