"""Which metrics has nobody drawn yet? Each gets a panel made from its declaration, so that a new probe is seen at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from dashboards.board import CHECK, Board, Row
from dashboards.findings import chosen
from dashboards.panels import Panel, Query, series
from dashboards.tables import Column, table
from exporter.families import PREFIX
from exporter.registry import load
from probes import BUILTIN
from probes.api import Metric

# Metrics that need no panel: the reason why.
LEFT_OUT = {
    "gpucanary_host_self_resident_bytes": "process_resident_memory_bytes of the same process is on the canary's board",
    "gpucanary_monitor_accuracy_held_bytes": "the size of a load of our own; what was measured of it is in the error",
}
UNITS = {
    "bytes_per_second": "Bps",
    "flops_per_second": "flops",
    "timestamp_seconds": "s",  # shown as an age
    "seconds": "s",
    "bytes": "bytes",
    "ratio": "percentunit",
    "hertz": "hertz",
    "watts": "watt",
    "celsius": "celsius",
    "joules": "joule",
}
RATES = {"bytes": "Bps", "joules": "watt", "seconds": "percentunit"}  # of counters, a second


def completed(boards: Iterable[Board], metrics: Iterable[tuple[str, str, Metric]]) -> list[Board]:
    """The boards, and in the last row of each what no board asks for; `metrics`: family, full name, declaration."""
    given = list(boards)
    asked = {name for board in given for name in re.findall(r"[a-z][\w:]*", board.json())}
    missing = [one for one in metrics if one[1] not in asked and one[1] not in LEFT_OUT]
    made = []
    for board in given:
        panels = [drawn(name, metric, board) for family, name, metric in missing if family == board.stem]
        row = Row("Everything else", panels, collapsed=True)
        made.append(replace(board, rows=(*board.rows, row)) if panels else board)
    return made


def declared() -> Iterator[tuple[str, str, Metric]]:
    """Every metric of every probe of ours: its family, its full name."""
    probes = load().probes
    for family, stems in BUILTIN.items():
        for stem in stems:
            yield from ((family, f"{PREFIX}{stem}_{metric.name}", metric) for metric in probes[stem].metrics)


def drawn(name: str, metric: Metric, board: Board) -> Panel:
    """A table of what an info metric says, the rate of a counter, the value of anything else."""
    by_check = any(variable.name == CHECK.name for variable in board.variables)
    found = chosen(name, *(['check=~"$check"'] if by_check else []))
    title = name.removeprefix(PREFIX)
    labels = ("instance", "check", *metric.labels)
    if metric.kind == "info":
        columns = [Column(label, label.capitalize()) for label in labels]
        return table(title, metric.help, [Query(found)], columns, width=12, empty="Nothing was measured.")
    if metric.kind in ("counter", "events"):
        expr, unit = f"rate({found}[$__rate_interval])", ending(metric.name.removesuffix("_total"), RATES, "cps")
    else:
        expr, unit = found, ending(metric.name, UNITS, "none")
        if metric.name.endswith("timestamp_seconds"):
            expr = f"time() - {found}"
    return series(title, metric.help, [Query(expr, " ".join(f"{{{{{label}}}}}" for label in labels))], unit)


def ending(name: str, units: Mapping[str, str], other: str) -> str:
    """Grafana's unit for a name that ends in one of ours."""
    return next((unit for suffix, unit in units.items() if f"_{name}".endswith(f"_{suffix}")), other)
