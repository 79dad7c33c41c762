"""What is wrong, and what is to be done? Findings and outcomes: the pieces that several boards share."""

from __future__ import annotations

from dashboards.board import Row
from dashboards.links import BOARD_OF_CHECK, HERE, from_row, runbook
from dashboards.panels import BAD, NEUTRAL, NONE, OUTCOMES, WARN, Panel, Query, link, note, stat, states, steps, words
from dashboards.tables import Column, table

RANKS = {3.0: ("critical", BAD), 2.0: ("warning", WARN), 1.0: ("info", NEUTRAL)}
OUTCOME_WORDS = {float(place): (word, color) for place, (word, color) in enumerate(OUTCOMES.items(), 1)}
CHECK = "job, instance, check"
REAL = 'injected=""'  # not by `gpu-canary inject`
FINDING = f"{CHECK}, rule, severity, subject, injected"


def chosen(metric: str, *more: str) -> str:
    """The series of the chosen jobs and instances; `more` are further matchers, like `check=~"$check"`."""
    return f"{metric}{{{','.join((HERE, *more))}}}"


def of_family(expr: str, family: str) -> str:
    """Only what belongs to the checks of that family; of all families where it is empty."""
    if not family:
        return expr
    selected = f'family="{family}"'
    return f"({expr}) and on ({CHECK}) {chosen('gpucanary_check_info', selected)}"


def firing(family: str = "", *more: str) -> str:
    """Findings that fire, with family, remedy and the exporter's own address; the value is the severity's rank."""
    ranked = []
    for rank, (severity, _) in RANKS.items():
        selected = f'severity="{severity}"'
        ranked.append(f"{rank:g} * ({chosen('gpucanary_finding', selected, *more)} == 1)")
    found = of_family(" or ".join(ranked), family)
    joined = (
        f"({found})"
        f" * on ({CHECK}) group_left (family, board) {BOARD_OF_CHECK}"
        f" * on (job, instance, rule) group_left (remedy) {chosen('gpucanary_rule_info')}"
        f" * on (job, instance) group_left (self) {chosen('gpucanary_links_info')}"
    )
    # a finding whose remedy or link is not there is a finding all the same
    return f"({joined}) or on ({FINDING}) ({found})"


def findings_table(family: str = "", *more: str, height: int = 9) -> Panel:
    """Every finding that fires, worst first, with its remedy; of one family, or of all."""
    findings, ok = firing(family, *more), chosen("gpucanary_check_last_success_timestamp_seconds")
    first_seen = f"min_over_time(timestamp({chosen('gpucanary_finding', *more)} == 1)[$__range:$__interval])"
    labelled = f"({findings}) * 0 +"
    asked = (
        findings,
        f"{labelled} on ({FINDING}) group_left () (1000 * {first_seen})",
        f"{labelled} on ({CHECK}) group_left () (1000 * {ok})",
    )
    drill = words({"no": ("no", NONE), "true": ("a drill", NEUTRAL)})
    page = link("This check on the exporter's own page", "${__data.fields.self}/checks/${__data.fields.check}")
    return table(
        "Findings",
        "What is wrong, since when, and what is to be done? Worst first. `First seen` looks at the shown time range; "
        "`Last ok` is the check's last run that was ok. Blind checks and those in error find nothing: see the outcomes.",
        [Query(f'label_replace({one}, "injected", "no", "injected", "")') for one in asked],
        [
            Column("Value #A", "Severity", mapping=words(RANKS), width=90),
            Column("instance", "Instance", width=170, links=(from_row("The machine", "hardware", "instance"),)),
            Column("family", "Family", width=110, links=(from_row("The family", "", "instance", "check"),)),
            Column("check", "Check", width=150, links=(page,)),
            Column("rule", "Rule", width=190, links=(runbook("Runbook", "rule"),)),
            Column("subject", "Subject", width=190),
            Column("Value #B", "First seen", "dateTimeFromNow", width=120),
            Column("Value #C", "Last ok", "dateTimeFromNow", width=120),
            Column("remedy", "What to do", long=True),
            Column("injected", "Injected", mapping=drill, width=80),
            Column("self", "Exporter", hidden=True),
            Column("board", "Board", hidden=True),
        ],
        height=height,
        empty="Nothing found: every rule that looked is quiet.",
        first="Severity",
    )


def outcome(family: str = "", *more: str) -> str:
    """The outcome of each check's last run as a number of OUTCOME_WORDS; absent before the first run."""
    each = []
    for value, (word, _) in OUTCOME_WORDS.items():
        selected = f'outcome="{word}"'
        each.append(f"{value:g} * ({chosen('gpucanary_check_outcome', selected, *more)} == 1)")
    return of_family(f"max without (outcome) ({' or '.join(each)})", family)


def outcome_of(probe: str, *more: str) -> Query:
    """For a table of one probe's checks: a row for each, also where it measured nothing."""
    checks = chosen("gpucanary_check_info", *more, f'probe="{probe}"')
    return Query(f"max by ({CHECK}) ({outcome('', *more)} and on ({CHECK}) {checks})")


def outcome_column(field: str) -> Column:
    """The word for what `outcome` says in this column; `Value #A` for the first query."""
    return Column(field, "Outcome", mapping=words(OUTCOME_WORDS))


def outcome_timeline(family: str = "", *more: str, height: int = 8) -> Panel:
    """Which check had which outcome, when?"""
    return states(
        "Outcomes",
        "Which outcome did each check's last run have, and when did it change? After `skipped` and `error` nothing is "
        "known about the machine: the canary did not look. No data: no exporter, or the check had not run yet.",
        [Query(outcome(family, *more), "{{instance}} {{check}}")],
        OUTCOME_WORDS,
        height=height,
    )


def what_is_wrong(family: str, about: str, *more: str, tall: int = 8) -> Row:
    """The first row of a family's board: what it is for, how much is wrong, what, and since when."""
    counts = finding_counts(family, *more)
    panels = (
        note(about, width=16, height=4),
        *counts,
        findings_table(family, *more),
        outcome_timeline(family, *more, height=tall),
    )
    return Row("What is wrong", panels)


def finding_counts(family: str, *more: str) -> list[Panel]:
    """How many findings fire, by severity: zero is written only where a check looked."""
    asked = {"Critical findings": ("critical", BAD), "Warnings": ("warning", WARN)}
    made = []
    for title, (severity, color) in asked.items():
        colors = steps((None, NONE), (1, color))
        selected = f'severity="{severity}"'
        found = of_family(f"{chosen('gpucanary_finding', selected, REAL, *more)} == 1", family)
        looked = of_family(chosen("gpucanary_finding", *more), family)
        question = (
            f"How many findings of severity {severity} fire? Injected ones are not counted. n/a: no check looked."
        )
        made.append(stat(title, question, [Query(f"count({found}) or 0 * count({looked})")], "none", colors=colors))
    return made
