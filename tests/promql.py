"""What does a PromQL expression ask for? Its parts, each with the calls it stands in, and the series there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Call, Expr, MatrixSelector, ParenExpr, SubqueryExpr, UnaryExpr

from exporter import history_probe, inbox_probe, registry

ROOT = Path(__file__).parent.parent
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
# https://prometheus.io/docs/prometheus/2.42/querying/functions/, less what 3.0 renamed and trigonometry
FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        """abs absent absent_over_time ceil changes clamp clamp_max clamp_min day_of_month day_of_week day_of_year
        days_in_month delta deriv exp floor histogram_count histogram_fraction histogram_quantile histogram_sum hour idelta
        increase irate label_join label_replace ln log2 log10 minute month predict_linear rate resets round scalar sgn sort
        sort_desc sqrt time timestamp vector year avg_over_time min_over_time max_over_time sum_over_time count_over_time
        quantile_over_time stddev_over_time stdvar_over_time last_over_time present_over_time""",
    )
)
OPERATORS = {
    "sum",
    "min",
    "max",
    "avg",
    "group",
    "stddev",
    "stdvar",
    "count",
    "count_values",
    "bottomk",
    "topk",
    "quantile",
}
OF_COUNTERS = frozenset({"rate", "irate", "increase"})
# What may see a counter's bare value: it asks when, or whether, not how much.
OF_ANYTHING = frozenset({"resets", "changes", "timestamp", "absent", "absent_over_time", "present_over_time"})


@dataclass(frozen=True)
class Part:
    """A node of an expression, and what it stands in, outermost first: functions, and `unless` right of that operator."""

    node: Expr
    inside: tuple[str, ...]


def parts(expr: str) -> Iterator[Part]:
    """Every node. ValueError on what is no PromQL."""
    return _below(promql_parser.parse(expr), ())


def _below(node: Expr, inside: tuple[str, ...]) -> Iterator[Part]:
    yield Part(node, inside)
    match node:
        case BinaryExpr():
            yield from _below(node.lhs, inside)
            inside, below = (*inside, *(["unless"] if str(node.op) == "unless" else [])), [node.rhs]
        case AggregateExpr():
            below = [node.expr, *([node.param] if node.param else [])]
        case Call():
            below, inside = list(node.args), (*inside, node.func.name)
        case MatrixSelector():
            below = [node.vector_selector]
        case ParenExpr() | UnaryExpr() | SubqueryExpr():
            below = [node.expr]
        case _:
            below = []
    for child in below:
        yield from _below(child, inside)


def selectors(expr: str) -> Iterator[Part]:
    """The series an expression asks for."""
    return (part for part in parts(expr) if isinstance(part.node, promql_parser.VectorSelector))


def admits(selector: promql_parser.VectorSelector, labels: dict[str, str]) -> bool:
    """Would a series with these labels be selected? A label not given is empty, as in Prometheus."""
    for matcher in selector.matchers.matchers:
        value, shown = labels.get(matcher.name, ""), str(matcher.op)
        hit = re.fullmatch(matcher.value, value) is not None if "Re" in shown else value == matcher.value
        if hit == ("Not" in shown):
            return False
    return True


@cache
def known_series() -> frozenset[str]:
    """Every series we export: of the house (the reference is tested against a scrape), and of every probe."""
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    house = re.findall(r"^\| `(gpucanary_[a-z0-9_]+)(?:\{[^`]*\})?` \| (\w+)", reference, re.MULTILINE)
    histograms = {
        name + suffix for name, kind in house if kind == "histogram" for suffix in ("_bucket", "_sum", "_count")
    }
    own = {f"gpucanary_history_{history_probe.SIZE.name}"} | {
        f"gpucanary_inbox_{metric.name}" for metric in (inbox_probe.ALERTS, inbox_probe.WATCHDOG)
    }
    probes = registry.metric_names(registry.load().probes.values())
    return frozenset({name for name, _ in house} | histograms | own | set(probes))
