"""How fast is it, against its target and its own past?"""

from __future__ import annotations

from dataclasses import dataclass

from dashboards.board import INSTANCE, JOB, Board, Row, checks_of
from dashboards.conditions import DRIVER_CHANGED, TORCH_CHANGED
from dashboards.expectations import expectations
from dashboards.findings import CHECK, chosen, of_family, what_is_wrong
from dashboards.lines import bounded, stepped
from dashboards.links import from_row, from_series
from dashboards.optimisations import optimisations
from dashboards.panels import BAD, GOOD, NONE, WARN, Panel, Query, series, steps, words
from dashboards.programs import programs
from dashboards.tables import Column, table
from dashboards.verdicts import CONDITIONS_CHANGED, FAMILY, band, history, verdicts
from dashboards.workloads import WORKS

MINE = 'check=~"$check"'
EACH = "{{instance}} {{check}}"
MET = {0.0: ("missed", BAD), 1.0: ("met", GOOD)}
ABOUT = (
    "The newest value of each benchmark against its targets and its best of the last weeks, what was different when it "
    "changed, and what kept it from running. Clocks and heat of a slow card: **Hardware**. All that is wrong: **Overview**."
)
CARD = "{{instance}} gpu {{gpu}}"
MACHINE = (from_row("The machine", "hardware", "instance"),)
ALONE = (from_row("This benchmark alone", "benchmarks", "instance", "check"),)
LINE_ALONE = (from_series("This benchmark alone", "benchmarks", "instance", "check"),)
SLOWER = steps((None, WARN), (0.95, NONE))  # of its best: coloured from 5 % on, a benchmark's usual spread
DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class Speed:
    """A metric of a benchmark: what people call it, its unit, and the labels that tell its series apart."""

    title: str
    probe: str
    metric: str
    unit: str
    labels: tuple[str, ...]
    level: str = "check_device"  # of the recording rules in alerts/benchmarks.yml
    beside: str = ""  # a metric of the same probe that bounds this one, drawn beside it

    @property
    def name(self) -> str:
        return f"gpucanary_{self.probe}_{self.metric}"

    @property
    def legend(self) -> str:
        return " ".join((EACH, *(f"{{{{{label}}}}}" for label in self.labels)))

    def bound(self, side: str) -> str:
        """Its targets: `lower`, `upper` or `met`. Another probe's metric of the same name is another check's."""
        checks = chosen("gpucanary_check_info", MINE, f'probe="{self.probe}"')
        targets = chosen(f"gpucanary_target_{side}", MINE, f'metric="{self.metric}"')
        return f"{targets} and on ({CHECK}) {checks}"


SPEEDS = (
    Speed("Matrix product", "matmul", "flops_per_second", "flops", ("device", "dtype")),
    Speed("Attention", "attention", "flops_per_second", "flops", ("device", "shape", "dtype")),
    Speed("Convolution", "convolution", "flops_per_second", "flops", ("device", "layer", "dtype")),
    Speed("Memory", "memory_copy", "bytes_per_second", "Bps", ("device",)),
    Speed("Bus", "host_copy", "bytes_per_second", "Bps", ("device", "direction"), beside="link_bytes_per_second"),
    Speed("Between cards", "peer_copy", "bytes_per_second", "Bps", ("device", "direction")),
)


