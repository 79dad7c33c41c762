"""Is each card as fast as cards of its model are? The expected values of `gpu-canary expected`, for the benchmarks' board."""

from __future__ import annotations

from dashboards.findings import chosen
from dashboards.links import from_series
from dashboards.panels import NONE, WARN, Panel, Query, series, steps
from dashboards.tables import Column, table
from dashboards.verdicts import ALONE, MACHINE, ONE_SERIES, told
from exporter.expected import LEAST

FEW = steps((None, WARN), (LEAST, NONE))  # from where `below-expected` fires


def expectations(mine: str) -> list[Panel]:
    """Value, target, expected value and ratio of each series that the table knows, and the ratio over time."""
    value, ratio = (chosen(f"gpucanary_expected_{name}", mine) for name in ("value", "ratio"))
    target = f"max without (severity) ({chosen('gpucanary_target_lower', mine)}) and {value}"
    now = table(
        "Against what such a card reaches",
        "How much of what cards of its model reach does each card reach? `gpu-canary expected` tells where that value comes "
        "from. A card or a series that is not here has no expected value: its own past judges it. n/a: no target.",
        [Query(told(ratio)), *(Query(expr) for expr in (f"{value} * {ratio}", target, value))],
        [
            Column("instance", "Instance", links=(MACHINE,)),
            Column("check", "Check", links=(ALONE,)),
            Column("metric", "Metric"),
            Column("of", "Of"),
            Column("Value #B", "Newest", "sishort"),
            Column("Value #C", "Target, at least", "sishort"),
            Column("Value #D", "Expected", "sishort"),
            Column("Value #A", "Of expected", "percentunit", colors=FEW),
        ],
        width=14,
        height=8,
        empty="No benchmark has measured a card whose model has an expected value.",
    )
    before = series(
        "Of what such a card reaches",
        "Did a card lose ground against others of its model? 100 %: as fast as they are.",
        [Query(told(ratio), ONE_SERIES)],
        "percentunit",
        width=10,
        links=(from_series("This benchmark alone", "benchmarks", "instance", "check"),),
    )
    return [now, before]
