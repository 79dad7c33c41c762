"""What does each way to save VRAM save here, and what does it cost? The probe `optimisations` compares them."""

from __future__ import annotations

from dashboards.findings import CHECK, chosen
from dashboards.lines import bounded, stepped
from dashboards.links import from_series
from dashboards.panels import Panel, Query, series
from dashboards.tables import Column, table
from dashboards.verdicts import ALONE, MACHINE

KEY = f"{CHECK}, optimisation, device"
LINES = (from_series("This benchmark alone", "benchmarks", "instance", "check"),)
LEGEND = "{{instance}} {{check}} {{optimisation}} {{device}}"


def optimisations(mine: str) -> list[Panel]:
    """Before and after, in bytes and seconds; and whether that changed."""
    saved, took = (chosen(f"gpucanary_optimisations_{name}_ratio", mine) for name in ("vram_reduction", "time"))
    checks = chosen("gpucanary_check_info", mine, 'probe="optimisations"')
    least = chosen("gpucanary_target_lower", mine, 'metric="vram_reduction_ratio"')
    kept = series(
        "Saved by optimisations",
        "Do they still save what they did? Dashed: what the recommended set must save.",
        [Query(saved, LEGEND), Query(f"{least} and on ({CHECK}) {checks}", f"least, {{{{severity}}}}: {LEGEND}")],
        "percentunit",
        links=LINES,
    )
    cost = series(
        "Cost of optimisations",
        "How many times as long as the unoptimised run does each take? Below 1 it is faster.",
        [Query(took, LEGEND)],
        "none",
        links=LINES,
    )
    return [_impact(mine, saved, took), stepped(bounded(kept, "^least")), stepped(cost)]


def _impact(mine: str, saved: str, took: str) -> Panel:
    asked = [saved, *_beside("peak_memory_bytes", mine), took, *_beside("run_seconds", mine)]
    return table(
        "Optimisations: before and after",
        "What does each optimisation save of the memory of its unoptimised run, and how much longer does it take? fp32, "
        "nothing sliced, tiled or moved away, random weights. n/a: the card cannot hold the unoptimised run.",
        [Query(f"max by ({KEY}) ({expr})") for expr in asked],
        [
            Column("instance", "Instance", links=(MACHINE,)),
            Column("check", "Check", links=(ALONE,)),
            Column("optimisation", "Optimisation"),
            Column("device", "Device"),
            Column("Value #A", "Saved", "percentunit"),
            Column("Value #B", "Unoptimised", "bytes"),
            Column("Value #C", "Optimised", "bytes"),
            Column("Value #D", "Times as long", "none"),
            Column("Value #E", "Takes, unoptimised", "s"),
            Column("Value #F", "Takes, optimised", "s"),
        ],
        first="Saved",
        empty="No check of the probe `optimisations` has measured anything.",
    )


def _beside(name: str, mine: str) -> tuple[str, str]:
    """The unoptimised run of its part, for each optimisation, and the optimised one."""
    before, after = (
        chosen(f"gpucanary_optimisations_{name}", mine, f'optimisation{sign}"none"') for sign in ("=", "!=")
    )
    return f"0 * {after} + on ({CHECK}, part, device) group_left () {before}", after