def newest(speed: Speed) -> Panel:
    keep = ", ".join((CHECK, *speed.labels))
    value = chosen(speed.name, MINE)
    week, month = f"max_over_time({value}[7d])", chosen(f"{speed.level}:{speed.name}:max_over_time30d", MINE)
    age = f"0 * {value} + on ({CHECK}) group_left () (time() - {chosen('gpucanary_check_last_measured_timestamp_seconds')})"
    asked = (value, speed.bound("lower"), week, month, f"{value} / (({month} or {week}) > 0)", age)
    return table(
        f"{speed.title}: newest against target and best",
        "How fast was the newest run, does it meet its target, and how does it compare with the best run of 7 and 30 "
        "days? n/a: no target is set, or the recording rules of alerts/benchmarks.yml are not loaded (30 d).",
        [Query(f"max by ({keep}) ({expr})") for expr in asked] + [Query(f"min by ({keep}) ({speed.bound('met')})")],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check", links=ALONE),
            *(Column(label, label.capitalize()) for label in speed.labels),
            Column("Value #A", "Newest", speed.unit),
            Column("Value #G", "Target", mapping=words(MET)),
            Column("Value #B", "At least", speed.unit),
            Column("Value #C", "Best, 7 d", speed.unit),
            Column("Value #D", "Best, 30 d", speed.unit),
            Column("Value #E", "Of that best", "percentunit", colors=SLOWER),
            Column("Value #F", "Age", "s"),
        ],
        height=7,
        empty=f"No check of the probe `{speed.probe}` has measured this.",
    )


def over_time(speed: Speed) -> Panel:
    asked = [
        Query(chosen(speed.name, MINE), speed.legend),
        Query(speed.bound("lower"), f"least, {{{{severity}}}}: {speed.legend}"),
        Query(speed.bound("upper"), f"most, {{{{severity}}}}: {speed.legend}"),
    ]
    if speed.beside:
        words = speed.beside.rpartition("_bytes_per_second")[0].replace("_", " ")
        asked.append(Query(chosen(f"gpucanary_{speed.probe}_{speed.beside}", MINE), f"most, {words}: {EACH}"))
    asked += band(speed.probe, speed.metric, MINE, speed.legend)
    panel = series(
        f"{speed.title} over time",
        "How did the value change from run to run? It holds until the next run. Dashed: what its targets allow, and what "
        "is usual for its own past. The marks tell when driver, torch or other conditions changed.",
        asked,
        speed.unit,
        width=8,
        height=9,
        links=LINE_ALONE,
    )
    return stepped(bounded(panel, "^(least|most|usual)"))


def freshness() -> list[Panel]:
    measured = chosen("gpucanary_check_last_measured_timestamp_seconds", MINE)
    interval, due = (
        chosen("gpucanary_check_interval_seconds", MINE),
        chosen("gpucanary_check_next_run_timestamp_seconds", MINE),
    )
    took = chosen("gpucanary_check_last_duration_seconds", MINE)
    skipped = chosen("gpucanary_check_skip_info", MINE)
    asked = (interval, f"time() - {measured}", f"1000 * {due}", took, f"(time() - {measured}) / {interval}")
    fresh = table(
        "Runs",
        "How old is each newest measurement, and when is the next run due? Of its interval: from 2.5 on it is overdue.",
        [Query(of_family(f"max by ({CHECK}) ({expr})", FAMILY)) for expr in asked],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check", links=ALONE),
            Column("Value #B", "Measured before", "s"),
            Column("Value #A", "Interval", "s"),
            Column("Value #E", "Of its interval", "percentunit", colors=steps((None, NONE), (2.5, WARN))),
            Column("Value #C", "Next run", "dateTimeFromNow"),
            Column("Value #D", "Last run took", "s"),
        ],
        width=14,
        empty="No benchmark is configured.",
    )
    why = table(
        "Not measured last time",
        "Why was the last run skipped? Deferred: the card was busy or it was not the time, and the old value is kept. "
        "Blind: it could not look, and the value is gone.",
        [Query(of_family(skipped, FAMILY))],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check", links=ALONE),
            Column("class", "Class"),
            Column("reason", "Reason"),
        ],
        width=10,
        empty="No last run of a benchmark was skipped.",
    )
    return [fresh, why]


