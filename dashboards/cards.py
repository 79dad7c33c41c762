"""What is one card doing, and is it sound? The panels of the card that the variable `gpu` chose, and the table of all.

Ten metrics exist for cards that another exporter reads, too (alerts/peers.yml); the rest only our own probe knows.
"""

from __future__ import annotations

from dashboards.findings import chosen
from dashboards.lines import bounded
from dashboards.links import from_row
from dashboards.panels import BAD, GOOD, NEUTRAL, NONE, WARN, Panel, Query, series, stat, states, steps, words
from dashboards.tables import Column, table

CARD = "job, instance, gpu, uuid"
THIS = 'uuid="$gpu"'
SM = 'domain="sm"'
PEERS = frozenset(
    {
        "memory_used_bytes",
        "memory_total_bytes",
        "memory_used_ratio",
        "utilization_ratio",
        "memory_utilization_ratio",
        "temperature_celsius",
        "power_watts",
        "power_limit_watts",
        "clock_hertz",
        "info",
    }
)

# What keeps the clocks down, worst last: the reasons of NVML behind each word.
HELD_BACK = {
    1.0: ("settings", NONE, "clocks_setting|display_clocks|sync_boost"),
    2.0: ("power limit", NEUTRAL, "power_cap"),
    3.0: ("slowdown", WARN, "hw_slowdown"),
    4.0: ("heat", BAD, "sw_thermal|hw_thermal"),
    5.0: ("power brake", BAD, "hw_power_brake"),
}
HELD_BACK_WORDS = {0.0: ("nothing", NONE)} | {rank: (word, color) for rank, (word, color, _) in HELD_BACK.items()}
MIG = {0.0: ("whole", NONE), 1.0: ("divided", NEUTRAL)}


def reading(metric: str, *more: str) -> str:
    """The series of a card's metric: ours, and those of other exporters for cards that we do not read."""
    ours = chosen(f"gpucanary_gpu_{metric}", *more)
    return f"({ours} or on (uuid) {chosen(f'instance_gpu:{metric}:max', *more)})" if metric in PEERS else ours


def this(metric: str, *more: str) -> str:
    """The same, of the chosen card alone."""
    return reading(metric, THIS, *more)


def held_back(*more: str) -> str:
    """The worst of what keeps each card's clocks down, as a number of HELD_BACK_WORDS; absent where it is not known."""
    active = []
    for rank, (_, _, reasons) in HELD_BACK.items():
        one_of = f'reason=~"{reasons}"' if "|" in reasons else f'reason="{reasons}"'
        of_that_rank = chosen("gpucanary_gpu_throttle_active", *more, one_of)
        active.append(f"{rank:g} * ({of_that_rank} == 1)")
    return f"max by ({CARD}) ({' or '.join(active)} or 0 * {chosen('gpucanary_gpu_throttle_active', *more)})"


def all_cards() -> Panel:
    asked = (
        "memory_used_ratio",
        "memory_used_bytes",
        "memory_total_bytes",
        "utilization_ratio",
        "temperature_celsius",
        "power_watts",
        "power_limit_watts",
    )
    queries = [Query(f"max by ({CARD}) ({reading(metric)})") for metric in asked]
    queries += [Query(f"max by ({CARD}) ({reading('clock_hertz', SM)})"), Query(held_back())]
    info = Query(f"max by ({CARD}, model, driver) ({reading('info')})")
    this_card = (from_row("This card", "hardware", "job", "instance", "uuid"),)
    return table(
        "Cards",
        "Which cards are there, and what do they do now? A click on the model chooses the card. n/a: the card or its "
        "exporter does not tell.",
        [*queries, info],
        [
            Column("instance", "Instance", links=(from_row("What is wrong there", "overview", "instance"),)),
            Column("gpu", "GPU", width=50),
            Column("model", "Model", links=this_card, width=220),
            Column("Value #A", "VRAM", "percentunit"),
            Column("Value #B", "VRAM used", "bytes"),
            Column("Value #C", "VRAM size", "bytes"),
            Column("Value #D", "Utilization", "percentunit"),
            Column("Value #E", "Temperature", "celsius"),
            Column("Value #F", "Power", "watt"),
            Column("Value #G", "Power limit", "watt"),
            Column("Value #H", "SM clock", "hertz"),
            Column("Value #I", "Held back by", mapping=words(HELD_BACK_WORDS)),
            Column("driver", "Driver"),
            Column("job", "Job", hidden=True),
            Column("uuid", "UUID", hidden=True),
        ],
        height=7,
        empty="No exporter shows a card: see the environment's findings about driver and container.",
        first="VRAM",
    )


