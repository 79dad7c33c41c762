"""What is wrong, where, since when, and what is to be done?"""

from __future__ import annotations

from dashboards.board import CHECK, INSTANCE, JOB, Board, Row, annotation
from dashboards.links import HERE, from_row, from_series, runbook, with_board
from dashboards.panels import (
    BAD,
    GOOD,
    NEUTRAL,
    OUTCOMES,
    WARN,
    Column,
    Panel,
    Query,
    note,
    series,
    stat,
    states,
    steps,
    table,
    words,
)
from exporter import registry
from probes import BUILTIN

OF_CHECK = f'{HERE},check=~"$check"'
CHECKS = f"gpucanary_check_info{{{OF_CHECK}}}"
ONE_CHECK = "on (job, instance, check)"
# Hosts that were scraped within a day, and those that never answered but are scraped by a job of our name.
HOSTS = (
    f"up{{{HERE}}} and on (job, instance) last_over_time(gpucanary_build_info{{{HERE}}}[1d])"
    f' or up{{{HERE},job=~"gpu-?canary.*"}}'
)
FIRING = f'gpucanary_finding{{{OF_CHECK},injected=""}} == 1'
ALERTS = f'ALERTS{{alertname=~"GpuCanary.+",alertstate="firing",severity=~"critical|warning|info",{HERE}}}'
WATCHDOG = 'ALERTS{alertname="GpuCanaryWatchdog",alertstate="firing"}'  # without it nobody evaluates our rules
NEVER_RAN = f"{CHECKS} unless {ONE_CHECK} gpucanary_check_last_run_timestamp_seconds{{{OF_CHECK}}}"
IN_ERROR = f'gpucanary_check_outcome{{{OF_CHECK},outcome="error"}} == 1'
# A blind run takes the measurements away; a deferred one leaves them. Each reason has a series once it occurred.
BLIND = (
    f'gpucanary_check_skips_total{{{OF_CHECK},class="blind"}}'
    f' and {ONE_CHECK} (gpucanary_check_outcome{{{OF_CHECK},outcome="skipped"}} == 1)'
    f" unless {ONE_CHECK} gpucanary_check_last_measured_timestamp_seconds{{{OF_CHECK}}}"
)

SEVERITY = words({"critical": ("critical", BAD), "warning": ("warning", WARN), "info": ("info", NEUTRAL)})
OUTCOME = {float(number): (outcome, OUTCOMES[outcome]) for number, outcome in enumerate(OUTCOMES, 1)}
ANY_BAD, ANY_WARN = steps((None, GOOD), (1, BAD)), steps((None, GOOD), (1, WARN))
TO_CHECK = from_row("The dashboard of this check", "", "job", "instance", "check")
TO_HOST = from_row("Cards and host", "hardware", "job", "instance")


def counted(expr: str, inventory: str = CHECKS) -> str:
    """How many there are; 0 only where there is something to count in."""
    return f"count({expr}) or 0 * count({inventory})"


def outcomes(only: str = "") -> str:
    """The number of each check's outcome, with the label `board`; `only` filters checks."""
    each = " or ".join(
        f'{int(number)} * (gpucanary_check_outcome{{{OF_CHECK},outcome="{name}"}} == 1)'
        for number, (name, _) in OUTCOME.items()
    )
    return with_board(f"max by (job, instance, check) ({each}){only}")


