"""How does the canary work, over time? Runs, schedule, cost and the way of its alerts, for the board about itself."""

from __future__ import annotations

from dashboards.links import HERE, from_row, from_series, with_board
from dashboards.panels import BAD, GOOD, NEUTRAL, WARN, Panel, Query, series, states, steps
from dashboards.tables import Column, table

OF_CHECK = f'{HERE},check=~"$check"'
ANY_BAD, ANY_WARN = steps((None, GOOD), (1, BAD)), steps((None, GOOD), (1, WARN))
LATE = 5  # seconds, GpuCanarySchedulerLate
# What README promises and GpuCanaryOverhead watches.
CPU_PROMISE, MEMORY_PROMISE = 0.02, 100_000_000
CPU = (
    f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval]) and on (job, instance) gpucanary_build_info{{{HERE}}}"
)
MEMORY = f"process_resident_memory_bytes{{{HERE}}} and on (job, instance) gpucanary_build_info{{{HERE}}}"
LAG = f"gpucanary_scheduler_lag_seconds{{{HERE}}}"
TO_OVERVIEW = from_series("What is wrong there?", "overview", "job", "instance")


def runs() -> tuple[Panel, ...]:
    """Are checks run, in time, and do they end?"""
    hourly = f"sum by (outcome) (rate(gpucanary_check_runs_total{{{OF_CHECK}}}[$__rate_interval])) * 3600"
    skips = f"sum by (class, reason) (rate(gpucanary_check_skips_total{{{OF_CHECK}}}[$__rate_interval])) * 3600"
    buckets = f"rate(gpucanary_check_duration_seconds_bucket{{{OF_CHECK}}}[$__rate_interval])"
    to_check = from_series("The dashboard of this check", "", "job", "instance", "check")
    return (
        series("Runs per hour, by outcome", "How many runs end how?", (Query(hourly, "{{outcome}}"),)),
        series(
            "Skipped runs per hour, by reason",
            "Why are runs skipped? Deferred ones wait for an idle card; blind ones cannot look.",
            (Query(skips, "{{class}}: {{reason}}"),),
        ),
        series(
            "Run duration, p95 of each host",
            "Do the frequent checks get slower? Only checks that run at least every five minutes have a histogram.",
            (Query(f"histogram_quantile(0.95, sum by (instance, le) ({buckets}))", "{{instance}}"),),
            "s",
        ),
        series(
            "Longest last runs",
            "Which ten checks take longest?",
            (
                Query(
                    with_board(f"topk(10, gpucanary_check_last_duration_seconds{{{OF_CHECK}}})"),
                    "{{instance}} {{check}}",
                ),
            ),
            "s",
            links=(to_check,),
        ),
    )


def checks() -> Panel:
    """When did each check run, and when will it?"""
    last = f"gpucanary_check_last_run_timestamp_seconds{{{OF_CHECK}}} * 1000"
    following = f"gpucanary_check_next_run_timestamp_seconds{{{OF_CHECK}}} * 1000"
    success = f"gpucanary_check_last_success_timestamp_seconds{{{OF_CHECK}}} * 1000"
    return table(
        "Checks",
        "When did each check run, when will it, and how many failures make an alert believe it?",
        (
            Query(with_board(f"gpucanary_check_info{{{OF_CHECK}}}")),
            Query(last),
            Query(success),
            Query(following),
            Query(f"gpucanary_check_interval_seconds{{{OF_CHECK}}}"),
            Query(f"gpucanary_check_confirm_runs{{{OF_CHECK}}}"),
        ),
        (
            Column("instance", "Instance"),
            Column("check", "Check", links=(from_row("The dashboard of this check", "", "job", "instance", "check"),)),
            Column("probe", "Probe"),
            Column("family", "Family"),
            Column("Value #B", "Last run", "dateTimeFromNow"),
            Column("Value #C", "Last ok", "dateTimeFromNow"),
            Column("Value #D", "Next run", "dateTimeFromNow"),
            Column("Value #E", "Interval", "s"),
            Column("Value #F", "Confirm runs"),
            Column("job", "Job", hidden=True),
            Column("board", "Board", hidden=True),
        ),
        height=10,
        empty="no check is scraped",
    )


