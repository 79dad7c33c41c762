"""Do the services answer, correctly and in time?"""

from __future__ import annotations

from dashboards.board import INSTANCE, JOB, Board, Row, checks_of
from dashboards.findings import CHECK, chosen, of_family, outcome_column, outcome_of, what_is_wrong
from dashboards.lines import bounded, stacked, stepped
from dashboards.links import from_row, from_series
from dashboards.panels import BAD, GOOD, NONE, WARN, Panel, Query, series, steps, words
from dashboards.tables import Column, table

FAMILY = "services"
MINE = 'check=~"$check"'
EACH = "{{instance}} {{check}}"
ABOUT = (
    "Rate, errors and duration of each service, its objective, its certificate and its log. One service alone: choose it "
    "under Check. A slow answer with a busy card: go on to **Hardware**; a slow card: **Benchmarks**; all that is wrong: "
    "**Overview**."
)
CERTIFICATE_DAYS = 14  # the probe's `minimum_validity`, which alerts/services.yml follows
FAST_BURN = 14.4  # alerts/gpucanary.yml: 2 % of a month's allowance within an hour
MACHINE = (from_row("The machine", "hardware", "instance"),)
ONE_SERVICE = (from_series("This service alone", "services", "instance", "check"),)


def runs(outcome: str) -> str:
    """Runs a second, of each check of this family; `outcome` is a matcher."""
    selected = chosen("gpucanary_check_runs_total", MINE, outcome)
    return of_family(f"rate({selected}[$__rate_interval])", FAMILY)


def quantile(share: float) -> Query:
    """How long that share of the runs took at most."""
    buckets = of_family(f"rate({chosen('gpucanary_check_duration_seconds_bucket', MINE)}[$__rate_interval])", FAMILY)
    return Query(
        f"histogram_quantile({share:g}, sum by ({CHECK}, le) ({buckets}))",
        f"p{share * 100:g}: {{{{instance}}}} {{{{check}}}}",
    )


def rate_and_errors() -> list[Panel]:
    failed, every = runs('outcome="failed"'), runs('outcome!=""')
    looked = runs('outcome=~"ok|degraded|failed"')
    measured = f"sum by ({CHECK}) ({looked})"
    return [
        series(
            "Runs a minute",
            "How often were the services asked, and what came out? A failing service is asked more often.",
            [Query(f"60 * sum by (outcome) ({every})", "{{outcome}}")],
            "opm",
        ),
        series(
            "Errors",
            "Which share of the runs failed? Skipped runs and those in error are nobody's verdict and not counted.",
            [Query(f"sum by ({CHECK}) ({failed}) / ({measured} > 0)", EACH)],
            "percentunit",
            links=ONE_SERVICE,
        ),
    ]


def durations() -> list[Panel]:
    answer = series(
        "Time of the answer",
        "How long did the service take to answer? Dashed: the most that its targets allow; p95 of ten minutes comes "
        "from the recording rules and is what GpuCanaryServiceSlow looks at.",
        [
            Query(chosen("gpucanary_http_duration_seconds", MINE), EACH),
            Query(chosen("instance_check:gpucanary_http_duration_seconds:p95_10m", MINE), f"p95 of 10 min: {EACH}"),
            Query(
                chosen("gpucanary_target_upper", MINE, 'metric="duration_seconds"'), f"most, {{{{severity}}}}: {EACH}"
            ),
        ],
        "s",
        links=ONE_SERVICE,
    )
    whole = series(
        "Time of the whole run",
        "How long did the runs of each check take: half of them, 95 %, 99 %? Estimated from histogram buckets. Checks "
        "that run more rarely than every five minutes have no histogram.",
        [quantile(0.5), quantile(0.95), quantile(0.99)],
        "s",
    )
    services = f"scalar(count({chosen('gpucanary_http_duration_seconds', MINE)}))"
    phases = series(
        "Where the time goes",
        "Which phase takes the time of an answer: name, connection, TLS, processing or transfer? Stacked: the phases of "
        "one request sum to its time. The mean over the chosen services; redirects are not in it.",
        [Query(f"sum by (phase) ({chosen('gpucanary_http_phase_seconds', MINE)}) / {services}", "{{phase}}")],
        "s",
    )
    status = series(
        "Status codes",
        "Which HTTP status did each service answer with? No line: no answer.",
        [Query(chosen("gpucanary_http_status_code", MINE), EACH)],
        "none",
        links=ONE_SERVICE,
    )
    return [bounded(answer, "^most"), whole, stacked(phases), stepped(status)]


def answers() -> Panel:
    days = f"(min by ({CHECK}) ({chosen('gpucanary_http_tls_not_after_timestamp_seconds', MINE)}) - time()) / 86400"
    asked = ("status_code", "duration_seconds", "body_bytes", "redirects", "tls_verified")
    numbers = [Query(f"max by ({CHECK}) ({chosen(f'gpucanary_http_{name}', MINE)})") for name in asked]
    version = Query(f"max by ({CHECK}, version) ({chosen('gpucanary_http_version_info', MINE)})")
    expiring = steps((None, BAD), (CERTIFICATE_DAYS, NONE))
    return table(
        "Answers",
        "What did each service answer last? n/a: nothing came, or the service has none (no TLS).",
        [outcome_of("http", MINE), *numbers, Query(days), version],
        [
            Column("instance", "Asked from", links=MACHINE),
            Column("check", "Check", links=(from_row("This service alone", "services", "instance", "check"),)),
            outcome_column("Value #A"),
            Column("Value #B", "Status", "none"),
            Column("version", "HTTP"),
            Column("Value #C", "Time", "s"),
            Column("Value #D", "Body", "bytes"),
            Column("Value #E", "Redirects", "none"),
            Column("Value #F", "Certificate", mapping=words({0.0: ("not trusted", WARN), 1.0: ("trusted", GOOD)})),
            Column("Value #G", "Days left", "none", colors=expiring),
        ],
        height=8,
        empty="No check of the probe `http` has run.",
    )