def skips_and_cost() -> list[Panel]:
    skips = of_family(f"increase({chosen('gpucanary_check_skips_total', MINE)}[$__rate_interval])", FAMILY)
    held = chosen("gpucanary_lane_held_seconds_total", 'lane=~"gpu:.+"')
    budget = chosen("gpucanary_device_budget_ratio")
    return [
        series(
            "Skipped runs by reason",
            "What keeps the benchmarks from running? The first skip for a reason starts its line and is not counted.",
            [Query(f"sum by (class, reason) ({skips})", "{{class}}: {{reason}}")],
            "none",
        ),
        series(
            "Time used for benchmarks a day",
            "Which share of the day before did benchmarks hold a card, or the processor where there is none, and how much may "
            "they? The start of their Python counts too.",
            [
                Query(f"increase({held}[1d]) / {DAY}", "{{instance}} {{lane}}"),
                Query(f"max by (job, instance) ({budget})", "most: {{instance}}"),
            ],
            "percentunit",
        ),
        stepped(
            series(
                "Energy of a run",
                "How many joules did the card use in the newest run of each benchmark? By the card's own counter where it "
                "has one, else by its power; the start of the Python is in it, and whatever else ran on that card.",
                [Query(chosen("gpucanary_benchmark_energy_joules", MINE), f"{EACH} gpu {{{{gpu}}}}")],
                "joule",
                links=LINE_ALONE,
            )
        ),
    ]


def conditions() -> list[Panel]:
    """What the cards were like under the runs, which are short: each step of the graph looks every 30 seconds."""
    began, took = "gpucanary_check_last_measured_timestamp_seconds", "gpucanary_check_last_duration_seconds"
    ended = of_family(f"{chosen(began, MINE)} + {chosen(took, MINE)}", FAMILY)
    just_ended = f"on (job, instance) (max by (job, instance) ({ended}) > time() - 60)"
    held_card = chosen("gpucanary_lane_runs", 'lane=~"gpu:.+"')
    running = f"on (job, instance) (max by (job, instance) ({held_card}) > 0)"
    held_back = chosen("gpucanary_gpu_throttle_active", 'reason!="gpu_idle"') + " == 1"
    clock = chosen("gpucanary_gpu_clock_hertz", 'domain="sm"')
    after = "The peak of the minute before, asked within a minute after a benchmark ended on that machine."
    under = "While a benchmark held a card of that machine; no line: no scrape fell into a run."
    asked = (
        ("Heat of the runs", "hotter", "gpucanary_gpu_temperature_peak_celsius", "celsius"),
        ("Power of the runs", "given less power", "gpucanary_gpu_power_peak_watts", "watt"),
    )
    made = [
        series(
            title,
            f"Was a card {how} than in earlier runs? {after}",
            [Query(f"max_over_time(({chosen(name)} and {just_ended})[$__rate_interval:30s])", CARD)],
            unit,
        )
        for title, how, name, unit in asked
    ]
    clocks = Query(f"avg_over_time(({clock} and {running})[$__rate_interval:30s])", CARD)
    reasons = Query(f"max_over_time((({held_back}) and {running})[$__rate_interval:30s])", f"{CARD}: {{{{reason}}}}")
    return [
        *made,
        series("Clock under the runs", f"Did the card run at its usual clock? {under}", [clocks], "hertz"),
        series("Held back under the runs", f"What kept the clocks down? 1: it did. {under}", [reasons], "none"),
    ]


BOARD = Board(
    FAMILY,
    "gpu-canary / Benchmarks",
    __doc__,
    (
        what_is_wrong(FAMILY, ABOUT, MINE),
        Row("Against its own past", (verdicts(MINE), *history(MINE))),
        Row("Against others of its model", expectations(MINE)),
        Row("Against target and best", tuple(newest(speed) for speed in SPEEDS)),
        Row("Over time", tuple(over_time(speed) for speed in SPEEDS), collapsed=True),
        Row("Whole pieces of work", tuple(work.panel() for work in WORKS)),
        Row("What saves VRAM", optimisations(MINE)),
        Row("Programs of your own", programs(MINE)),
        Row("Does it run?", (*freshness(), *skips_and_cost())),
        Row("Conditions of the runs", conditions(), collapsed=True),
    ),
    (JOB, INSTANCE, checks_of(FAMILY)),
    since="now-7d",
    annotations=(DRIVER_CHANGED, TORCH_CHANGED, CONDITIONS_CHANGED),
)
