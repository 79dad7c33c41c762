"""What is the machine around the cards doing? Processors, memory, disks and network of the chosen instances."""

from __future__ import annotations

from dashboards.findings import chosen
from dashboards.lines import bounded
from dashboards.links import from_row
from dashboards.panels import NONE, WARN, Panel, Query, series, steps
from dashboards.tables import Column, table

HOST = "job, instance"
CPU_BUSY, MEMORY_FULL = 0.80, 0.90  # alerts/hardware.yml, unless a target says otherwise


def host(metric: str, *more: str) -> str:
    return chosen(f"gpucanary_host_{metric}", *more)


def bound(metric: str, unless: float) -> Query:
    """What the alert holds `metric` against: the target, or the number it takes where there is none."""
    target = chosen("gpucanary_target_upper", f'metric="{metric}"', 'uuid=""')
    return Query(f"min without (metric, severity) ({target}) or 0 * {host(metric)} + {unless:g}", "most: {{instance}}")


def machines() -> Panel:
    asked = (
        host("cpus"),
        host("cpu_utilization_ratio"),
        host("memory_total_bytes"),
        host("memory_utilization_ratio"),
        f"1000 * {host('boot_timestamp_seconds')}",
        host("container_cpus"),
        host("container_memory_limit_bytes"),
    )
    busy, full = steps((None, NONE), (CPU_BUSY, WARN)), steps((None, NONE), (MEMORY_FULL, WARN))
    return table(
        "Machines",
        "Which machines are there, what have they got, and how full are they? Limits of a container: n/a outside of one.",
        [Query(f"max by ({HOST}) ({one})") for one in asked],
        [
            Column("instance", "Instance", links=(from_row("What is wrong there", "overview", "job", "instance"),)),
            Column("Value #A", "Processors", "none"),
            Column("Value #B", "CPU", "percentunit", colors=busy),
            Column("Value #C", "Memory", "bytes"),
            Column("Value #D", "Memory used", "percentunit", colors=full),
            Column("Value #E", "Started", "dateTimeFromNow"),
            Column("Value #F", "Container: processors", "none"),
            Column("Value #G", "Container: memory", "bytes"),
            Column("job", "Job", hidden=True),
        ],
        height=6,
        empty="No check of the probe `host` has looked.",
    )


def pressure() -> list[Panel]:
    cpu = series(
        "CPU",
        "Which share of the processors' time was not idle? Dashed: what GpuCanaryHostCpuHigh holds the mean of five "
        "minutes against.",
        [Query(host("cpu_utilization_ratio"), "{{instance}}"), bound("cpu_utilization_ratio", CPU_BUSY)],
        "percentunit",
    )
    memory = series(
        "Memory",
        "Which share of the memory cannot be had without swapping? Dashed: what GpuCanaryHostMemoryHigh holds the mean of "
        "five minutes against.",
        [Query(host("memory_utilization_ratio"), "{{instance}}"), bound("memory_utilization_ratio", MEMORY_FULL)],
        "percentunit",
    )
    return [bounded(cpu, "^most"), bounded(memory, "^most")]


def details() -> list[Panel]:
    """For specialists."""
    cores = f"on ({HOST}) group_left () max by ({HOST}) ({host('cpus')})"
    busy = host("cpu_seconds_total", 'mode!="idle"')
    load = series(
        "Load for each processor",
        "How many tasks run or wait for a disk, for each processor? Above 1 for long: some wait.",
        [Query(f"{host('load_averages')} / {cores}", "{{instance}} {{window}}")],
        "none",
    )
    modes = series(
        "Where CPU time goes",
        "How many processors' worth of time goes to what? iowait: the disk is what is slow.",
        [Query(f"rate({busy}[$__rate_interval])", "{{instance}} {{mode}}")],
        "none",
    )
    amounts = series(
        "Memory and swap in use",
        "How much memory and swap is in use, of how much (dashed)?",
        [
            Query(host("memory_used_bytes"), "memory: {{instance}}"),
            Query(host("memory_total_bytes"), "all memory: {{instance}}"),
            Query(host("swap_used_bytes"), "swap: {{instance}}"),
            Query(host("swap_total_bytes"), "all swap: {{instance}}"),
        ],
        "bytes",
    )
    return [load, modes, bounded(amounts, "^all"), container()]


def container() -> Panel:
    panel = series(
        "Memory of the container",
        "How near is the container that the exporter runs in to its own limit (dashed)? No line: it runs in none.",
        [
            Query(host("container_memory_used_bytes"), "used: {{instance}}"),
            Query(host("container_memory_limit_bytes"), "most: {{instance}}"),
        ],
        "bytes",
    )
    return bounded(panel, "^most")


def traffic() -> list[Panel]:
    """Bytes a second in and out; for specialists."""
    asked = {
        "Disks": ("How much is read from and written to each disk?", ("disk_read", "disk_written")),
        "Network": ("How much comes in and goes out, by interface?", ("network_received", "network_sent")),
    }
    return [
        series(
            title,
            question,
            [
                Query(
                    f"rate({host(f'{name}_bytes_total')}[$__rate_interval])",
                    f"{name.rpartition('_')[2]}: {{{{instance}}}} {{{{device}}}}",
                )
                for name in names
            ],
            "Bps",
        )
        for title, (question, names) in asked.items()
    ]