def schedule() -> tuple[Panel, ...]:
    """Does the scheduler keep up?"""
    held, slots = f"gpucanary_lane_runs{{{HERE}}}", f"gpucanary_lane_slots{{{HERE}}}"
    return (
        series(
            "Scheduler lag",
            "How far behind its slot did the newest run begin?",
            (Query(LAG, "{{instance}}"),),
            "s",
            bound=LATE,
            links=(TO_OVERVIEW,),
        ),
        series(
            "Lanes in use",
            "Which share of each lane's slots is held? At 100 % runs wait.",
            (Query(f"{held} / ({slots} > 0)", "{{instance}} {{lane}}"),),
            "percentunit",
        ),
        series(
            "Progress of long runs",
            "How far are the runs in progress?",
            (Query(f"gpucanary_check_progress_ratio{{{OF_CHECK}}}", "{{instance}} {{check}}"),),
            "percentunit",
        ),
        series(
            "Time left of long runs",
            "When do the runs in progress end?",
            (Query(f"gpucanary_check_eta_seconds{{{OF_CHECK}}}", "{{instance}} {{check}}"),),
            "s",
        ),
    )


def cost() -> tuple[Panel, ...]:
    """What does it cost?"""
    return (*promised(), *scrapes())


def promised() -> tuple[Panel, ...]:
    """Does it cost as little as README promises?"""
    return (
        series(
            "CPU of the exporters",
            "Do they keep the promise of 2 % of one core?",
            (Query(CPU, "{{instance}}"),),
            "percentunit",
            bound=CPU_PROMISE,
            links=(TO_OVERVIEW,),
        ),
        series(
            "Memory of the exporters",
            "Do they keep the promise of 100 MB?",
            (Query(MEMORY, "{{instance}}"),),
            "decbytes",
            bound=MEMORY_PROMISE,
            links=(TO_OVERVIEW,),
        ),
    )


def scrapes() -> tuple[Panel, ...]:
    """What does it cost Prometheus, and what does it say of itself?"""
    scraped = f"and on (job, instance) gpucanary_build_info{{{HERE}}}"
    return (
        series(
            "Scrape duration",
            "How long does a scrape take? It copies ready bytes: more than some milliseconds is the network or the load.",
            (Query(f"scrape_duration_seconds{{{HERE}}} {scraped}", "{{instance}}"),),
            "s",
        ),
        series(
            "Samples per scrape",
            "How many series does each exporter cost Prometheus?",
            (Query(f"scrape_samples_scraped{{{HERE}}} {scraped}", "{{instance}}"),),
        ),
        series(
            "Open files of the exporters",
            "Do file descriptors leak?",
            (Query(f"process_open_fds{{{HERE}}} {scraped}", "{{instance}}"),),
        ),
        series(
            "What the check `host` measured of the exporter",
            "Does the exporter see its own cost as Prometheus does?",
            (Query(f"gpucanary_host_self_cpu_ratio{{{OF_CHECK}}}", "{{instance}}"),),
            "percentunit",
            bound=CPU_PROMISE,
        ),
    )


def delivery() -> tuple[Panel, ...]:
    """Do alerts reach people?"""
    every = "[$__rate_interval]"
    return (
        series(
            "Rule evaluations that failed",
            "Which groups of rules does Prometheus fail to evaluate? Their alerts are silent.",
            (Query(f"sum by (rule_group) (rate(prometheus_rule_evaluation_failures_total{every}))", "{{rule_group}}"),),
            "ops",
        ),
        notifications(),
        states(
            "Config reloads",
            "When was a config refused?",
            (Query(f"gpucanary_config_last_reload_successful{{{HERE}}}", "{{instance}}"),),
            {0.0: ("refused", BAD), 1.0: ("loaded", GOOD)},
            width=12,
        ),
        states(
            "Maintenance",
            "When was maintenance on?",
            (Query(f"gpucanary_maintenance{{{HERE}}}", "{{instance}}"),),
            {0.0: ("off", GOOD), 1.0: ("maintenance", NEUTRAL)},
            width=12,
        ),
    )


def notifications() -> Panel:
    """How many go out, and how many fail?"""
    every = "[$__rate_interval]"
    return series(
        "Notifications",
        "Does Prometheus hand its alerts over, and does Alertmanager deliver them?",
        (
            Query(f"sum(rate(prometheus_notifications_sent_total{every}))", "Prometheus: sent"),
            Query(f"sum(rate(prometheus_notifications_errors_total{every}))", "Prometheus: errors"),
            Query(
                f"sum by (integration) (rate(alertmanager_notifications_total{every}))",
                "Alertmanager: {{integration}}",
            ),
            Query(
                f"sum by (integration) (rate(alertmanager_notifications_failed_total{every}))",
                "Alertmanager: {{integration}} failed",
            ),
        ),
        "ops",
    )
