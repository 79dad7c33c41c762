"""What did Alertmanager send, and how is it shown? `POST /api/v1/inbox` takes it, `GET` and the status page tell it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from exporter.inbox import Inbox, Notice, Unreadable
from exporter.web import remedy, replies
from exporter.web.aside import Aside
from exporter.web.service import Service
from probes.api import Json

AT_ONCE = 4  # deliveries that may arrive at a time: each may hold a mebibyte
SECONDS = 5.0  # for one to arrive
PLACE = ("instance", "check", "gpu", "rule", "subject")  # labels that say where
SHOWN = 30  # firing and ended alerts each, on the page
OFF = "start the exporter with --web.enable-inbox (web.enable_inbox in the config), and let Alertmanager's webhook POST here"


class Mailbox:
    """The endpoints. `refetch` tells open pages to look again."""

    def __init__(self, service: Service, aside: Aside, refetch: Callable[[], None]) -> None:
        self._service, self._aside, self._refetch = service, aside, refetch
        self._reading, self._parsing = asyncio.Semaphore(AT_ONCE), asyncio.Lock()

    async def tell(self, request: Request) -> Response:
        inbox = self._service.inbox
        if inbox is None:
            return replies.error(403, OFF)
        alerts: list[Json] = [notice.to_dict() for notice in inbox.notices()]
        return replies.data({"now": time.time(), "watchdog": inbox.watchdog(), "alerts": alerts})

    async def take(self, request: Request) -> Response:
        inbox = self._service.inbox
        if inbox is None:
            return replies.error(403, OFF)
        try:
            async with self._reading, asyncio.timeout(SECONDS):
                body = await request.body()
                pager = request.query_params.get("pager") == "configured"
                async with self._parsing:  # a hostile mebibyte becomes thirty in memory
                    taken = await self._aside(_taken, inbox, body, pager)
        except (TimeoutError, ClientDisconnect):
            return replies.error(408, f"send the whole message within {SECONDS:g} s", {"connection": "close"})
        if isinstance(taken, str):
            return replies.error(400, taken)
        self._service.run_now("inbox")  # so that the metrics know it too
        self._refetch()
        return replies.data({"alerts": taken})


def _taken(inbox: Inbox, body: bytes, pager_elsewhere: bool) -> int | str:
    """How many alerts it held, or what was wrong. Raised to the event loop, the error would keep all that was read alive."""
    try:
        return inbox.take(body, pager_elsewhere)
    except Unreadable as refusal:
        return str(refusal)


@dataclass(frozen=True, slots=True)
class Told:
    """An alert as the page shows it."""

    notice: Notice
    summary: str
    place: str
    description: remedy.Step
    steps: tuple[remedy.Step, ...]
    links: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """The inbox as the page shows it: the newest of each kind, how many more there are, and receivers without a pager."""

    firing: tuple[Told, ...]
    ended: tuple[Told, ...]
    more: int
    watchdog: float | None
    unpaged: tuple[str, ...]

    @property
    def serious(self) -> bool:
        """Does an alert fire that is no test of the pager?"""
        return any("injected" not in told.notice.labels for told in self.firing)


def shown(inbox: Inbox | None) -> Shown | None:
    """None where the inbox is not enabled."""
    if inbox is None:
        return None
    notices = inbox.notices()
    firing = [n for n in notices if n.state == "firing"]
    ended = [n for n in notices if n.state == "resolved"]
    more = max(0, len(firing) - SHOWN) + max(0, len(ended) - SHOWN)
    now, over = tuple(map(_told, firing[:SHOWN])), tuple(map(_told, ended[:SHOWN]))
    return Shown(now, over, more, inbox.watchdog(), inbox.unpaged())


def _told(notice: Notice) -> Told:
    notes = notice.annotations
    links = (("runbook", notes.get("runbook_url", "")), ("dashboard", notes.get("dashboard_url", "")))
    return Told(
        notice,
        notes.get("summary") or notice.name,
        ", ".join(notice.labels[key] for key in PLACE if notice.labels.get(key)),
        remedy.pieces(notes.get("description", "")),
        remedy.steps(notes.get("remedy", ""), notice.labels.get("check", "CHECK")),
        tuple((name, url) for name, url in links if is_link(url)),
    )


def is_link(text: str) -> bool:
    """May a page link to that? http and https with a host; nothing that a browser would run."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and text.isprintable() and " " not in text