def banner() -> tuple[Panel, ...]:
    """Six numbers that say whether to read on."""
    return (
        stat(
            "Hosts",
            "Which exporters answer Prometheus? A host that was never scraped counts when its job is named gpu-canary.",
            (Query(counted(f"({HOSTS}) == 1", HOSTS), "up"), Query(counted(f"({HOSTS}) == 0", HOSTS), "down", ANY_BAD)),
            links=(from_series("Does the canary work?", "canary"),),
        ),
        stat(
            "Checks",
            "How many checks fail now, and how many are degraded? n/a: no check is scraped.",
            (
                Query(counted(f'gpucanary_check_outcome{{{OF_CHECK},outcome="failed"}} == 1'), "failed", ANY_BAD),
                Query(counted(f'gpucanary_check_outcome{{{OF_CHECK},outcome="degraded"}} == 1'), "degraded", ANY_WARN),
            ),
        ),
        stat(
            "Findings",
            "How many rules fire now, by severity? Injected ones are counted apart.",
            (
                Query(
                    counted(f'gpucanary_finding{{{OF_CHECK},injected="",severity="critical"}} == 1'),
                    "critical",
                    ANY_BAD,
                ),
                Query(
                    counted(f'gpucanary_finding{{{OF_CHECK},injected="",severity="warning"}} == 1'), "warning", ANY_WARN
                ),
            ),
        ),
        stat(
            "Blind checks",
            "How many checks cannot look, end in an error of ours, or never ran? They say nothing about the machine.",
            (
                Query(counted(f"group by (job, instance, check) ({BLIND})"), "blind", ANY_WARN),
                Query(counted(IN_ERROR), "error", ANY_WARN),
                Query(counted(NEVER_RAN), "never ran", ANY_WARN),
            ),
            links=(from_series("Does the canary work?", "canary"),),
        ),
        stat(
            "Targets met",
            "Which share of all targets is met? A target without a measurement is not met. n/a: there is none.",
            (Query(f"avg(gpucanary_target_met{{{OF_CHECK}}})", "of all targets"),),
            "percentunit",
            colors=steps((None, WARN), (1, GOOD)),
        ),
        stat(
            "Alerts firing",
            "How many alerts of ours fire? n/a: this Prometheus does not evaluate our rules (no Watchdog).",
            (
                Query(counted(f'{ALERTS.removesuffix("}")},severity="critical"}}', WATCHDOG), "critical", ANY_BAD),
                Query(counted(f'{ALERTS.removesuffix("}")},severity="warning"}}', WATCHDOG), "warning", ANY_WARN),
            ),
        ),
    )


def findings() -> Panel:
    """The table that answers the question of this dashboard."""
    fires = f"gpucanary_finding{{{OF_CHECK}}} == 1"
    with_remedy = (
        f"({fires}) * on (job, instance, rule) group_left (remedy) gpucanary_rule_info{{{HERE}}}"
        f" or on (job, instance, check, rule, severity, subject) ({fires})"
    )
    with_page = f"({with_remedy}) * on (job, instance) group_left (self) gpucanary_links_info{{{HERE}}}"
    first_seen = f"min_over_time(timestamp({fires})[$__range:$__interval]) * 1000 and ({fires})"
    last_ok = (
        f"({fires}) * {ONE_CHECK} group_left () gpucanary_check_last_success_timestamp_seconds{{{OF_CHECK}}} * 1000"
    )
    return table(
        "Findings",
        "What is wrong, where, since when, and what is to be done about it? First seen looks at the shown time range.",
        (Query(with_board(with_page)), Query(first_seen), Query(last_ok)),
        (
            Column("severity", "Severity", mapping=SEVERITY, width=90),
            Column("instance", "Instance", links=(TO_HOST,), width=160),
            Column("check", "Check", links=(TO_CHECK,), width=150),
            Column("rule", "Rule", links=(runbook("Runbook", "rule"),), width=190),
            Column("subject", "Subject", width=170),
            Column("Value #B", "First seen", "dateTimeFromNow", width=130),
            Column("Value #C", "Check last ok", "dateTimeFromNow", width=130),
            Column("remedy", "What to do", long=True),
            Column("injected", "Injected", mapping=words({"true": ("a drill", NEUTRAL)}), width=90),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
            Column("self", "Exporter", hidden=True),
        ),
        height=10,
        empty="no rule fires on any host that is scraped; the numbers above say how many are",
        first="Severity",
        falling=False,
    )


