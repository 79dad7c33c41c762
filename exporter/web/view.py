"""What does the page say? Latest results to what its templates show: what is wrong first, what is calm last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exporter.result import RANK, Check, Latest, Outcome, Result
from exporter.schedule import Running
from exporter.web import chart, remedy
from exporter.web.measured import Series, foremost, series
from probes.api import FAMILIES, Finding, Rule
from probes.rules import HOUSE_RULES

TILES = 3
REASONS = {
    "permission": "no permission to look",
    "no_interpreter": "no Python to run it in",
    "no_torch": "no torch in that Python",
    "no_browser": "no browser",
    "no_library": "a library is missing",
    "no_source": "nothing to read it from",
    "platform": "not possible on this system",
    "no_gpu": "no GPU",
    "no_device": "no such device",
    "not_configured": "not configured",
    "no_generator": "no generator configured",
    "unsupported": "the device does not support it",
    "gpu_busy": "waits for an idle GPU",
    "quiet_hours": "quiet hours",
    "lock_file": "the lock file is there",
    "service_busy": "a service says that it works",
    "other_run": "another gpu-canary measures now",
    "preparing": "torch is being prepared",
    "lane_busy": "waiting for its turn",
    "overlap": "the run before is still going",
    "shutdown": "the exporter stopped",
    "removed": "the check was changed",
    "aborted": "it was stopped",
}
SEVERITIES = {"critical": 0, "warning": 1, "info": 2}
HOUSE = {rule.name: rule for rule in HOUSE_RULES}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A rule that fired, once for all its subjects, and what to do about it."""

    check: str
    severity: str
    rule: str
    summary: str
    details: tuple[Finding, ...]
    steps: tuple[remedy.Step, ...]
    since: float
    ours: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One check, as both pages show it. `shown` is the result whose values and findings hold; `stale` when it is not the
    newest run."""

    check: Check
    outcome: Outcome | None
    latest: Latest | None
    shown: Result | None
    stale: bool
    reason: str
    troubles: tuple[Trouble, ...]
    notes: tuple[Trouble, ...]
    series: Sequence[Series]
    more: int
    strip: tuple[chart.Mark, ...]
    told: str
    running: Running | None
    due: float | None
    imminent: bool

    @property
    def skip_class(self) -> str:
        return self.latest.last.skip[0] if self.latest and self.latest.last.skip else ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The top of the status page."""

    headline: str
    tone: str  # failed, degraded, waiting, ok
    counts: tuple[tuple[str, int], ...]
    troubles: tuple[Trouble, ...]
    blind: tuple[Card, ...]
    deferred: tuple[Card, ...]
    running: tuple[Card, ...]


def card(
    check: Check,
    latest: Latest | None,
    runs: Sequence[Result],
    running: Running | None = None,
    due: float | None = None,
    tiles: int | None = TILES,
) -> Card:
    """One check; `runs` are its recent ones, oldest first; `tiles` series at most (None: all)."""
    last = latest.last if latest else None
    shown = (latest.measured or last) if latest else None
    found = sorted(_troubles(check, latest, shown), key=lambda t: SEVERITIES[t.severity]) if latest and shown else []
    every = series(check, shown, runs) if shown else []
    chosen = every if tiles is None else foremost(every, tiles)
    return Card(
        check=check,
        outcome=last.outcome if last else None,
        latest=latest,
        shown=shown,
        stale=shown is not last,
        reason=REASONS.get(last.skip[1], last.skip[1]) if last and last.skip else "",
        troubles=tuple(t for t in found if t.severity != "info"),
        notes=tuple(t for t in found if t.severity == "info"),
        series=chosen,
        more=len(shown.measurements) - len(chosen) if shown else 0,
        strip=chart.strip(runs),
        told=_told(runs),
        running=running,
        due=due,
        imminent=due is not None and due < time.time() + 1,
    )


def summary(cards: Sequence[Card], alerts: bool = False) -> Summary:
    """What is wrong now, what could not be looked at, what was put off. `alerts`: some fire."""
    troubles = sorted(
        (t for c in cards for t in c.troubles), key=lambda t: (t.ours, t.severity != "critical", -t.since)
    )
    blind, deferred = (tuple(c for c in cards if c.skip_class == name) for name in ("blind", "deferred"))
    counts = Counter(_state(c) for c in cards)
    headline, tone = _headline(cards, troubles, len(blind))
    if tone == "ok" and alerts:  # of other hosts, or of what Prometheus alone can see
        headline, tone = "Every check here is well, but alerts fire.", "degraded"
    return Summary(
        headline,
        tone,
        tuple((state, counts[state]) for state in STATES if counts[state]),
        tuple(troubles),
        blind,
        deferred,
        tuple(c for c in cards if c.running and c.running.ratio is not None),
    )


STATES = ("failed", "degraded", "error", "blind", "ok", "deferred", "not applicable", "waiting")


def _state(card: Card) -> str:
    return (card.skip_class or card.outcome or "waiting").replace("_", " ")


def by_family(cards: Iterable[Card]) -> list[tuple[str, str, list[Card]]]:
    """Families in the order of the house, each with its question and its cards by name."""
    grouped: dict[str, list[Card]] = {}
    for one in sorted(cards, key=lambda c: c.check.name):
        grouped.setdefault(one.check.family, []).append(one)
    return [(name, FAMILIES[name], grouped[name]) for name in FAMILIES if name in grouped]


def _headline(cards: Sequence[Card], troubles: Sequence[Trouble], blind: int) -> tuple[str, str]:
    wrong = {t.check for t in troubles if not t.ours}
    worst = max((RANK[c.outcome] for c in cards if c.outcome and c.check.name in wrong), default=0)
    if wrong:
        words = f"{len(wrong)} checks have" if len(wrong) > 1 else "One check has"
        critical = any(t.severity == "critical" for t in troubles) or worst >= RANK["failed"]
        return (f"{words} found something wrong.", "failed") if critical else (f"{words} a warning.", "degraded")
    if troubles:
        return "gpu-canary itself has a fault; the machine shows none.", "degraded"
    if not any(c.latest for c in cards):
        return "The first runs are on their way.", "waiting"
    if blind:
        some = f"{blind} checks" if blind > 1 else "one check"
        return f"Nothing wrong was found, but {some} could not look.", "waiting"
    unseen = sum(not c.latest or (c.skip_class == "deferred" and not c.latest.measured) for c in cards)
    if unseen:
        some = f"{unseen} checks have" if unseen > 1 else "one check has"
        return f"Nothing wrong so far, but {some} not looked yet.", "waiting"
    return "All is well.", "ok"


def _troubles(check: Check, latest: Latest, shown: Result) -> Iterable[Trouble]:
    rules = HOUSE | {rule.name: rule for rule in check.probe.rules}
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for finding in shown.findings:
        grouped.setdefault((finding.rule, finding.severity), []).append(finding)
    since = latest.since if shown is latest.last else shown.started
    for (name, severity), found in grouped.items():
        rule: Rule | None = rules.get(name)
        yield Trouble(
            check.name,
            severity,
            name,
            rule.summary if rule else name,
            tuple(found),
            remedy.steps(rule.remedy, check.name, check.probe.name) if rule else (),
            since,
            shown.outcome == "error",
        )


def _told(runs: Sequence[Result]) -> str:
    """A strip in words."""
    if not runs:
        return "no run yet"
    counts: Mapping[str, int] = Counter(run.outcome for run in runs)
    parts = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    return f"last {len(runs)} runs: {parts}; newest {runs[-1].outcome}"
