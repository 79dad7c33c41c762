"""What do programs of your own take, and what do they tell? The probe `command` runs them."""

from __future__ import annotations

from dashboards.findings import CHECK, chosen
from dashboards.lines import stepped
from dashboards.links import from_series
from dashboards.panels import BAD, GOOD, Panel, Query, series, words
from dashboards.tables import Column, table
from dashboards.verdicts import ALONE, MACHINE

MET = {0.0: ("missed", BAD), 1.0: ("met", GOOD)}
ENDED = {0.0: ("0", GOOD)}
LINES = (from_series("This benchmark alone", "benchmarks", "instance", "check"),)
COLUMNS = (
    ("wall_seconds", "Took", "s"),
    ("peak_rss_bytes", "Peak RSS", "bytes"),
    ("peak_vram_bytes", "Peak VRAM", "bytes"),
    ("gpu_utilization_ratio", "Card busy", "percentunit"),
    ("gpu_power_watts", "Power", "watt"),
)


def programs(mine: str) -> list[Panel]:
    """The newest run of each, and how its time and its figures changed."""
    checks = chosen("gpucanary_check_info", mine, 'probe="command"')
    met = f"min by ({CHECK}) ({chosen('gpucanary_target_met', mine)}) and on ({CHECK}) {checks}"
    asked = [chosen(f"gpucanary_command_{name}", mine) for name in ("exit_code", *(name for name, _, _ in COLUMNS))]
    asked.append(f"{chosen('gpucanary_benchmark_energy_joules', mine)} and on ({CHECK}) {checks}")
    newest = table(
        "Programs of your own",
        "What did the newest run take? Targets: met, when all that the check has are. n/a: it was not measured; without a "
        "card there is nothing to say of one, and a run that failed has no time.",
        [*(Query(f"max by ({CHECK}) ({expr})") for expr in asked), Query(met)],
        [
            Column("instance", "Instance", links=(MACHINE,)),
            Column("check", "Check", links=(ALONE,)),
            Column("Value #A", "Exit code", mapping=words(ENDED)),
            *(Column(f"Value #{chr(66 + at)}", title, unit) for at, (_, title, unit) in enumerate(COLUMNS)),
            Column(f"Value #{chr(66 + len(COLUMNS))}", "Energy", "joule"),
            Column(f"Value #{chr(67 + len(COLUMNS))}", "Targets", mapping=words(MET)),
        ],
        height=7,
        empty="No check of the probe `command` has measured anything.",
    )
    return [newest, *_changes(mine, checks)]


def _changes(mine: str, checks: str) -> list[Panel]:
    """Time and figures over the runs."""
    wall, figure = (chosen(f"gpucanary_command_{name}", mine) for name in ("wall_seconds", "figures"))
    bound = chosen("gpucanary_target_upper", mine, 'metric="wall_seconds"')
    most = f"{bound} and on ({CHECK}) {checks}"
    return [
        stepped(
            series(
                "Time of your programs",
                "How long did each run take, and how long may it? A run that failed has no time.",
                [Query(wall, "{{instance}} {{check}}"), Query(most, "most, {{severity}}: {{instance}} {{check}}")],
                "s",
                links=LINES,
            )
        ),
        stepped(
            series(
                "Figures of your programs",
                "Which numbers did they tell? In the unit that `scale` made of them.",
                [Query(figure, "{{instance}} {{check}} {{figure}}")],
                links=LINES,
            )
        ),
    ]
