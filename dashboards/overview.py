"""What is wrong, where, since when, and what is to be done?"""

from __future__ import annotations

from dashboards.board import CHECK, INSTANCE, JOB, Board, Row, annotation
from dashboards.findings import OUTCOME_WORDS, RANKS, findings_table, outcome
from dashboards.links import HERE, from_row, from_series, linked, runbook, with_board
from dashboards.panels import GOOD, WARN, Panel, Query, note, series, stat, states, steps, words
from dashboards.tables import Column, table
from dashboards.trouble import (
    ANY_BAD,
    ANY_WARN,
    BLIND,
    HOSTS,
    IN_ERROR,
    NEVER_RAN,
    OF_CHECK,
    ONE_CHECK,
    TO_CHECK,
    TO_HOST,
    blind_spots,
    counted,
    freshness,
    targets,
)
from dashboards.verdicts import regressions

CHOSEN = 'check=~"$check"'
# A check that is blind has neither: what nobody looked at is not well.
MEASURED = f"gpucanary_check_last_measured_timestamp_seconds{{{OF_CHECK}}}"
JUDGED = f"gpucanary_finding{{{OF_CHECK}}}"
# Without the Watchdog nobody evaluates our rules; without a host there is nothing to evaluate.
WATCHDOG = f'ALERTS{{alertname="GpuCanaryWatchdog",alertstate="firing"}} and on () ({HOSTS})'


def shown(only: str = "") -> str:
    """The number of each check's outcome, with the label `board`; `only` filters checks."""
    return with_board(outcome("", CHOSEN) + only)


def banner() -> tuple[Panel, ...]:
    """Six numbers that say whether to read on."""
    return (*banner_of_checks(), *banner_of_trust())


def banner_of_checks() -> tuple[Panel, ...]:
    """Who answers, and what do the checks say?"""
    return (
        stat(
            "Hosts",
            "Which exporters answer Prometheus? A host that was never scraped counts when its job is named gpu-canary.",
            (Query(counted(f"({HOSTS}) == 1", HOSTS), "up"), Query(counted(f"({HOSTS}) == 0", HOSTS), "down", ANY_BAD)),
            links=(from_series("Does the canary work?", "canary"),),
            width=3,
        ),
        stat(
            "Checks now",
            "How many checks fail now, and how many are degraded? n/a: no check has looked.",
            (
                Query(
                    counted(f'gpucanary_check_outcome{{{OF_CHECK},outcome="failed"}} == 1', MEASURED), "failed", ANY_BAD
                ),
                Query(
                    counted(f'gpucanary_check_outcome{{{OF_CHECK},outcome="degraded"}} == 1', MEASURED),
                    "degraded",
                    ANY_WARN,
                ),
            ),
            width=3,
        ),
        findings_now(),
    )


def findings_now() -> Panel:
    """What fires, whatever the outcome of its check."""
    return stat(
        "Findings now",
        "How many rules fire now, by severity? Drills are counted apart. n/a: no check has looked.",
        (
            Query(
                counted(f'gpucanary_finding{{{OF_CHECK},injected="",severity="critical"}} == 1', JUDGED),
                "critical",
                ANY_BAD,
            ),
            Query(
                counted(f'gpucanary_finding{{{OF_CHECK},injected="",severity="warning"}} == 1', JUDGED),
                "warning",
                ANY_WARN,
            ),
        ),
        width=3,
    )


def banner_of_trust() -> tuple[Panel, ...]:
    """What does nobody know, what was promised, and who was told?"""
    fires = f'ALERTS{{{{alertname=~"GpuCanary.+",alertstate="firing",severity="{{}}",{HERE}}}}}'
    return (
        stat(
            "Blind checks",
            "How many checks cannot look, end in an error of ours, or never ran? They say nothing about the machine.",
            (
                Query(counted(BLIND), "blind", ANY_WARN),
                Query(counted(IN_ERROR), "error", ANY_WARN),
                Query(counted(NEVER_RAN), "never ran", ANY_WARN),
            ),
            links=(from_series("Does the canary work?", "canary"),),
            width=5,
        ),
        stat(
            "Targets met",
            "Which share of all targets is met? A target without a measurement is not met. n/a: there is none.",
            (Query(f"avg(gpucanary_target_met{{{OF_CHECK}}})", "of all targets"),),
            "percentunit",
            colors=steps((None, WARN), (1, GOOD)),
            width=3,
        ),
        stat(
            "Alerts now",
            "How many alerts of ours fire? n/a: this Prometheus does not evaluate our rules (no Watchdog).",
            (
                Query(counted(fires.format("critical"), WATCHDOG), "critical", ANY_BAD),
                Query(counted(fires.format("warning"), WATCHDOG), "warning", ANY_WARN),
            ),
            width=3,
        ),
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
        (Query(f"{shown(only)} or on () {nothing}", "{{instance}} {{check}}"),),
        OUTCOME_WORDS,
        height=9,
        links=(from_series("The dashboard of this check", "", "job", "instance", "check"),),
    )


