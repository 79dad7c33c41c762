"""What just happened? Server-sent events: one for every result, to a bounded number of pages that are open.

    event: result    data: {"check", "outcome", "started"}     that check has a new result
    event: refetch   data: {}                                  events were dropped, or the checks changed: fetch everything

A page that reads too slowly loses its oldest events and is told to fetch everything; nobody waits for it.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from starlette.types import Receive, Scope, Send

from exporter.result import Latest
from exporter.web import replies
from exporter.web.service import Service

CLIENTS = 32
WAITING = 256  # events a page may be behind
HEARTBEAT = 15.0  # seconds; proxies close what is silent for 60
STALLED = 30.0  # seconds a page may take to accept one batch
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
REFETCH = b"event: refetch\ndata: {}\n\n"


class Client:
    """What waits for one page."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self.gone = False

    def put(self, event: bytes) -> None:
        if len(self._waiting) >= WAITING:
            self._waiting.clear()
            event = REFETCH
        self._waiting.append(event)
        self._news.set()

    def leave(self) -> None:
        self.gone = True
        self._news.set()

    async def take(self) -> bytes:
        """Everything that waits, or a heartbeat when nothing came for long."""
        try:
            await asyncio.wait_for(self._news.wait(), HEARTBEAT)
        except TimeoutError:
            return b": still here\n\n"
        self._news.clear()
        taken = b"".join(self._waiting)
        self._waiting.clear()
        return taken


class Events:
    """The endpoint. It listens to the journal only while a page is open."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._clients: set[Client] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self._clients) >= CLIENTS or self._closed:
            refusal = replies.error(503, f"{CLIENTS} pages are open; close one, or poll", {"retry-after": "60"})
            await refusal(scope, receive, send)
            return
        client = self._enter()
        leaving = asyncio.ensure_future(_until_gone(receive, client))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await _stream(client, send)
        finally:
            leaving.cancel()
            self._leave(client)

    def close(self) -> None:
        """End every stream; for the server's end."""
        self._closed = True
        for client in self._clients:
            client.leave()

    def _enter(self) -> Client:
        client = Client()
        self._clients.add(client)
        if self._unsubscribe is None:
            self._loop = asyncio.get_running_loop()
            self._unsubscribe = self._service.subscribe(self._heard)
        return client

    def _leave(self, client: Client) -> None:
        self._clients.discard(client)
        if not self._clients and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _heard(self, latest: Latest) -> None:
        """Called on the thread that ran the check; it must not wait."""
        last = latest.last
        data = json.dumps({"check": last.check, "outcome": last.outcome, "started": last.started})
        event = f"event: result\ndata: {data}\n\n".encode()
        self._hand_over(event)

    def refetch(self) -> None:
        """Tell every page to fetch everything; from any thread."""
        self._hand_over(REFETCH)

    def _hand_over(self, event: bytes) -> None:
        with suppress(RuntimeError):  # the loop has ended, and its pages with it
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._spread, event)

    def _spread(self, event: bytes) -> None:
        for client in self._clients:
            client.put(event)


async def _stream(client: Client, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"retry: 3000\n\n", "more_body": True})
    try:
        while not client.gone:
            async with asyncio.timeout(HEARTBEAT + STALLED):
                await send({"type": "http.response.body", "body": await client.take(), "more_body": True})
    except TimeoutError:
        return  # it accepts nothing any more; uvicorn closes what was not ended
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, client: Client) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    client.leave()
