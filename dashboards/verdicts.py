"""Is each benchmark what it was? The verdict against its own past, for the benchmarks' board and the overview."""

from __future__ import annotations

from dashboards.board import annotation
from dashboards.findings import CHECK, chosen
from dashboards.links import from_row, from_series, with_board
from dashboards.panels import BAD, GOOD, NONE, Panel, Query, series, states, words
from dashboards.sdk import dashboard
from dashboards.tables import Column, table
from exporter import registry
from probes import BUILTIN

FAMILY = "benchmarks"
VERDICTS = {
    "regressed": ("regressed", BAD),
    "improved": ("improved", GOOD),
    "new_conditions": ("new conditions", "blue"),
    "too_few_runs": ("too few runs", NONE),
    "ok": ("ok", GOOD),
}
# the worst is the greatest, so that tables have it first
RANKS = {"too_few_runs": -1, "ok": 0, "improved": 1, "new_conditions": 2, "regressed": 3}
NUMBERS = {float(rank): VERDICTS[name] for name, rank in RANKS.items()}
SPREADS = 3 * 1.4826  # of the MAD, and at least two per cent: exporter/detectors.py
SMALLEST = 0.02
ONE_SERIES = "{{instance}} {{check}} {{metric}} {{of}}"
MACHINE = from_row("The machine", "hardware", "instance")
ALONE = from_row("This benchmark alone", "benchmarks", "instance", "check")


def told(expr: str) -> str:
    """The labels that tell a benchmark's series apart, in one: `of`."""
    probes = [registry.load().probes[stem] for stem in BUILTIN[FAMILY]]
    labels = sorted({label for p in probes for m in p.metrics if m.better for label in m.labels} - {"uuid"})
    listed = ", ".join(f'"{label}"' for label in labels)
    return f'label_replace(label_join({expr}, "of", " ", {listed}), "of", "$1", "of", " *(.*?) *")'


def band(probe: str, metric: str, mine: str, legend: str) -> list[Query]:
    """Between which values a run is usual."""
    checks = chosen("gpucanary_check_info", mine, f'probe="{probe}"')
    median, mad = (chosen(f"gpucanary_baseline_{name}", mine, f'metric="{metric}"') for name in ("median", "mad"))
    wide = f"{SPREADS:.4f} * {mad}"
    width = f"({wide} > {SMALLEST} * {median} or {SMALLEST} * {median})"
    return [
        Query(f"({median} {sign} {width}) and on ({CHECK}) {checks}", f"usual, {word}: {legend}")
        for sign, word in (("-", "low"), ("+", "high"))
    ]


def verdicts(mine: str) -> Panel:
    """Every judged series, and what it is judged by."""
    median, mad, runs, deviation = (
        chosen(f"gpucanary_baseline_{name}", mine) for name in ("median", "mad", "runs", "deviation_ratio")
    )
    return table(
        "Verdict against its own past",
        "Is each benchmark what it was? Deviation: how far the newest run is from the median of its comparable runs. "
        "Spread: MAD over median. n/a: there are too few runs yet, 18 are needed. The check's page names causes.",
        [
            Query(told(f"({ranked(mine, *RANKS)})")),
            *(Query(expr) for expr in (deviation, median, f"{mad} / ({median} > 0)", runs)),
        ],
        [
            Column("Value #A", "Verdict", mapping=words(NUMBERS)),
            Column("instance", "Instance", links=(MACHINE,)),
            Column("check", "Check", links=(ALONE,)),
            Column("metric", "Metric"),
            Column("of", "Of"),
            Column("Value #B", "Deviation", "percentunit"),
            Column("Value #C", "Median"),
            Column("Value #D", "Spread", "percentunit"),
            Column("Value #E", "Comparable runs"),
        ],
        height=9,
        empty="No benchmark has measured anything.",
        first="Verdict",
    )


def ranked(mine: str, *names: str) -> str:
    """Each series' verdict as a number, of those verdicts."""
    state = {name: chosen("gpucanary_verdict_info", mine, f'verdict="{name}"') for name in names}
    return " or ".join(f"max without (verdict) ({RANKS[name]} * {state[name]})" for name in names)


def history(mine: str) -> list[Panel]:
    """The same over time."""
    coded = ranked(mine, "ok", "improved", "new_conditions", "regressed")
    ever = chosen("gpucanary_verdict_info", mine, 'verdict=~"improved|new_conditions|regressed"')
    only = f"max without (verdict) (max_over_time({ever}[$__range] @ end()))"
    nothing = f'0 * label_replace(group({chosen("gpucanary_verdict_info", mine)}), "check", "none changed", "", "")'
    alone = (from_series("This benchmark alone", "benchmarks", "instance", "check"),)
    deviation = chosen("gpucanary_baseline_deviation_ratio", mine)
    return [
        states(
            "Verdict over time",
            "When did a benchmark regress, improve or meet new conditions? Only those that did in this time range.",
            (Query(told(f"(({coded}) and {only} or on () {nothing})"), ONE_SERIES),),
            NUMBERS,
            width=12,
            links=alone,
        ),
        series(
            "Deviation from its own past",
            "How far was each run from the median of its comparable runs? Negative: below it.",
            (Query(told(deviation), ONE_SERIES),),
            "percentunit",
            links=alone,
        ),
    ]


def regressions(of_check: str, to_check: dashboard.DashboardLink, to_host: dashboard.DashboardLink) -> Panel:
    """What is worse than its own past now, for the overview."""
    regressed = f'gpucanary_verdict_info{{{of_check},verdict="regressed"}}'
    shift = f"abs(gpucanary_baseline_shift_ratio{{{of_check}}}) and ignoring (verdict) {regressed}"
    return table(
        "Worse than their own past",
        "Which benchmarks regressed, and by how much? The newest runs against the median of those before.",
        (Query(with_board(told(f"({shift})"))),),
        (
            Column("instance", "Instance", links=(to_host,)),
            Column("check", "Check", links=(to_check,)),
            Column("metric", "Metric"),
            Column("of", "Of"),
            Column("Value", "Worse by", "percentunit", width=100),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
        ),
        width=12,
        empty="no benchmark is worse than its own past",
        first="Worse by",
    )


CONDITIONS_CHANGED = annotation(
    "Conditions changed",
    "A benchmark ran under other conditions than before.",
    chosen("gpucanary_finding", 'rule="conditions-changed"') + " == 1",
    "blue",
    "Conditions changed",
    "{{instance}} {{check}}",
)
