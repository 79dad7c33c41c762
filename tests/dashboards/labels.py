"""Which labels can the series of a query have? Followed from its selectors through every operator."""

from __future__ import annotations

from collections.abc import Iterator

import promql_parser as p

from tests.dashboards.catalogue import Catalogue

Labels = frozenset[str] | None  # None: any


def children(node: p.Expr) -> tuple[p.Expr, ...]:
    """What it is made of."""
    match node:
        case p.BinaryExpr():
            return node.lhs, node.rhs
        case p.AggregateExpr():
            return (node.expr, node.param) if node.param is not None else (node.expr,)
        case p.Call():
            return tuple(node.args)
        case p.SubqueryExpr() | p.ParenExpr() | p.UnaryExpr():
            return (node.expr,)
        case p.MatrixSelector():
            return (node.vector_selector,)
    return ()


def names(selector: p.VectorSelector) -> list[str]:
    """The metrics it asks for; several where it matches `__name__` by `a|b`."""
    matched = [m.value for m in selector.matchers.matchers if m.name == "__name__"]
    return [selector.name] if selector.name else [name for value in matched for name in value.split("|")]


def labels(node: p.Expr, catalogue: Catalogue) -> Labels:
    """The labels that its series can have, beside those a scrape config adds."""
    match node:
        case p.VectorSelector():
            return _union(catalogue[name].labels if name in catalogue else None for name in names(node))
        case p.AggregateExpr():
            return _of_aggregation(node, labels(node.expr, catalogue))
        case p.BinaryExpr():
            return _of_pair(node, labels(node.lhs, catalogue), labels(node.rhs, catalogue))
        case p.Call():
            return _of_call(node, catalogue)
        case p.NumberLiteral() | p.StringLiteral():
            return frozenset()
    return labels(children(node)[0], catalogue)


def _union(found: Iterator[Labels]) -> Labels:
    united: frozenset[str] = frozenset()
    for one in found:
        if one is None:
            return None
        united |= one
    return united


def _of_aggregation(node: p.AggregateExpr, inner: Labels) -> Labels:
    if str(node.op) in ("topk", "bottomk"):
        return inner
    if node.modifier is None:
        return frozenset()
    if node.modifier.type == p.AggModifierType.By:
        return frozenset(node.modifier.labels) & inner if inner is not None else frozenset(node.modifier.labels)
    return inner - set(node.modifier.labels) if inner is not None else None


def _of_call(node: p.Call, catalogue: Catalogue) -> Labels:
    if node.func.name in ("time", "vector", "pi"):
        return frozenset()
    if node.func.name == "absent":
        return None
    value = node.args[-1 if node.func.name in ("histogram_quantile", "quantile_over_time") else 0]
    found = labels(value, catalogue)
    if found is None:
        return None
    if node.func.name in ("label_replace", "label_join"):
        return found | {str(node.args[1].val)}
    return found - {"le"} if node.func.name == "histogram_quantile" else found


def _of_pair(node: p.BinaryExpr, left: Labels, right: Labels) -> Labels:
    if str(node.op) == "or":
        return _union(iter((left, right)))
    if str(node.op) in ("and", "unless") or scalar(node.rhs):
        return left
    if scalar(node.lhs):
        return right
    if node.modifier is None or left is None or right is None:
        return left
    if node.modifier.card == p.VectorMatchCardinality.ManyToOne:
        return left | set(node.modifier.group_labels or ())
    if node.modifier.card == p.VectorMatchCardinality.OneToMany:
        return right | set(node.modifier.group_labels or ())
    matching = node.modifier.matching
    if matching is None:
        return left
    return left & set(matching.labels) if included(node) else left - set(matching.labels)


def included(node: p.BinaryExpr) -> bool:
    """Does it say `on (...)`?"""
    matching = node.modifier.matching if node.modifier else None
    return matching is not None and matching.type == p.LabelModifierType.Include


def scalar(node: p.Expr) -> bool:
    """Is it a number without labels?"""
    if isinstance(node, p.ParenExpr | p.UnaryExpr):
        return scalar(node.expr)
    if isinstance(node, p.BinaryExpr):
        return scalar(node.lhs) and scalar(node.rhs)
    return isinstance(node, p.NumberLiteral) or (
        isinstance(node, p.Call) and node.func.name in ("time", "pi", "scalar")
    )
