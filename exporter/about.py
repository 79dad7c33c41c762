"""What does the exporter say about itself? Build, reload, lanes, history, process, and what alert templates need."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from exporter import VERSION
from exporter.metrics import PREFIX, Blocks, Renderer
from probes.api import Rule

REMEDY_BYTES = 300  # what an alert template can carry (DESIGN.md section 6)


@dataclass
class About:
    """The exporter's own state, set by the app; `collect` is asked when a body is pressed."""

    lag: float = 0.0
    lanes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    next_runs: Mapping[str, float] = field(default_factory=dict)
    reload_ok: bool = True
    reload_time: float = 0.0
    history_failures: int = 0
    maintenance: bool = False
    checks: int = 0

    def collect(self) -> Iterator[Metric]:
        build = InfoMetricFamily(f"{PREFIX}build", "The program that answers.")
        build.add_metric((), {"version": VERSION, "python": platform.python_version()})
        yield build
        yield _gauge("config_last_reload_successful", "1 when the last load of the config succeeded.", self.reload_ok)
        yield _gauge(
            "config_last_reload_success_timestamp_seconds", "When the config was last loaded.", self.reload_time
        )
        yield _gauge("scheduler_lag_seconds", "How far behind its slot the newest run began.", self.lag)
        yield _gauge("maintenance", "1 while maintenance is on: alerts are muted, measuring goes on.", self.maintenance)
        yield _gauge("checks", "Configured checks.", self.checks)
        failures = CounterMetricFamily(f"{PREFIX}history_write_failures", "Batches history could not write.")
        failures.add_metric((), self.history_failures)
        yield failures
        taken = GaugeMetricFamily(f"{PREFIX}lane_runs", "Runs that hold a lane now.", labels=("lane",))
        room = GaugeMetricFamily(f"{PREFIX}lane_slots", "Runs a lane can hold.", labels=("lane",))
        for lane, (held, capacity) in self.lanes.items():
            taken.add_metric((lane,), held)
            room.add_metric((lane,), capacity)
        yield from (taken, room)
        due = GaugeMetricFamily(
            f"{PREFIX}check_next_run_timestamp_seconds", "When the next run is due.", labels=("check",)
        )
        for check, when in self.next_runs.items():
            due.add_metric((check,), when)
        yield due


class Own:
    """Blocks of the exporter itself: what never changes is rendered once, the rest when a body is pressed."""

    def __init__(self, rules: Iterable[Rule], grafana: str, self_url: str) -> None:
        self.about = About()
        self._process = ProcessCollector(registry=None)
        self._static = Renderer()(_Static(tuple(rules), grafana, self_url))
        self._render_about, self._render_process = Renderer(), Renderer()

    def blocks(self) -> Blocks:
        return {**self._static, **self._render_about(self.about), **self._render_process(self._process)}


@dataclass(frozen=True)
class _Static:
    rules: tuple[Rule, ...]
    grafana: str
    self_url: str

    def collect(self) -> Iterator[Metric]:
        rules = InfoMetricFamily(f"{PREFIX}rule", "The remedy of a rule, for alert templates.", labels=("rule",))
        for rule in sorted({r.name: r for r in self.rules}.values(), key=lambda r: r.name):
            rules.add_metric((rule.name,), {"remedy": shortened(rule.remedy)})
        yield rules
        links = InfoMetricFamily(f"{PREFIX}links", "Where people find more, for alert templates.")
        links.add_metric((), {"grafana": self.grafana, "self": self.self_url})
        yield links


def shortened(remedy: str, limit: int = REMEDY_BYTES) -> str:
    """A remedy cut to `limit` bytes at the end of a word."""
    data = remedy.encode()
    if len(data) <= limit:
        return remedy
    return data[: limit - 3].decode("utf-8", "ignore").rpartition(" ")[0] + "..."


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", documentation, value=float(value))
