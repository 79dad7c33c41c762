"""What does the exporter say about itself? Build, reload, lanes, history, process, and what alert templates need."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import ProcessCollector

from exporter import VERSION
from exporter.families import ONE, PREFIX, Blocks, Family, Renderer, Row, Rows, gauge, of_metrics
from exporter.injection import Injection
from exporter.metrics import QUIET
from probes.api import Rule

REMEDY_BYTES = 300  # what an alert template can carry (DESIGN.md section 6)


@dataclass
class About:
    """The exporter's own state, set by the app; `collect` is asked when a body is pressed."""

    lag: float = 0.0
    lanes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)
    device_budget: float = 0.0
    next_runs: Mapping[str, float] = field(default_factory=dict)
    reload_ok: bool = True
    reload_time: float = 0.0
    history_failures: int = 0
    cleanups: int = 0
    cleaned_bytes: int = 0
    maintenance: bool = False
    checks: int = 0
    injected: tuple[Injection, ...] = ()

    def families(self) -> Iterator[Family]:
        build = (("version", VERSION), ("python", platform.python_version()))
        yield Family(f"{PREFIX}build_info", "The program that answers.", (("", build),), (1.0,))
        yield gauge("config_last_reload_successful", "1 when the last load of the config succeeded.", self.reload_ok)
        about = "When the config was last loaded."
        yield gauge("config_last_reload_success_timestamp_seconds", about, self.reload_time)
        yield gauge("scheduler_lag_seconds", "How far behind its slot the newest run began.", self.lag)
        yield gauge("maintenance", "1 while maintenance is on: alerts are muted, measuring goes on.", self.maintenance)
        yield gauge("checks", "Configured checks.", self.checks)
        name, about = f"{PREFIX}history_write_failures_total", "Batches history could not write."
        yield Family(name, about, ONE, (self.history_failures,), "counter")
        name, about = f"{PREFIX}cleanup_runs_total", "Looks for folders that killed workers and exporters left behind."
        yield Family(name, about, ONE, (self.cleanups,), "counter")
        name, about = (
            f"{PREFIX}cleanup_removed_bytes_total",
            "Bytes of files of ours that were left behind and removed.",
        )
        yield Family(name, about, ONE, (self.cleaned_bytes,), "counter")
        lanes: Rows = tuple(("", (("lane", lane),)) for lane in self.lanes)
        held, slots = zip(*self.lanes.values(), strict=True) if self.lanes else ((), ())
        yield Family(f"{PREFIX}lane_runs", "Runs that hold a lane now.", lanes, held)
        yield Family(f"{PREFIX}lane_slots", "Runs a lane can hold.", lanes, slots)
        cards: Rows = tuple(("", (("lane", lane),)) for lane in self.held)
        name, about = (
            f"{PREFIX}lane_held_seconds_total",
            "Time that benchmarks held a card or the processor, the start of their Python included.",
        )
        yield Family(name, about, cards, list(self.held.values()), "counter")
        about = "Share of the time that benchmarks may hold a card: `device_budget` in the config's `gate`."
        yield gauge("device_budget_ratio", about, self.device_budget)
        due: Rows = tuple(("", (("check", check),)) for check in self.next_runs)
        name = f"{PREFIX}check_next_run_timestamp_seconds"
        yield Family(name, "When the next run is due.", due, list(self.next_runs.values()))
        if self.injected:  # beside the checks' own samples of this family, told apart by one more label
            yield Family(f"{PREFIX}finding", QUIET, tuple(map(_made_up, self.injected)), [1.0] * len(self.injected))


def _made_up(one: Injection) -> Row:
    labels = (("check", one.check), ("rule", one.rule), ("severity", one.severity), ("subject", one.subject))
    return "", (*labels, ("injected", "true"))


class Own:
    """Blocks of the exporter itself: what never changes is rendered once, the rest when a body is pressed."""

    def __init__(self, rules: Iterable[Rule], grafana: str, self_url: str) -> None:
        self.about = About()
        self._process = ProcessCollector(registry=None)
        self._render = Renderer()
        self._static = self._render(for_templates(rules, grafana, self_url))

    def blocks(self) -> Blocks:
        own = self._render(self.about.families())
        return {**self._static, **own, **self._render(of_metrics(self._process.collect()))}


def for_templates(rules: Iterable[Rule], grafana: str, self_url: str) -> Iterator[Family]:
    """Remedies and links, so that static alert rules fit every installation and strangers' probes."""
    named = {rule.name: shortened(rule.remedy) for rule in sorted(rules, key=lambda rule: rule.name)}
    rows: Rows = tuple(("", (("rule", name), ("remedy", remedy))) for name, remedy in named.items())
    yield Family(f"{PREFIX}rule_info", "The remedy of a rule, for alert templates.", rows, [1.0] * len(rows))
    links = (("grafana", grafana), ("self", self_url))
    yield Family(f"{PREFIX}links_info", "Where people find more, for alert templates.", (("", links),), (1.0,))


def shortened(remedy: str, limit: int = REMEDY_BYTES) -> str:
    """A remedy cut to `limit` bytes: at the end of a step where one fits, else of a word, and never within a command."""
    if len(remedy.encode()) <= limit:
        return remedy
    start = remedy.encode()[: limit - 3].decode("utf-8", "ignore")
    step = start.rpartition("\n")[0]
    if not step:
        step = start.rpartition(" ")[0]
        step = step.rpartition("`")[0] if step.count("`") % 2 else step
    return f"{step.rstrip(' .')}..."
