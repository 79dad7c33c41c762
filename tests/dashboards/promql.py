"""Is a query right? What cloudflare/pint and Grafana's dashboard-linter can say without a server, for one PromQL query.

The labels that each part of a query can have are followed through it, so that a `by`, an `on`, a `group_left`, a
legend or a column that names a label which is not there is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import promql_parser as p

from tests.dashboards.catalogue import SCRAPED, Catalogue
from tests.dashboards.declared import BARE, RETENTION_DAYS, UNSELECTED
from tests.dashboards.labels import Labels, children, included, labels, names, scalar

# Odd durations stand for Grafana's macros, so that they can be told from what somebody wrote by hand.
RATE_INTERVAL, RANGE, INTERVAL = timedelta(minutes=4, seconds=11), timedelta(hours=6, seconds=7), timedelta(seconds=61)
MACROS = {"__rate_interval": "4m11s", "__range": "6h7s", "__interval": "61s", "__range_s": "21607"}
TOTAL = timedelta(hours=1)  # an increase over so much is a number of its own ("a day"), and long enough for any scrape
RATES = ("rate", "irate", "increase")
CHANGES = (*RATES, "resets", "changes", "absent_over_time", "present_over_time")  # what may look at a counter
# All of Prometheus 2.42: https://prometheus.io/docs/prometheus/2.42/querying/functions/
FUNCTIONS = set(
    re.findall(
        r"\w+",
        "abs absent absent_over_time acos acosh asin asinh atan atanh avg_over_time ceil changes clamp clamp_max clamp_min "
        "cos cosh count_over_time day_of_month day_of_week day_of_year days_in_month deg delta deriv exp floor "
        "histogram_count histogram_fraction histogram_quantile histogram_sum holt_winters hour idelta increase irate "
        "label_join label_replace last_over_time ln log10 log2 max_over_time min_over_time minute month pi predict_linear "
        "present_over_time quantile_over_time rad rate resets round scalar sgn sin sinh sort sort_desc sqrt "
        "stddev_over_time stdvar_over_time sum_over_time tan tanh time timestamp vector year",
    )
)


@dataclass(frozen=True)
class Asked:
    """A parsed query and all its parts, each with those it is part of (the nearest first)."""

    root: p.Expr
    parts: tuple[tuple[p.Expr, tuple[p.Expr, ...]], ...]
    catalogue: Catalogue


def parsed(expr: str, catalogue: Catalogue) -> Asked:
    """ValueError when it is not PromQL."""
    root = p.parse(expr)
    return Asked(root, tuple(_parts(root, ())), catalogue)


def _parts(node: p.Expr, above: tuple[p.Expr, ...]) -> Iterator[tuple[p.Expr, tuple[p.Expr, ...]]]:
    yield node, above
    for child in children(node):
        yield from _parts(child, (node, *above))


def selectors(asked: Asked) -> Iterator[tuple[p.VectorSelector, tuple[p.Expr, ...]]]:
    yield from ((node, above) for node, above in asked.parts if isinstance(node, p.VectorSelector))


def every_metric_exists(asked: Asked) -> Iterator[str]:
    """pint: promql/series."""
    for selector, _ in selectors(asked):
        for name in names(selector) or ("a selector without a name",):
            if name not in asked.catalogue:
                yield f"{name} is no series we know; spell it as docs/reference.md does, or declare it in FOREIGN"


def every_selector_follows_the_variables(asked: Asked) -> Iterator[str]:
    """dashboard-linter: target-job, target-instance. The variables are filled with `$job` and `$instance`."""
    for selector, _ in selectors(asked):
        if any(str(selector).startswith(exempt) for exempt in UNSELECTED):
            continue
        found = {(m.name, str(m.op), m.value) for m in selector.matchers.matchers}
        for name in sorted(SCRAPED):
            if (name, str(p.MatchOp.Re), f"${name}") not in found:
                yield f'{selector} lacks {name}=~"${name}"'


def matchers_name_labels_that_exist(asked: Asked) -> Iterator[str]:
    """A matcher on a label that a series never has matches nothing, or everything."""
    for selector, _ in selectors(asked):
        known = labels(selector, asked.catalogue)
        for matcher in selector.matchers.matchers:
            if known is not None and matcher.name not in known | {"__name__", "tier"}:
                yield f"{selector}: its series have no label {matcher.name}"


def regular_expressions_are_needed(asked: Asked) -> Iterator[str]:
    """pint: promql/regexp."""
    for selector, _ in selectors(asked):
        for matcher in selector.matchers.matchers:
            if str(matcher.op) not in (str(p.MatchOp.Re), str(p.MatchOp.NotRe)) or matcher.value.startswith("$"):
                continue
            if not any(sign in matcher.value for sign in ".*+?()[]{}|\\^$"):
                yield f"{selector}: {matcher.name} needs no regular expression, = or != will do"
            if matcher.value[:1] == "^" or matcher.value[-1:] == "$":
                yield f"{selector}: {matcher.name} is anchored anyway, leave ^ and $ out"
            if matcher.value == ".*":
                yield f"{selector}: {matcher.name} matches everything, leave it out"


def rates_are_of_counters(asked: Asked) -> Iterator[str]:
    """pint: promql/rate, promql/counter; dashboard-linter: target-rate-interval, target-counter-agg."""
    for node, _ in asked.parts:
        if not isinstance(node, p.Call) or node.func.name not in RATES:
            continue
        window = node.args[0]
        if not isinstance(window, p.MatrixSelector):
            yield f"{node.func.name}() of a subquery: take the rate of each counter, then aggregate"
            continue
        total = node.func.name == "increase" and window.range >= TOTAL
        if window.range not in (RATE_INTERVAL, RANGE) and not total:
            yield f"{node.func.name}() over {window.range}: use $__rate_interval, or $__range for a total"
        for name in names(window.vector_selector):
            if name in asked.catalogue and not asked.catalogue[name].counter:
                yield f"{node.func.name}() of {name}, which is no counter"


def counters_are_not_shown_bare(asked: Asked) -> Iterator[str]:
    """pint: promql/counter. A counter starts anew with its process; its value says little."""
    for selector, above in selectors(asked):
        inside = any(isinstance(node, p.Call) and node.func.name in CHANGES for node in above)
        for name in names(selector):
            if name in asked.catalogue and asked.catalogue[name].counter and not inside and name not in BARE:
                yield f"{name} is a counter: show its rate() or increase(), or declare it in BARE"


def labels_survive(asked: Asked) -> Iterator[str]:
    """pint: promql/impossible, promql/vector_matching."""
    for node, _ in asked.parts:
        if isinstance(node, p.AggregateExpr) and node.modifier and node.modifier.type == p.AggModifierType.By:
            inner = labels(node.expr, asked.catalogue)
            yield from _lacking("by", node.modifier.labels, inner)
        if isinstance(node, p.BinaryExpr) and node.modifier and not (scalar(node.lhs) or scalar(node.rhs)):
            left, right = labels(node.lhs, asked.catalogue), labels(node.rhs, asked.catalogue)
            if included(node) and node.modifier.matching:
                yield from _lacking("on, left side:", node.modifier.matching.labels, left)
                yield from _lacking("on, right side:", node.modifier.matching.labels, right)
            one = left if node.modifier.card == p.VectorMatchCardinality.OneToMany else right
            yield from _lacking("group", node.modifier.group_labels or (), one)


def _lacking(what: str, wanted: list[str] | tuple[str, ...], there: Labels) -> Iterator[str]:
    gone = sorted(set(wanted) - there) if there is not None else []
    if gone:
        yield f"{what} {', '.join(gone)}: the series have {', '.join(sorted(there or ())) or 'no labels'}"


def both_sides_have_the_same_labels(asked: Asked) -> Iterator[str]:
    """pint: promql/vector_matching. Without `on` or `ignoring` two series meet only where all labels are equal."""
    for node, _ in asked.parts:
        if not isinstance(node, p.BinaryExpr) or str(node.op) == "or" or scalar(node.lhs) or scalar(node.rhs):
            continue
        if node.modifier and node.modifier.matching is not None:
            continue
        left, right = labels(node.lhs, asked.catalogue), labels(node.rhs, asked.catalogue)
        if left is not None and right is not None and left != right:
            yield f"`{node.op}` joins series with different labels ({', '.join(sorted(left ^ right))}): say on (...)"


def sums_hold_no_nan(asked: Asked) -> Iterator[str]:
    """pint: promql/nan. One 0/0 makes the whole sum NaN."""
    for node, above in asked.parts:
        summed = any(isinstance(over, p.AggregateExpr) and str(over.op) in ("sum", "avg", "stddev") for over in above)
        if summed and isinstance(node, p.BinaryExpr) and str(node.op) == "/" and not _positive(node.rhs):
            yield "a division inside a sum: filter its denominator by `> 0`"


def _positive(node: p.Expr) -> bool:
    if isinstance(node, p.ParenExpr):
        return _positive(node.expr)
    return isinstance(node, p.NumberLiteral) or (isinstance(node, p.BinaryExpr) and str(node.op) == ">")


def looks_back_no_farther_than_kept(asked: Asked) -> Iterator[str]:
    """pint: promql/range_query, promql/offset."""
    for node, _ in asked.parts:
        spans = [getattr(node, "range", None), getattr(node, "offset", None)]
        if any(isinstance(span, timedelta) and abs(span) > timedelta(days=RETENTION_DAYS) for span in spans):
            yield f"looks back farther than the {RETENTION_DAYS} days that are kept"


def only_functions_of_the_floor(asked: Asked) -> Iterator[str]:
    """pint: promql/features. Rules and dashboards must work on Prometheus 2.42."""
    for node, _ in asked.parts:
        if isinstance(node, p.Call) and node.func.name not in FUNCTIONS:
            yield f"{node.func.name}() is not in Prometheus 2.42"
        if isinstance(node, p.AggregateExpr) and str(node.op) in ("limitk", "limit_ratio"):
            yield f"{node.op} is not in Prometheus 2.42"


CHECKS: tuple[Callable[[Asked], Iterator[str]], ...] = (
    every_metric_exists,
    every_selector_follows_the_variables,
    matchers_name_labels_that_exist,
    regular_expressions_are_needed,
    rates_are_of_counters,
    counters_are_not_shown_bare,
    labels_survive,
    both_sides_have_the_same_labels,
    sums_hold_no_nan,
    looks_back_no_farther_than_kept,
    only_functions_of_the_floor,
)