def not_ok() -> Panel:
    """Only what was not ok; a row of its own says that there was nothing."""
    worse = f'gpucanary_check_outcome{{{OF_CHECK},outcome=~"degraded|failed|error"}}[$__range] @ end()'
    only = f" and {ONE_CHECK} (max by (job, instance, check) (max_over_time({worse})) > 0)"
    nothing = (
        f'label_replace(group(gpucanary_check_outcome{{{OF_CHECK}}}), "check", "none was degraded or failed", "", "")'
    )
    return states(
        "Checks that were not ok",
        "Which checks were degraded, failed or in error in this time range, and when? Every check is further down.",
        (Query(f"{outcomes(only)} or on () {nothing}", "{{instance}} {{check}}"),),
        OUTCOME,
        height=9,
        links=(from_series("The dashboard of this check", "", "job", "instance", "check"),),
    )


def alerts() -> Panel:
    """What Alertmanager was told."""
    since = f'ALERTS_FOR_STATE{{alertname=~"GpuCanary.+",{HERE}}} * 1000 and ignoring (alertstate) {ALERTS}'
    return table(
        "Alerts firing",
        "Which alerts fire, since when, and where is their runbook?",
        (
            Query(f"{ALERTS} * on (job, instance) group_left (self) gpucanary_links_info{{{HERE}}} or {ALERTS}"),
            Query(since),
        ),
        (
            Column("severity", "Severity", mapping=SEVERITY, width=90),
            Column("alertname", "Alert", links=(runbook("Runbook", "alertname"),)),
            Column("instance", "Instance", links=(TO_HOST,)),
            Column("check", "Check", links=(from_row("All of this check", "overview", "job", "instance", "check"),)),
            Column("Value #B", "Since", "dateTimeFromNow", width=130),
            Column("job", "Job", hidden=True),
            Column("self", "Exporter", hidden=True),
        ),
        width=16,
        empty="no alert of ours fires, or our rules are not loaded: see the number above",
        first="Severity",
        falling=False,
    )


def muted() -> tuple[Panel, ...]:
    """What makes the other panels mean less than they say."""
    return (
        stat(
            "In maintenance",
            "On which hosts is maintenance on? Their alerts are muted; measuring goes on.",
            (
                Query(
                    f"gpucanary_maintenance{{{HERE}}} == 1 or on () 0 * count(gpucanary_maintenance{{{HERE}}})",
                    "{{instance}}",
                ),
            ),
            mapping=words({0.0: ("no host", GOOD), 1.0: ("maintenance", WARN)}),
            width=4,
            height=9,
        ),
        stat(
            "Injected findings",
            "How many findings are drills (`gpu-canary inject`)? They end by themselves.",
            (Query(counted(f'gpucanary_finding{{{OF_CHECK},injected="true"}} == 1'), "drills", ANY_WARN),),
            width=4,
            height=9,
        ),
    )


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
            Query(with_board(f'label_join({met}, "of", " ", {listed})')),
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
            Column("severity", "Severity", mapping=SEVERITY, width=90),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
        ),
        width=24,
        empty="no target is set; `targets:` in the config sets them",
        first="Target",
        falling=False,
    )


def slower() -> Panel:
    """Benchmarks against their own best of a week: no baseline, and named so."""
    probes = [registry.load().probes[stem] for stem in BUILTIN["benchmarks"]]
    found = []
    for probe in probes:
        for metric in probe.metrics:
            name = f"{probe.name}_{metric.name}"
            now = f"gpucanary_{name}{{{OF_CHECK}}}"
            if metric.better == "higher":
                worse = f"1 - {now} / (max_over_time({now}[7d]) > 0)"
            elif metric.better == "lower":
                worse = f"{now} / (min_over_time({now}[7d]) > 0) - 1"
            else:
                continue
            found.append(f'label_replace({worse}, "metric", "{name}", "", "")')
    return table(
        "Farthest from their best of 7 days",
        "Which benchmarks are worse than this card's own best of the last week? One lucky run makes a best: look before you act.",
        (Query(with_board(f"topk(10, {' or '.join(found)})")),),
        (
            Column("instance", "Instance", links=(TO_HOST,)),
            Column("check", "Check", links=(TO_CHECK,)),
            Column("metric", "Metric"),
            Column("dtype", "Dtype", width=80),
            Column("device", "Device", width=80),
            Column("direction", "Direction", width=90),
            Column("Value", "Worse by", "percentunit", width=100),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
        ),
        width=12,
        empty="no benchmark has run",
        first="Worse by",
    )


