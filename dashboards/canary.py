"""Does the canary itself work, and what does it cost?"""

from __future__ import annotations

from dashboards.board import CHECK, INSTANCE, JOB, Board, Row, annotation
from dashboards.links import HERE, from_row, linked
from dashboards.panels import BAD, GOOD, WARN, Panel, Query, note, stat, steps, words
from dashboards.tables import Column, table
from dashboards.trouble import HOSTS
from dashboards.working import (
    ANY_BAD,
    ANY_WARN,
    CPU,
    CPU_PROMISE,
    LAG,
    LATE,
    MEMORY,
    MEMORY_PROMISE,
    checks,
    cost,
    delivery,
    runs,
    schedule,
)

UNWRITTEN = f"increase(gpucanary_history_write_failures_total{{{HERE}}}[$__range])"
# Prometheus and Alertmanager speak for themselves: they have jobs and instances of their own.
RULE_FAILURES = "ceil(sum(increase(prometheus_rule_evaluation_failures_total[$__range])))"
UNSENT = "ceil(sum(increase(prometheus_notifications_dropped_total[$__range])))"
UNDELIVERED = "ceil(sum(increase(alertmanager_notifications_failed_total[$__range])))"


def now() -> tuple[Panel, ...]:
    """Is anything wrong with the canary?"""
    return (*kept_promises(), *lost(), *reached())


def kept_promises() -> tuple[Panel, ...]:
    """Is it cheap, in time, and of the config that was written?"""
    return (
        stat(
            "CPU, worst host",
            "Does any exporter use more than 2 % of one core, the promise of the README?",
            (Query(f"max({CPU})", "of one core"),),
            "percentunit",
            colors=steps((None, GOOD), (CPU_PROMISE, WARN)),
        ),
        stat(
            "Memory, worst host",
            "Does any exporter hold more than 100 MB of memory, the promise of the README?",
            (Query(f"max({MEMORY})", "resident"),),
            "decbytes",
            colors=steps((None, GOOD), (MEMORY_PROMISE, WARN)),
        ),
        stat(
            "Scheduler lag, worst host",
            "How late did the newest run begin?",
            (Query(f"max({LAG})", "behind"),),
            "s",
            colors=steps((None, GOOD), (LATE, WARN)),
        ),
        stat(
            "Config",
            "Did the last load of each config succeed? After a failed one the old config goes on.",
            (Query(f"min(gpucanary_config_last_reload_successful{{{HERE}}})", "last load"),),
            mapping=words({0.0: ("refused", BAD), 1.0: ("loaded", GOOD)}),
        ),
    )


def lost() -> tuple[Panel, ...]:
    """Are results or alerts lost?"""
    return (
        stat(
            "History not written",
            "How many batches could not be written to disk in this time range? Baselines miss them.",
            (Query(f"ceil(sum({UNWRITTEN}))", "batches"),),
            colors=ANY_WARN,
        ),
        stat(
            "Rules failed",
            "Did Prometheus fail to evaluate a rule in this time range? n/a: it does not scrape itself.",
            (Query(RULE_FAILURES, "evaluations"),),
            colors=ANY_BAD,
        ),
        stat(
            "Alerts lost",
            "Were alerts lost on the way? n/a: neither Prometheus nor Alertmanager is scraped.",
            (
                Query(UNSENT, "Prometheus dropped", ANY_BAD),
                Query(UNDELIVERED, "Alertmanager failed to deliver", ANY_BAD),
            ),
            width=8,
        ),
    )


def reached() -> tuple[Panel, ...]:
    """How much does it look after, and does the way of its alerts work?"""
    return (
        stat(
            "Checks configured",
            "How many checks are configured on all hosts?",
            (Query(f"sum(gpucanary_checks{{{HERE}}})", "configured"),),
        ),
        stat(
            "Inbox",
            "How many alerts lie in the exporters' inboxes? n/a: no exporter has an inbox (`--web.enable-inbox`).",
            (
                Query(f'sum(gpucanary_inbox_alerts{{{HERE},state="firing"}})', "firing"),
                Query(f'sum(gpucanary_inbox_alerts{{{HERE},state="resolved"}})', "resolved"),
            ),
        ),
        stat(
            "Watchdog",
            "When did the Watchdog alert last come through Alertmanager into an inbox? It comes as long as the way works.",
            (Query(f"max(gpucanary_inbox_watchdog_timestamp_seconds{{{HERE}}}) * 1000", "last heard"),),
            "dateTimeFromNow",
        ),
        stat(
            "History on disk",
            "How large is the largest history? Its limit is in the config.",
            (Query(f"max(gpucanary_history_size_bytes{{{HERE}}})", "largest"),),
            "bytes",
        ),
    )


def exporters() -> Panel:
    """One row for each exporter."""
    build = f"gpucanary_build_info{{{HERE}}}"
    loaded = f"gpucanary_config_last_reload_success_timestamp_seconds{{{HERE}}} * 1000"
    started = f"process_start_time_seconds{{{HERE}}} * 1000 and on (job, instance) {build}"
    return table(
        "Exporters",
        "Which exporters answer, which versions run where, since when, with which config, and where is their status page?",
        (
            Query(
                f"{build} * on (job, instance) group_left (self) gpucanary_links_info{{{HERE}}} or ignoring (self) {build}"
            ),
            Query(started),
            Query(loaded),
            Query(HOSTS),
        ),
        (
            Column("Value #D", "Answers", mapping=words({0.0: ("down", BAD), 1.0: ("up", GOOD)}), width=90),
            Column("instance", "Instance", links=(from_row("What is wrong there?", "overview", "job", "instance"),)),
            Column("version", "Version"),
            Column("python", "Python"),
            Column("Value #B", "Started", "dateTimeFromNow"),
            Column("Value #C", "Config loaded", "dateTimeFromNow"),
            Column("self", "Status page"),
            Column("job", "Job"),
        ),
        height=7,
        empty="no exporter is scraped",
        first="Answers",
        falling=False,
    )


PURPOSE = """
Whether the canary itself can be believed: are checks run in time, is history written, do rules and notifications work,
and does the exporter keep its promise of 2 % of one core and 100 MB? What Prometheus and Alertmanager say about
themselves is there once they are scraped too (`deploy/prometheus` does that). What is wrong on the hosts: **Overview**.
"""

BOARD = Board(
    "canary",
    "gpu-canary: Canary",
    __doc__,
    (
        Row("Now", (*now(), exporters())),
        Row("Cost", cost()[:2]),
        Row("Runs", runs()),
        Row("Checks", (checks(), note(linked(PURPOSE)))),
        Row("Schedule", schedule(), collapsed=True),
        Row("Scrapes and the process", cost()[2:], collapsed=True),
        Row("Rules, notifications, config", delivery(), collapsed=True),
    ),
    variables=(JOB, INSTANCE, CHECK),
    annotations=(
        annotation(
            "Restarts",
            "An exporter was started.",
            f"changes(process_start_time_seconds{{{HERE}}}[$__rate_interval]) > 0",
            "blue",
            "Restart",
            "{{instance}}",
        ),
    ),
)
