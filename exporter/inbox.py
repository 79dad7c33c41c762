"""What would the pager have said? Alerts that Alertmanager sent here: in memory only, bounded, whatever was sent.

The format is version 4 of https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, cast

from probes.api import Json

WATCHDOG = "GpuCanaryWatchdog"  # it always fires; its arrival proves the way here, and nobody wants to read it
PAGERS = ("page", "ticket")  # receivers of alerts/alertmanager.yml that a person is to hear
LIMIT = 200  # alerts kept
AT_ONCE = 1000  # alerts read of one delivery
TEXT = 1000  # characters of an annotation
LABELS, NAME, VALUE = 20, 60, 150  # labels of an alert, characters of their names and values
DAY = 86400.0
UNHEARD = 2 * DAY  # a firing alert that Alertmanager repeats no more: it was restarted, and forgot to say so
FIRST = ("alertname", "severity", "instance", "check", "gpu", "rule", "subject")  # labels kept however many there are
NOTES = ("summary", "description", "remedy", "runbook_url", "dashboard_url")

Texts = Mapping[str, str]
State = Literal["firing", "resolved"]


class Unreadable(ValueError):
    """What came is no message of Alertmanager's; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert, as it was told last. Times in Unix seconds; `ended` is None while it fires."""

    fingerprint: str
    name: str
    state: State
    severity: str
    receiver: str
    labels: Texts
    annotations: Texts
    since: float
    ended: float | None
    arrived: float

    def to_dict(self) -> dict[str, Json]:
        return asdict(self)


class Inbox:
    """The newest alerts by fingerprint. Any thread may ask; `redact` hides secrets in all that comes in."""

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self._redact = redact
        self._lock = threading.Lock()
        self._notices: dict[str, Notice] = {}
        self._told: dict[str, tuple[float, bool]] = {}  # pager -> when it was last told, and whether elsewhere too
        self._watchdog: float | None = None

    def take(self, body: bytes, pager_elsewhere: bool = False, now: float | None = None) -> int:
        """Read one delivery; how many alerts it held. Unreadable when it is none, and then nothing changes."""
        moment = time.time() if now is None else now
        receiver, rows = _delivery(body)
        notices = [self._notice(row, receiver, moment) for row in rows]
        with self._lock:
            for notice in notices:
                if notice.name == WATCHDOG:
                    self._watchdog = moment if notice.state == "firing" else self._watchdog
                    continue
                self._notices.pop(notice.fingerprint, None)  # so that the newest stands last
                self._notices[notice.fingerprint] = notice
                if receiver in PAGERS:
                    self._told[receiver] = (moment, pager_elsewhere)
            self._forget(moment)
        return len(notices)

    def notices(self, now: float | None = None) -> tuple[Notice, ...]:
        """Firing ones first, then those that ended within a day; the newest of each first."""
        with self._lock:
            self._forget(time.time() if now is None else now)
            kept = list(self._notices.values())
        return tuple(sorted(kept, key=lambda n: (n.state != "firing", -(n.ended or n.since))))

    def watchdog(self) -> float | None:
        """When the Watchdog was last heard; None when it never was."""
        return self._watchdog

    def unpaged(self, now: float | None = None) -> tuple[str, ...]:
        """The receivers whose alerts of the last day nobody but this inbox was told."""
        moment = time.time() if now is None else now
        with self._lock:
            told = sorted(self._told.items())
        return tuple(name for name, (when, elsewhere) in told if not elsewhere and moment - when < DAY)

    def _forget(self, now: float) -> None:
        gone = [n.fingerprint for n in self._notices.values() if now - n.arrived > (DAY if n.ended else UNHEARD)]
        for fingerprint in gone:
            del self._notices[fingerprint]
        while len(self._notices) > LIMIT:  # what ended goes first, the oldest of it
            over = next((n for n in self._notices.values() if n.ended), next(iter(self._notices.values())))
            del self._notices[over.fingerprint]

    def _notice(self, row: Mapping[str, Any], receiver: str, now: float) -> Notice:
        labels = self._texts(row.get("labels"), FIRST, VALUE)
        notes = self._texts(row.get("annotations"), NOTES, TEXT)
        resolved = row["status"] == "resolved"
        since = min(_moment(row.get("startsAt")) or now, now)
        return Notice(
            fingerprint=self._text(row.get("fingerprint"), NAME) or f"{hash(tuple(sorted(labels.items())))}",
            name=labels.get("alertname", "an alert without a name"),
            state="resolved" if resolved else "firing",
            severity=labels.get("severity", ""),
            receiver=self._text(receiver, NAME),
            labels=labels,
            annotations={key: notes[key] for key in NOTES if notes.get(key)},
            since=since,
            ended=min(_moment(row.get("endsAt")) or now, now) if resolved else None,
            arrived=now,
        )

    def _texts(self, found: object, first: Iterable[str], limit: int) -> dict[str, str]:
        if not isinstance(found, dict):
            return {}
        names = list(dict.fromkeys([*(name for name in first if name in found), *found]))[:LABELS]
        rows = ((name, found[name]) for name in names)
        return {self._text(name, NAME): self._text(text, limit) for name, text in rows if isinstance(text, str)}

    def _text(self, found: object, limit: int) -> str:
        """Redacted before it is cut: half a secret is known to no redactor."""
        return self._redact(found)[:limit] if isinstance(found, str) else ""


def _delivery(body: bytes) -> tuple[str, list[dict[str, Any]]]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"this is no JSON ({type(error).__name__}); send what Alertmanager's webhook sends") from None
    if not isinstance(data, dict) or data.get("version") != "4" or not isinstance(data.get("alerts"), list):
        raise Unreadable(
            'expected an object with "version": "4" and a list "alerts", as Alertmanager\'s webhook sends it'
        )
    rows = cast("list[object]", data["alerts"])[:AT_ONCE]
    known = [row for row in rows if isinstance(row, dict) and row.get("status") in ("firing", "resolved")]
    if len(known) != len(rows):
        raise Unreadable('each of "alerts" is an object whose "status" is firing or resolved')
    receiver = data.get("receiver")
    return receiver if isinstance(receiver, str) else "", known


def _moment(text: object) -> float | None:
    """RFC 3339 as Go writes it, with up to nine digits of a second; None for what is none, and for Go's zero time."""
    try:
        moment = datetime.fromisoformat(text if isinstance(text, str) else "").timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return moment if math.isfinite(moment) and moment > 0 else None
