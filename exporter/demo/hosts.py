"""Who runs a simulated host? An exporter like any other; only the worlds that its checks ask are simulated."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from exporter import runner
from exporter.app import App
from exporter.baseline import NOTHING, Past
from exporter.config import Config
from exporter.demo.scenario import Alert, Host
from exporter.demo.worlds import Subject
from exporter.expected import held
from exporter.judge import judge
from exporter.past import Pasts
from exporter.redaction import Redactor
from exporter.registry import Registry
from exporter.result import Check, Latest, Result
from exporter.world.real import Doors
from exporter.world.token import Token

RUNS_BEFORE = 30  # a full baseline, and some runs under other conditions


class Simulated(App):
    """The exporter of one host. `start` is the scenario's start, Unix time; its time passes `speed` times as fast."""

    def __init__(
        self, host: Host, config: Config, registry: Registry, doors: Doors, redact: Redactor, start: float, speed: float
    ) -> None:
        self._subjects = {subject.check.name: subject for subject in host.subjects}
        self._name, self._start, self._speed = host.name, start, speed
        super().__init__(config, lambda: config, registry, doors, redact)
        self.pasts = Pasts(lambda name, limit: before(self._subjects[name], 0.0, start, speed))

    @property
    def machine(self) -> str:
        return self._name

    def remember(self, alert: Alert) -> None:
        """Show an alert of the past in the inbox, as Alertmanager would have told it when it was resolved."""
        begin, end = (datetime.fromtimestamp(self._start + moment, UTC).isoformat() for moment in alert.during)
        told = {
            "status": "resolved",
            "labels": {"alertname": alert.alert, "instance": alert.host, **alert.labels},
            "annotations": {"summary": alert.summary},
            "startsAt": begin,
            "endsAt": end,
        }
        if self.inbox is not None:
            delivery = {"version": "4", "receiver": "page", "alerts": [told]}
            self.inbox.take(json.dumps(delivery).encode(), pager_elsewhere=True)

    def execute(self, check: Check, token: Token) -> Result:
        subject = self._subjects.get(check.name)
        if subject is None:  # one of the house: it asks the exporter itself
            return super().execute(check, token)
        now = time.time()
        moment, latest = (now - self._start) * self._speed, self.journal.latest(check.name)
        return simulated(subject, moment, now, latest, token, self.redact, self._speed, self.pasts.of(check))


def simulated(
    subject: Subject,
    moment: float,
    now: float,
    latest: Latest | None,
    token: Token,
    redact: Callable[[str], str] = str,
    speed: float = 1.0,
    past: Past = NOTHING,
) -> Result:
    """One run, judged, at `moment` seconds from the scenario's start; it says that it began at `now`, Unix time."""
    check, world = subject.check, subject.world(moment, now, latest.remembered if latest else {}, speed)
    result = held(runner.run(check, world, token, redact))
    duration = result.duration if subject.took is None else subject.took
    return judge(replace(result, started=now, duration=duration), check.targets, past)


def before(subject: Subject, moment: float, now: float, speed: float = 1.0) -> list[Result]:
    """The runs of a check that were before `moment`, for the baseline of those that come."""
    every = subject.check.every
    ages = [every * number for number in range(RUNS_BEFORE, 0, -1)]
    return [simulated(subject, moment - age, now - age / speed, None, Token(60.0), speed=speed) for age in ages]