def blind_spots() -> Panel:
    """What the canary does not see."""
    blind = f"max by (job, instance, check, class, reason) ({BLIND})"
    broken = f'label_replace({IN_ERROR}, "class", "error", "", "")'
    never = f'label_replace({NEVER_RAN}, "class", "never ran", "", "")'
    classes = {"blind": ("blind", WARN), "error": ("error", "purple"), "never ran": ("never ran", WARN)}
    return table(
        "Blind spots",
        "Which checks say nothing about the machine, and why? `gpu-canary run CHECK` says more.",
        (Query(with_board(f"{blind} or {broken} or {never}")),),
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
        "How old are the measurements, against the interval of their check? From 2.5 intervals on they are overdue.",
        (Query(with_board(f"{age} / {interval}")), Query(age), Query(interval)),
        (
            Column("instance", "Instance", links=(TO_HOST,)),
            Column("check", "Check", links=(TO_CHECK,)),
            Column("Value #A", "Age in intervals", colors=steps((None, GOOD), (OVERDUE, WARN))),
            Column("Value #B", "Age", "s"),
            Column("Value #C", "Interval", "s"),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
        ),
        width=24,
        empty="no check has measured anything",
        first="Age in intervals",
    )


OVERDUE = 2.5  # GpuCanaryCheckOverdue

PURPOSE = """
One look at all hosts: what is wrong, where, since when and what to do. Names of hosts, checks and rules are links: to
the cards and the host, to the dashboard of the check's family, to the runbook that the exporter serves. **n/a** means
that nothing was measured; it is never a healthy zero. The other dashboards are behind *gpu-canary*, top right.
"""


def history() -> tuple[Panel, ...]:
    """For those who read on."""
    by_severity = f'sum by (severity) (gpucanary_finding{{{OF_CHECK},injected=""}})'
    return (
        states(
            "Every check",
            "Which outcome did each check have, and when?",
            (Query(outcomes(), "{{instance}} {{check}}"),),
            OUTCOME,
            height=22,
            links=(from_series("The dashboard of this check", "", "job", "instance", "check"),),
        ),
        series("Findings by severity", "Did findings come or go?", (Query(by_severity, "{{severity}}"),)),
        series(
            "Failed runs in a row",
            "Which checks fail again and again? From the check's `confirm` on, alerts believe it.",
            (Query(f"gpucanary_check_consecutive_failures{{{OF_CHECK}}} > 0", "{{instance}} {{check}}"),),
        ),
    )


BOARD = Board(
    "overview",
    "gpu-canary: Overview",
    __doc__,
    (
        Row("Now", (*banner(), findings(), not_ok())),
        Row("Alerts", (alerts(), *muted())),
        Row("Targets and benchmarks", (targets(), slower(), blind_spots())),
        Row("Freshness", (freshness(), note(PURPOSE))),
        Row("Every check", history(), collapsed=True),
    ),
    variables=(JOB, INSTANCE, CHECK),
    annotations=(
        annotation(
            "Maintenance",
            "Maintenance is on.",
            f"gpucanary_maintenance{{{HERE}}} == 1",
            "blue",
            "Maintenance",
            "{{instance}}",
        ),
        annotation(
            "Drills",
            "An injected finding.",
            f'gpucanary_finding{{{HERE},injected="true"}} == 1',
            "semi-dark-purple",
            "Drill: {{rule}}",
            "{{instance}} {{check}}",
        ),
    ),
)