def numbers() -> list[Panel]:
    """The chosen card now."""
    near = steps((None, BAD), (1, WARN), (5, NONE))
    target = f"min by ({CARD}) ({chosen('gpucanary_target_met', THIS)})"
    return [
        stat(
            "VRAM now",
            "Which share of the card's memory is allocated?",
            [Query(this("memory_used_ratio"))],
            "percentunit",
        ),
        stat(
            "Utilization now",
            "In which share of the time did a kernel run?",
            [Query(this("utilization_ratio"))],
            "percentunit",
        ),
        stat("Temperature now", "How hot is the chip?", [Query(this("temperature_celsius"))], "celsius"),
        stat(
            "Left until it slows down",
            "How many degrees are left until the card slows itself down? n/a: it does not tell.",
            [Query(this("temperature_margin_celsius"))],
            "celsius",
            colors=near,
        ),
        stat(
            "Held back by",
            "What keeps the clocks down now: the worst of it? A power limit is usual under full load.",
            [Query(held_back(THIS))],
            "none",
            mapping=words(HELD_BACK_WORDS),
        ),
        stat(
            "Targets of the card",
            "Are all targets about this card met? n/a: none is set.",
            [Query(target)],
            "none",
            mapping=words({0.0: ("missed", BAD), 1.0: ("all met", GOOD)}),
        ),
    ]


def lines() -> list[Panel]:
    """The chosen card over time."""
    return [memory(), utilization(), temperature(), power(), clocks(), throttling()]


def memory() -> Panel:
    upper = "gpucanary_target_upper"
    ratio = chosen(upper, THIS, 'metric="memory_used_ratio"')
    share = f"{ratio} * on (uuid) group_left () {this('memory_total_bytes')}"
    panel = series(
        "VRAM",
        "How much memory is allocated, and how near is that to what the targets allow (dashed)? The peak is the most of "
        "a minute: it shows what a scrape would miss.",
        [
            Query(this("memory_used_bytes"), "used"),
            Query(this("memory_used_peak_bytes"), "peak"),
            Query(this("memory_reserved_bytes"), "kept by the driver"),
            Query(this("memory_total_bytes"), "most: the card has"),
            Query(share, "most, {{severity}} (share)"),
            Query(chosen(upper, THIS, 'metric="memory_used_bytes"'), "most, {{severity}} (bytes)"),
        ],
        "bytes",
    )
    return bounded(panel, "^most")


def utilization() -> Panel:
    return series(
        "Utilization",
        "In which share of the time did a kernel run, and was the memory read or written? A kernel that runs need not "
        "use the whole card.",
        [
            Query(this("utilization_ratio"), "kernel"),
            Query(this("utilization_peak_ratio"), "kernel, peak"),
            Query(this("memory_utilization_ratio"), "memory"),
        ],
        "percentunit",
    )


def temperature() -> Panel:
    panel = series(
        "Temperature",
        "How hot is the chip, and how near to the card's own limits (dashed)? `assumed`: it states none.",
        [
            Query(this("temperature_celsius"), "now"),
            Query(this("temperature_peak_celsius"), "peak"),
            Query(this("temperature_limit_celsius"), "limit: {{limit}}"),
        ],
        "celsius",
    )
    return bounded(panel, "^limit")


def power() -> Panel:
    panel = series(
        "Power",
        "How much power does the card draw, of how much it may? A limit below the default was set by somebody.",
        [
            Query(this("power_watts"), "now"),
            Query(this("power_peak_watts"), "peak"),
            Query(this("power_limit_watts"), "limit"),
            Query(this("power_default_limit_watts"), "limit: default"),
        ],
        "watt",
    )
    return bounded(panel, "^limit")


def clocks() -> Panel:
    panel = series(
        "Clocks",
        "How fast do the clocks run, of how fast they can (dashed)? Low while idle is right.",
        [
            Query(this("clock_hertz"), "{{domain}}"),
            Query(this("clock_max_hertz"), "most: {{domain}}"),
        ],
        "hertz",
    )
    return bounded(panel, "^most")


def throttling() -> Panel:
    active = chosen("gpucanary_gpu_throttle_active", THIS, 'reason!="gpu_idle"')
    idle = chosen("gpucanary_gpu_throttle_active", THIS, 'reason="gpu_idle"')
    return states(
        "What holds the clocks down",
        "Which reasons kept the clocks down, and when? power_cap is usual under full load; heat, slowdown and power brake "
        "are not.",
        [Query(f"{active} or 2 * {idle}", "{{reason}}")],
        {0.0: ("no", "transparent"), 1.0: ("holds back", WARN), 2.0: ("idle", NEUTRAL)},
        width=12,
    )
