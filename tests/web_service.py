"""A Service for tests of the web: the real journal, history and exposition, fed with results made by hand."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exporter import injection, maintenance
from exporter.config import Config, Web
from exporter.exposition import Exposition
from exporter.history import History
from exporter.inbox import Inbox
from exporter.injection import Injection
from exporter.interpreters import Preparation
from exporter.journal import Journal
from exporter.maintenance import Maintenance
from exporter.redaction import Redactor
from exporter.registry import load
from exporter.result import Check, Latest, Result
from exporter.schedule import Running
from exporter.web.access import Access
from exporter.web.application import Application
from exporter.web.listening import listen
from exporter.web.server import Server


class Canary:
    """The exporter without its schedule. Tests set `running_now`, `busy`, `reloading`, `prepared`, `is_ready`."""

    def __init__(self, folder: Path, *checks: Check, redact: Callable[[str], str] | None = None, **web: Any) -> None:
        self.folder = folder
        self.config = Config(web=Web(**{"listen_address": "127.0.0.1:0", **web}), grafana_url="")
        self.started = time.time()
        self.checks: dict[str, Check] = {check.name: check for check in checks}
        self.redact = redact or Redactor()
        self.registry = load()
        self.inbox = Inbox(self.redact) if self.config.web.enable_inbox else None
        self.history = History(folder / "history.sqlite", 30 * 86400.0, 1 << 30)
        self.journal = Journal(self.history)
        self.exposition = Exposition(dict, lambda: b"")
        self.journal.subscribe(lambda latest: self.exposition.update(self.checks[latest.last.check], latest))
        self.running_now: dict[str, Running] = {}
        self.due: dict[str, float] = {}
        self.busy: set[str] = set()
        self.asked: list[str] = []
        self.reloading: Callable[[], list[str]] = list
        self.prepared = Preparation("off")
        self.is_ready = True
        self.machine, self.url = "canary", "http://canary.test"

    def record(self, *results: Result) -> None:
        for result in results:
            self.journal.record(result)

    def close(self) -> None:
        self.exposition.close()
        self.history.close()

    def metrics(self, compressed: bool) -> bytes:
        return self.exposition.gzipped() if compressed else self.exposition.plain()

    def latest(self, check: str) -> Latest | None:
        return self.journal.latest(check)

    def runs(self, check: str, since: float = 0.0, limit: int = 100) -> list[Result]:
        return self.history.runs(check, since, limit)

    def next_runs(self) -> Mapping[str, float]:
        return self.due

    def running(self) -> Mapping[str, Running]:
        return self.running_now

    def run_now(self, check: str) -> bool:
        self.asked.append(check)
        return check not in self.busy

    def subscribe(self, listener: Callable[[Latest], None]) -> Callable[[], None]:
        return self.journal.subscribe(listener)

    def reload(self) -> list[str]:
        return self.reloading()

    def maintenance(self) -> Maintenance | None:
        return maintenance.read(self.folder)

    def injected(self) -> tuple[Injection, ...]:
        return injection.read(self.folder)

    def preparation(self) -> Preparation:
        return self.prepared

    def ready(self) -> bool:
        return self.is_ready


class Site:
    """A server that answers on loopback."""

    def __init__(self, server: Server, application: Application, port: int, tls: ssl.SSLContext | None) -> None:
        self.server, self.application, self.port, self.tls = server, application, port, tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"

    def connection(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.tls)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; `accept_encoding="gzip"` is the header Accept-Encoding."""
        connection = self.connection()
        try:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return Answer(response.status, dict(map(_lower, response.getheaders())), response.read())
        finally:
            connection.close()


def _lower(pair: tuple[str, str]) -> tuple[str, str]:
    return pair[0].lower(), pair[1]


class Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def answering(
    canary: Canary, access: Access | None = None, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1:0"
) -> Iterator[Site]:
    """The real server on a thread, for as long as the block lasts. `tls` is what the client trusts."""
    sockets = listen(address)
    application = Application(canary, access)
    loop = asyncio.new_event_loop()
    server = Server(canary, application, access)

    def run() -> None:
        loop.run_until_complete(server.until_stopped(sockets, lambda: None))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield Site(server, application, sockets[0].getsockname()[1], tls)
    finally:
        loop.call_soon_threadsafe(server.stop)
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"
        canary.close()