def alerts() -> Panel:
    """What Alertmanager was told."""
    of_ours = f'alertname=~"GpuCanary.+",{HERE}'
    firing = " or ".join(
        f'{rank:g} * ALERTS{{{of_ours},alertstate="firing",severity="{severity}"}}'
        for rank, (severity, _) in RANKS.items()
    )
    page = f"({firing}) * on (job, instance) group_left (self) gpucanary_links_info{{{HERE}}}"
    since = f'ALERTS_FOR_STATE{{{of_ours}}} * 1000 and ignoring (alertstate) ALERTS{{{of_ours},alertstate="firing",severity!="none"}}'
    return table(
        "Alerts firing",
        "Which alerts fire, since when, and where is their runbook?",
        (Query(f"{page} or ignoring (self) ({firing})"), Query(since)),
        (
            Column("Value #A", "Severity", mapping=words(RANKS), width=90),
            Column("alertname", "Alert", links=(runbook("Runbook", "alertname"),)),
            Column("instance", "Instance", links=(TO_HOST,)),
            Column("check", "Check", links=(from_row("All of this check", "overview", "job", "instance", "check"),)),
            Column("rule", "Rule"),
            Column("subject", "Subject"),
            Column("metric", "Metric"),
            Column("Value #B", "Since", "dateTimeFromNow", width=130),
            Column("job", "Job", hidden=True),
            Column("self", "Exporter", hidden=True),
        ),
        empty="no alert of ours fires, or our rules are not loaded: see the number above",
        first="Severity",
    )


def muted() -> tuple[Panel, ...]:
    """What makes the other panels mean less than they say."""
    return (
        stat(
            "Maintenance",
            "On which hosts is maintenance on? Their alerts are muted; measuring goes on.",
            (
                Query(
                    f"gpucanary_maintenance{{{HERE}}} == 1 or on () 0 * count(gpucanary_maintenance{{{HERE}}})",
                    "{{instance}}",
                ),
            ),
            mapping=words({0.0: ("off", GOOD), 1.0: ("on", WARN)}),
            width=2,
        ),
        stat(
            "Drills",
            "How many findings are drills (`gpu-canary inject`)? They end by themselves.",
            (Query(counted(f'gpucanary_finding{{{OF_CHECK},injected="true"}} == 1'), "drills", ANY_WARN),),
            width=2,
        ),
    )


PURPOSE = """
One look at all hosts. Names of hosts, checks and rules are links: to the cards and the host, to the dashboard of the
check's family, to the runbook that the exporter serves. **n/a** means that nothing was measured; it is never a healthy
zero. Next: **Environment** (is the machine set up right?), **Hardware** (cards and host), **Benchmarks** (how fast?),
**Services** (do they answer?), **Canary** (does the canary itself work?).
"""


def history() -> tuple[Panel, ...]:
    """For those who read on."""
    by_severity = f'sum by (severity) (gpucanary_finding{{{OF_CHECK},injected=""}})'
    return (
        states(
            "Every check",
            "Which outcome did each check have, and when?",
            (Query(shown(), "{{instance}} {{check}}"),),
            OUTCOME_WORDS,
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
        Row("Now", (*banner(), *muted(), findings_table("", CHOSEN, height=10), not_ok())),
        Row("Alerts", (alerts(),)),
        Row("Targets and benchmarks", (targets(), regressions(OF_CHECK, TO_CHECK, TO_HOST), blind_spots())),
        Row("Freshness", (freshness(), note(linked(PURPOSE)))),
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
