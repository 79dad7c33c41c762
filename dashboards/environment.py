"""Is this machine set up right?"""

from __future__ import annotations

from dashboards.board import INSTANCE, JOB, Board, Row, checks_of
from dashboards.conditions import DRIVER_CHANGED, TORCH_CHANGED
from dashboards.findings import CHECK, chosen, outcome_column, outcome_of, what_is_wrong
from dashboards.lines import bounded
from dashboards.links import from_row
from dashboards.panels import BAD, NONE, WARN, Panel, Query, series, steps
from dashboards.tables import Column, table

FAMILY = "environment"
MINE = 'check=~"$check"'
MACHINE = (from_row("The machine", "hardware", "instance"),)
ABOUT = (
    "Driver, torch, packages, secrets and disks: what must be right before anything runs. Each finding says what to do. "
    "What the cards do: **Hardware**. How fast they are: **Benchmarks**. All that is wrong: **Overview**."
)
DAY = 24 * 3600


def of_check(metric: str, *more: str) -> str:
    """The newest value for each check, without labels that would keep rows apart."""
    return f"max by ({CHECK}) ({chosen(metric, MINE, *more)})"


def systems() -> Panel:
    return table(
        "Systems",
        "What does each exporter run on? An empty container: none.",
        [Query(chosen("gpucanary_platform_host_info", MINE))],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("distribution", "Distribution"),
            Column("release", "Kernel"),
            Column("architecture", "Architecture"),
            Column("python", "Exporter's Python"),
            Column("container", "Container"),
            Column("wsl", "WSL"),
        ],
        width=24,
        height=6,
        empty="No check of the probe `platform` has looked.",
    )


def driver() -> Panel:
    cards = "gpucanary_gpu_driver_cards"
    on_the_bus = of_check(cards, 'source="pci"', 'vendor="nvidia"')
    fewer = steps((None, BAD), (1, NONE))
    versions = f"max by ({CHECK}, driver, cuda) ({chosen('gpucanary_gpu_driver_versions_info', MINE)})"
    return table(
        "Drivers",
        "Which driver is loaded, and does it show every card? n/a: the driver does not answer, or nobody asked.",
        [
            Query(of_check(cards, 'source="nvml"')),
            Query(on_the_bus),
            Query(of_check("gpucanary_gpu_driver_expected_cards")),
            outcome_of("gpu_driver", MINE),
            Query(versions),
        ],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check"),
            outcome_column("Value #D"),
            Column("driver", "Driver"),
            Column("cuda", "Newest CUDA"),
            Column("Value #A", "Cards shown", colors=fewer),
            Column("Value #B", "NVIDIA on the bus"),
            Column("Value #C", "Expected"),
        ],
        width=12,
        height=7,
        empty="No check of the probe `gpu_driver` has looked.",
    )


def torch() -> Panel:
    versions = f"max by ({CHECK}, torch, cuda, python) ({chosen('gpucanary_torch_import_versions_info', MINE)})"
    return table(
        "torch",
        "Which torch does each Python have, and what does it see? n/a: the import failed, or nobody asked.",
        [
            Query(versions),
            Query(of_check("gpucanary_torch_import_devices")),
            Query(of_check("gpucanary_torch_import_import_seconds")),
            outcome_of("torch_import", MINE),
        ],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check"),
            outcome_column("Value #D"),
            Column("torch", "torch"),
            Column("cuda", "Built for CUDA"),
            Column("python", "Python"),
            Column("Value #B", "Cards seen"),
            Column("Value #C", "Import", "s"),
        ],
        width=12,
        height=7,
        empty="No check of the probe `torch_import` has looked.",
    )


def by_state(metric: str, states: tuple[str, ...], keep: str) -> list[Query]:
    """One query for each state: a column of a table."""
    found = [chosen(metric, MINE, f'state="{state}"') for state in states]
    return [Query(f"max by ({keep}) ({one})") for one in found]


def packages() -> Panel:
    some_bad, some_warn = steps((None, NONE), (1, BAD)), steps((None, NONE), (1, WARN))
    return table(
        "Packages",
        "How many requirements are met by the Python that does the work? Which ones are not, the findings tell.",
        [
            *by_state("gpucanary_packages_requirements", ("ok", "outdated", "missing"), CHECK),
            outcome_of("packages", MINE),
        ],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check"),
            outcome_column("Value #D"),
            Column("Value #A", "Met"),
            Column("Value #B", "Outdated", colors=some_warn),
            Column("Value #C", "Missing", colors=some_bad),
        ],
        width=12,
        height=6,
        empty="No check of the probe `packages` has looked.",
    )


