"""Which checks mean trouble, and how much? Tables of targets, benchmarks, blind spots and freshness, for the overview."""

from __future__ import annotations

from dashboards.links import HERE, from_row, with_board
from dashboards.panels import BAD, GOOD, WARN, Panel, Query, steps, words
from dashboards.tables import Column, table
from exporter import registry
from probes import BUILTIN

OVERDUE = 2.5  # intervals, GpuCanaryCheckOverdue
OF_CHECK = f'{HERE},check=~"$check"'
CHECKS = f"gpucanary_check_info{{{OF_CHECK}}}"
ONE_CHECK = "on (job, instance, check)"
# Hosts that were scraped within a day, and those that never answered but are scraped by a job of our name.
HOSTS = (
    f"up{{{HERE}}} and on (job, instance) last_over_time(gpucanary_build_info{{{HERE}}}[1d])"
    f' or up{{{HERE},job=~"gpu-?canary.*"}}'
)
NEVER_RAN = f"{CHECKS} unless {ONE_CHECK} gpucanary_check_last_run_timestamp_seconds{{{OF_CHECK}}}"
IN_ERROR = f'gpucanary_check_outcome{{{OF_CHECK},outcome="error"}} == 1'
BLIND = f'gpucanary_check_skip_info{{{OF_CHECK},class="blind"}} == 1'

ANY_BAD, ANY_WARN = steps((None, GOOD), (1, BAD)), steps((None, GOOD), (1, WARN))
TO_CHECK = from_row("The dashboard of this check", "", "job", "instance", "check")
TO_HOST = from_row("Cards and host", "hardware", "job", "instance")


def counted(expr: str, inventory: str = CHECKS) -> str:
    """How many there are; 0 only where there is something to count in."""
    return f"count({expr}) or 0 * count({inventory})"


def targets() -> Panel:
    """Every target, the missed ones first."""
    # What a measurement is about: the labels of our probes' numbers, in one column.
    probes = [registry.load().probes[stem] for stems in BUILTIN.values() for stem in stems]
    labels = sorted({label for p in probes for m in p.metrics if m.kind != "info" for label in m.labels} - {"uuid"})
    listed = ", ".join(f'"{label}"' for label in labels)
    value, upper, lower, met = (f"gpucanary_target_{name}{{{OF_CHECK}}}" for name in ("value", "upper", "lower", "met"))
    beyond = f"({value} - {upper}) / ({upper} > 0) or ({lower} - {value}) / ({lower} > 0)"
    return table(
        "Targets",
        "Which targets are met, which are missed, and by how much? Beyond: how far past the bound, in parts of it.",
        (
            Query(with_board(f'label_replace(label_join({met}, "of", " ", {listed}), "of", "$1", "of", " *(.*?) *")')),
            Query(value),
            Query(upper),
            Query(lower),
            Query(beyond),
        ),
        (
            Column("Value #A", "Target", mapping=words({0.0: ("missed", BAD), 1.0: ("met", GOOD)}), width=80),
            Column("instance", "Instance", links=(TO_HOST,)),
            Column("check", "Check", links=(TO_CHECK,)),
            Column("metric", "Metric"),
            Column("of", "Of"),
            Column("Value #B", "Value", width=110),
            Column("Value #C", "At most", width=110),
            Column("Value #D", "At least", width=110),
            Column("Value #E", "Beyond", "percentunit", width=90),
            Column("severity", "Severity", width=90),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
        ),
        width=24,
        empty="no target is set; `targets:` in the config sets them",
        first="Target",
        falling=False,
    )


def _named(expr: str, kind: str, reason: str) -> str:
    return f'label_replace(label_replace({expr}, "class", "{kind}", "", ""), "reason", "{reason}", "", "")'


def blind_spots() -> Panel:
    """What the canary does not see."""
    broken = _named(IN_ERROR, "error", "gpu-canary itself failed: `gpu-canary run CHECK` shows how")
    never = _named(NEVER_RAN, "never ran", "no run has ended yet")
    classes = {"blind": ("blind", WARN), "error": ("error", "purple"), "never ran": ("never ran", WARN)}
    return table(
        "Blind spots",
        "Which checks say nothing about the machine, and why? `gpu-canary run CHECK` says more.",
        (Query(with_board(f"{BLIND} or {broken} or {never}")),),
        (
            Column("class", "State", mapping=words(classes), width=90),
            Column("instance", "Instance", links=(TO_HOST,)),
            Column("check", "Check", links=(TO_CHECK,)),
            Column("reason", "Reason"),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
        ),
        width=12,
        empty="no check that is scraped is blind",
    )


def freshness() -> Panel:
    """How old is what the other panels show?"""
    measured = f"gpucanary_check_last_measured_timestamp_seconds{{{OF_CHECK}}}"
    interval = f"gpucanary_check_interval_seconds{{{OF_CHECK}}}"
    age = f"(time() - {measured})"
    return table(
        "Freshness",
        "How old are the measurements, against the interval of their check? Above 250 % they are overdue.",
        (Query(with_board(f"{age} / {interval}")), Query(age), Query(interval)),
        (
            Column("instance", "Instance", links=(TO_HOST,)),
            Column("check", "Check", links=(TO_CHECK,)),
            Column("Value #A", "Of its interval", "percentunit", colors=steps((None, GOOD), (OVERDUE, WARN))),
            Column("Value #B", "Age", "s"),
            Column("Value #C", "Interval", "s"),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
        ),
        width=24,
        empty="no check has measured anything",
        first="Of its interval",
    )
