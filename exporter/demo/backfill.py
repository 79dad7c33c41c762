"""What would Prometheus have scraped until now? The scenario's past as OpenMetrics text with timestamps.

For `promtool tsdb create-blocks-from openmetrics`. A family's samples must stand together, so all are kept in memory, 16
bytes each, until the last moment is known; the text is written line by line.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from exporter.demo.hosts import before, simulated
from exporter.demo.scenario import Alert, Host
from exporter.demo.worlds import Subject
from exporter.families import PREFIX, Family, Labels, Row
from exporter.metrics import CheckSeries
from exporter.past import Pasts
from exporter.result import Latest
from exporter.world.token import Token

STEP = 280.0  # seconds between scrapes: Prometheus looks back for five minutes, and two days of that are 75 MB of text
HEARTBEAT = 290.0  # and no longer may pass until what did not change is written again
STATES = ("check_outcome", "finding")  # most are 0 nearly always: they are written while they are not, and once after
LEFT_OUT = frozenset(
    (
        "baseline_mad",
        "baseline_median",
        "baseline_runs",
        "check_duration_seconds",
        "check_skips_total",
        "check_confirm_runs",
        "check_interval_seconds",
        "check_last_duration_seconds",
        "check_last_run_timestamp_seconds",
        "check_last_measured_timestamp_seconds",
        "check_last_success_timestamp_seconds",
    )
)  # people look at what they are now, not at what they were: a quarter of the text


@dataclass
class Series:
    """Times and values of one series, as far as they must be written."""

    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, at: float, value: float, heartbeat: float) -> None:
        """The zeros that a series begins with are not written, but for the last one, so that counters seem to rise."""
        if len(self.values) == 1 and not self.values[0] and not value:
            self.times[0] = at
        elif not self.times or value != self.values[-1] or at - self.times[-1] >= heartbeat:
            self.times.append(at)
            self.values.append(value)

    def lines(self, start: str) -> str:
        samples = zip(self.times, self.values, strict=True) if any(self.values) else ()
        return "".join(f"{start}{value:.10g} {at:.0f}\n" for at, value in samples)


@dataclass
class Kept:
    """One family: its first lines, and its series by their labels."""

    header: str
    series: dict[tuple[str, Labels], Series] = field(default_factory=dict)


class Past:
    """What was scraped of all hosts, family by family."""

    def __init__(self, step: float) -> None:
        self._families: dict[str, Kept] = {}
        self._heartbeat = max(0.0, HEARTBEAT - step)

    def add(self, family: Family, target: Labels, at: float, own: Labels = ()) -> None:
        name = family.name.removeprefix(PREFIX)
        if name in LEFT_OUT:
            return
        kept = self._families.get(family.name)
        if kept is None:
            base = family.name.removesuffix("_total") if family.type == "counter" else family.name
            header = f"# HELP {base} {_escaped(family.documentation)}\n# TYPE {base} {family.type}\n"
            kept = self._families[family.name] = Kept(header)
        for (suffix, labels), value in zip(family.rows, family.values, strict=True):
            series = kept.series.setdefault((family.name + suffix, (*own, *labels, *target)), Series())
            if name not in STATES or value or not series.values or series.values[-1]:
                series.add(at, float(value), self._heartbeat)

    def text(self) -> Iterator[str]:
        """The exposition, a series at a time."""
        for _, kept in sorted(self._families.items()):
            yield kept.header
            for (name, labels), series in kept.series.items():
                start = name + "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "} "
                yield series.lines(start)
        yield "# EOF\n"


def backfill(
    hosts: Sequence[Host],
    alerts: Sequence[Alert],
    end: float,
    length: float,
    step: float,
    write: Callable[[str], object],
) -> None:
    """The `length` seconds before `end` (Unix time), one scrape every `step` seconds, the last one at `end`."""
    past = Past(step)
    for host in hosts:
        target = (("instance", host.name), ("job", "gpu-canary"), *((("tier", host.tier),) if host.tier else ()))
        runs = [_Runs(subject) for subject in host.subjects]
        for number in range(int(length // step), -1, -1):
            moment = -number * step
            at = round(end + moment)
            past.add(UP, target, at)
            for run in runs:
                run.until(moment, at)
                for family in run.series.families():
                    past.add(family, target, at, run.own)
            for alert in alerts:
                if alert.host == host.name:
                    for family in _fired(alert, moment, end):
                        past.add(family, target, at)
    for text in past.text():
        write(text)


UP = Family("up", "1 while the target answers.", (("", ()),), (1.0,))


def _fired(alert: Alert, moment: float, end: float) -> Iterator[Family]:
    """What Prometheus's rules would have written of an alert: that it fires, and since when."""
    begin, over = alert.during
    if begin <= moment < over:
        labels = (("alertname", alert.alert), *alert.labels.items())
        firing: Row = ("", (*labels, ("alertstate", "firing")))
        yield Family("ALERTS", "Alerts that fire.", (firing,), (1.0,))
        yield Family("ALERTS_FOR_STATE", "Since when.", (("", labels),), (end + begin,))


class _Runs:
    """The runs of one check, as its schedule would have had them."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._next = float("-inf")
        self._latest: Latest | None = None
        self._pasts: Pasts | None = None
        self.series = CheckSeries(subject.check)
        self.own: Labels = (("check", subject.check.name),)

    def until(self, moment: float, at: float) -> None:
        """Run once, if a run was due since the last scrape."""
        if moment < self._next:
            return
        check = self._subject.check
        if self._pasts is None:
            self._pasts = Pasts(lambda name, limit: before(self._subject, moment, at))
        result = simulated(self._subject, moment, at, self._latest, Token(60.0), past=self._pasts.of(check))
        self._pasts.add(result)
        self._latest = self._latest.after(result) if self._latest else Latest.first(result)
        self._next = moment + check.every
        self.series.latest = self._latest
        self.series.counts.count(check, result)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