def dotenv() -> Panel:
    some_bad, some_warn = steps((None, NONE), (1, BAD)), steps((None, NONE), (1, WARN))
    return table(
        "Variables of .env files",
        "How many of the watched variables are set, and well-formed? Which ones are not, the findings tell.",
        [
            *by_state("gpucanary_dotenv_variables", ("present", "malformed", "missing"), f"{CHECK}, path"),
            outcome_of("dotenv", MINE),
        ],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check"),
            outcome_column("Value #D"),
            Column("path", "File"),
            Column("Value #A", "Present"),
            Column("Value #B", "Malformed", colors=some_warn),
            Column("Value #C", "Missing", colors=some_bad),
        ],
        width=12,
        height=6,
        empty="No check of the probe `dotenv` has looked.",
    )


def disks() -> Panel:
    free, total = chosen("gpucanary_disk_free_bytes", MINE), chosen("gpucanary_disk_total_bytes", MINE)
    in_a_day = f"predict_linear({chosen('gpucanary_disk_free_bytes', MINE)}[6h], {DAY})"
    full_in = f"{free} / -(deriv({chosen('gpucanary_disk_free_bytes', MINE)}[6h]) < 0)"
    inodes = chosen("gpucanary_disk_free_inodes_ratio", MINE)
    asked = (free, total, f"{free} / {total}", in_a_day, full_in, inodes)
    keep = f"{CHECK}, path"
    return table(
        "Disks",
        "How much room is left, and when does it end if it goes on like the last six hours? `Full in` is n/a where "
        "nothing is lost; a negative `In a day` is the alert GpuCanaryDiskFillsSoon, unless the trend just ended.",
        [*(Query(f"max by ({keep}) ({expr})") for expr in asked), outcome_of("disk", MINE)],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check"),
            outcome_column("Value #G"),
            Column("path", "Path"),
            Column("Value #A", "Free", "bytes"),
            Column("Value #B", "Size", "bytes"),
            Column("Value #C", "Free share", "percentunit"),
            Column("Value #D", "In a day", "bytes", colors=steps((None, BAD), (0, NONE))),
            Column("Value #E", "Full in", "s", colors=steps((None, BAD), (DAY, NONE))),
            Column("Value #F", "Free inodes", "percentunit"),
        ],
        height=7,
        empty="No check of the probe `disk` has looked.",
    )


def disk_series() -> list[Panel]:
    target = chosen("gpucanary_target_lower", MINE, 'metric="free_bytes"')
    free = series(
        "Free space",
        "How does the free space of each disk change? Dashed: the least that a target allows.",
        [
            Query(chosen("gpucanary_disk_free_bytes", MINE), "{{instance}} {{path}}"),
            Query(target, "least, {{severity}}: {{instance}} {{path}}"),
        ],
        "bytes",
    )
    inodes = series(
        "Free inodes",
        "What share of each filesystem's inodes is free? Without one, new files fail although bytes are free.",
        [Query(chosen("gpucanary_disk_free_inodes_ratio", MINE), "{{instance}} {{path}}")],
        "percentunit",
    )
    return [bounded(free, "^least"), inodes]


def torch_series() -> list[Panel]:
    slow = series(
        "Import of torch",
        "How long does the import of torch take? Slower than before: a cold or busy disk, or a half-broken installation.",
        [Query(chosen("gpucanary_torch_import_import_seconds", MINE), "{{instance}} {{check}}")],
        "s",
    )
    cards = "gpucanary_gpu_driver_cards"
    seen = series(
        "Cards seen",
        "Do bus, driver and torch see as many cards as there should be? Lines that part: a card was lost in between.",
        [
            Query(chosen("gpucanary_gpu_driver_expected_cards", MINE), "expected: {{instance}}"),
            Query(chosen(cards, MINE, 'source="pci"'), "on the bus, {{vendor}}: {{instance}}"),
            Query(chosen(cards, MINE, 'source="nvml"'), "driver: {{instance}}"),
            Query(chosen("gpucanary_torch_import_devices", MINE), "torch: {{instance}} {{check}}"),
        ],
        "none",
    )
    return [slow, bounded(seen, "^expected")]


BOARD = Board(
    FAMILY,
    "gpu-canary / Environment",
    __doc__,
    (
        what_is_wrong(FAMILY, ABOUT, MINE, tall=12),
        Row("Versions", (systems(), driver(), torch())),
        Row("Disks", (disks(), *disk_series())),
        Row("Packages and variables", (packages(), dotenv())),
        Row("torch and cards over time", torch_series()),
    ),
    (JOB, INSTANCE, checks_of(FAMILY)),
    since="now-24h",
    annotations=(DRIVER_CHANGED, TORCH_CHANGED),
)