def certificates() -> Panel:
    ends = chosen("gpucanary_http_tls_not_after_timestamp_seconds", MINE)
    panel = series(
        "Days until a certificate ends",
        f"When does each certificate end? The warning comes with the check's `minimum_validity`, {CERTIFICATE_DAYS} days "
        "unless set (dashed). `earliest` is the first to end in the whole chain.",
        [
            Query(f"({ends} - time()) / 86400", "{{instance}} {{check}}, {{position}}"),
            Query(f"0 * count({ends}) + {CERTIFICATE_DAYS}", "least, unless set"),
        ],
        "none",
        width=24,
    )
    return bounded(panel, "^least")


def objectives() -> list[Panel]:
    objective = chosen("gpucanary_objective_ratio", MINE)
    failed = {span: chosen(f"check:gpucanary_check_failed:avg_over_time{span}", MINE) for span in ("1h", "6h", "3d")}
    now = chosen("check:gpucanary_check_failed:current", MINE)
    left = f"1 - avg_over_time({now}[30d]) / (1 - {objective})"
    rows = [Query(of_family(f"max by ({CHECK}) ({one})", FAMILY)) for one in (objective, *failed.values(), left)]
    budget = table(
        "Objectives",
        "How much of the time in which it may fail has each service used? Time is counted, not runs. n/a: the recording "
        "rules of alerts/gpucanary.yml are not loaded, or are too new.",
        rows,
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check"),
            Column("Value #A", "Objective", "percentunit"),
            Column("Value #B", "Failed, 1 h", "percentunit"),
            Column("Value #C", "Failed, 6 h", "percentunit"),
            Column("Value #D", "Failed, 3 d", "percentunit"),
            Column("Value #E", "Left of 30 d", "percentunit", colors=steps((None, BAD), (0, WARN), (0.25, NONE))),
        ],
        width=12,
        height=8,
        empty="No check of a service has an `objective`.",
    )
    burns = [
        Query(of_family(f"{expr} / (1 - {objective})", FAMILY), f"{span}: {EACH}")
        for span, expr in failed.items()
        if span != "3d"
    ]
    burn = series(
        "Burn of the objective",
        "How many times faster than allowed is the time in which it may fail used up? 1: the objective is just met. "
        f"The line at {FAST_BURN:g} is what GpuCanaryObjectiveBurn (critical) holds the last hour against.",
        burns,
        "none",
        bound=FAST_BURN,
    )
    return [budget, burn]


MATCHES = chosen("gpucanary_log_tail_matches_total", MINE)


def matches() -> list[Panel]:
    last = chosen("gpucanary_log_tail_last_match_timestamp_seconds", MINE)
    keep = f"{CHECK}, path, class"
    rate = series(
        "Log lines that matched, a minute",
        "Which kind of trouble do the applications' logs tell of, and how often?",
        [Query(f"60 * sum by ({CHECK}, class) (rate({MATCHES}[$__rate_interval]))", f"{EACH}: {{{{class}}}}")],
        "cpm",
    )
    classes = table(
        "Log classes",
        "How many lines of each class came in the shown time range, and when was the last? n/a: none that is remembered.",
        [Query(f"max by ({keep}) (increase({MATCHES}[$__range]))"), Query(f"1000 * max by ({keep}) ({last})")],
        [
            Column("instance", "Instance", links=MACHINE),
            Column("check", "Check"),
            Column("class", "Class"),
            Column("path", "Log"),
            Column("Value #A", "Lines", "none", colors=steps((None, NONE), (1, WARN))),
            Column("Value #B", "Last", "dateTimeFromNow"),
        ],
        width=12,
        height=8,
        empty="No check of the probe `log_tail` has looked.",
    )
    return [rate, classes]


def unread() -> Panel:
    most = chosen("gpucanary_target_upper", MINE, 'metric="unread_bytes"')
    panel = series(
        "Log bytes not read yet",
        "Does the canary keep up with the log? A line that only rises: it is written faster than it is read.",
        [
            Query(chosen("gpucanary_log_tail_unread_bytes", MINE), f"{EACH}: {{{{path}}}}"),
            Query(most, f"most, {{{{severity}}}}: {EACH}"),
        ],
        "bytes",
        width=24,
    )
    return bounded(panel, "^most")


BOARD = Board(
    FAMILY,
    "gpu-canary / Services",
    __doc__,
    (
        what_is_wrong(FAMILY, ABOUT, MINE),
        Row("Answers", (answers(), *rate_and_errors(), *durations())),
        Row("Objectives and certificates", (*objectives(), certificates())),
        Row("Logs", (*matches(), unread())),
    ),
    (JOB, INSTANCE, checks_of(FAMILY)),
)
