"""Who answers until a signal says stop? uvicorn on one event loop; it leaves within five seconds, whatever hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import uvicorn

from exporter.config.document import ConfigError
from exporter.web.access import Access
from exporter.web.application import Application
from exporter.web.listening import listen
from exporter.web.service import Service
from exporter.web.wire import Protocol

log = logging.getLogger("gpu_canary.web")

CONNECTIONS = 256
ENDING = 1  # seconds answers in progress may take once we stop
STOPPING = 4.0  # seconds `stop` may take; the caller leaves by os._exit then
LOOK = 1.0  # seconds between two looks at the web config's files
ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name))


def serve(
    service: Service,
    stop: Callable[[], None],
    access: Access | None = None,
    listeners: list[socket.socket] | None = None,
) -> None:
    """Answer until SIGTERM or SIGINT; SIGHUP reloads the config. Blocks the main thread.

    `stop()` ends the service's own work; it runs beside the last answers, for at most four seconds. `listeners` and
    `access` are what `listen(web.listen_address)` and `Access(web.config_file)` give: open them before any check runs, so
    that a busy port (`Unreachable`) or a bad web config (`ConfigError`) is known at once.
    """
    web = service.config.web
    access = access or (Access(web.config_file) if web.config_file else None)
    sockets = listeners or listen(web.listen_address)
    application = Application(service, access)
    server = Server(service, application, access)
    _announce(application, sockets, access)
    stopping = threading.Thread(target=stop, name="stop", daemon=True)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(server.until_stopped(sockets, stopping.start))
    finally:
        if not stopping.ident:
            stopping.start()
        stopping.join(STOPPING)
        # Not asyncio.run: it would wait five minutes for a thread that a dead disk holds.
        loop.close()


class Server(uvicorn.Server):
    """uvicorn that wakes once a second instead of ten times, and ends open event streams when it stops."""

    def __init__(self, service: Service, application: Application, access: Access | None) -> None:
        config = uvicorn.Config(
            application,
            http=Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=75,  # longer than Prometheus's scrape interval: a scrape finds its connection open
            timeout_graceful_shutdown=ENDING,
        )
        config.load()
        config.ssl = access.context if access else None
        super().__init__(config)
        self._service, self._application, self._access = service, application, access
        self._stop = asyncio.Event()

    async def until_stopped(self, sockets: list[socket.socket], begun_to_stop: Callable[[], None]) -> None:
        """Serve; `begun_to_stop` is called once, when the signal came."""
        with self._signals():
            serving = asyncio.ensure_future(self.serve(sockets))
            await asyncio.wait(
                {serving, stop := asyncio.ensure_future(self._stop.wait())}, return_when="FIRST_COMPLETED"
            )
            stop.cancel()
            begun_to_stop()
            self._application.events.close()
            self.should_exit = True
            await serving

    def stop(self) -> None:
        """Begin to end; from the loop's own thread."""
        self.should_exit = True
        self._stop.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `_signals` does it: uvicorn would raise the signal again once it has ended

    async def main_loop(self) -> None:
        looking: asyncio.Future[None] | None = None
        while not await self.on_tick(0):  # it sets the Date header
            if self._access is not None and (looking is None or looking.done()):
                looking = asyncio.get_running_loop().run_in_executor(None, self._access.refresh)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), LOOK)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in ENDS}
        for number in ENDS:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None:
            before[hangup] = signal.signal(hangup, lambda *_: _aside(self._reload))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _reload(self) -> None:
        with suppress(ConfigError):  # the service logged it and says it in a metric; the old config goes on
            self._service.reload()
        self._application.events.refetch()


def _aside(call: Callable[[], None]) -> None:
    threading.Thread(target=call, name="reload", daemon=True).start()


def _announce(application: Application, sockets: list[socket.socket], access: Access | None) -> None:
    """Say where to look."""
    scheme = "https" if access and access.context else "http"
    host, port = sockets[0].getsockname()[:2]
    everywhere = host in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
    name = "localhost" if everywhere else f"[{host}]" if ":" in host else host
    at = f"{scheme}://{name}:{port}{application.prefix}"
    log.info("status page at %s", at, extra={"metrics": f"{at}metrics"})
    if everywhere and (access is None or not access.rules.basic_auth_users):
        log.warning("everybody who reaches port %d may read this; --web.config.file sets users and TLS", port)
