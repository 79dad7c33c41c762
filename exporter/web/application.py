"""Which path leads where? The web as one ASGI application: /metrics first, then everything behind Starlette's routes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from exporter.web import replies
from exporter.web.access import Access
from exporter.web.api import Api
from exporter.web.aside import Aside, Stuck
from exporter.web.assets import Assets
from exporter.web.events import Events
from exporter.web.fleet import Fleet
from exporter.web.guard import INBOX, Guard
from exporter.web.inbox import Mailbox
from exporter.web.pages import Pages
from exporter.web.runbooks import Runbooks
from exporter.web.scrape import Scrape
from exporter.web.service import Service

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class Application:
    """ASGI. `access` holds the rules of the web config, None without one; `events` is closed by whoever ends the server."""

    def __init__(self, service: Service, access: Access | None = None) -> None:
        web = service.config.web
        self.prefix = f"/{web.route_prefix.strip('/')}/".replace("//", "/")
        self.events = Events(service)
        self._scrape, self._path_of_scrape = Scrape(service), f"{self.prefix}metrics"
        self._routed = Starlette(
            routes=routes(service, self.events, tls=access is not None and access.context is not None),
            exception_handlers={HTTPException: _refused, Stuck: _stuck, Exception: _failed},
        )
        self._guarded = Guard(self._within, web, self.prefix, access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guarded(scope, receive, send)

    async def _within(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == self._path_of_scrape:
            await self._scrape(scope, receive, send)
        elif path.startswith(self.prefix):
            scope["root_path"] = self.prefix.rstrip("/")
            await self._routed(scope, receive, send)
        elif f"{path}/" == self.prefix:
            await RedirectResponse(f"{path.rpartition('/')[2]}/")(scope, receive, send)
        else:
            refusal = replies.error(404, f"the exporter's pages are under {self.prefix} (web.route_prefix)")
            await refusal(scope, receive, send)


def routes(service: Service, events: Events, tls: bool) -> list[Route]:
    """Every path but /metrics."""
    aside = Aside()
    assets = Assets()
    api, pages = Api(service, aside, events.refetch), Pages(service, aside, assets)
    mailbox, runbooks = Mailbox(service, aside, events.refetch), Runbooks(service, aside, pages.html)
    read: dict[str, Endpoint] = {
        "/": pages.status,
        "/checks/{name:path}": pages.check,
        "/fragment/status": pages.status_fragment,
        "/fragment/checks/{name:path}": pages.check_fragment,
        "/runbooks": runbooks.all,
        "/runbooks/{name:path}": runbooks.one,
        "/static/{name}": assets.serve,
        "/-/healthy": api.healthy,
        "/-/ready": api.ready,
        "/api/v1/checks": api.checks,
        "/api/v1/checks/{name:path}": api.check,
        "/api/v1/results": api.results,
        f"/{INBOX}": mailbox.tell,
        "/sd": Fleet(service, tls).groups,
    }
    posted: dict[str, Endpoint] = {
        "/-/reload": api.reload,
        "/api/v1/checks/{name:path}/run": api.run,
        f"/{INBOX}": mailbox.take,
    }
    return [
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posted.items()),
        *(Route(path, endpoint, methods=["GET"]) for path, endpoint in read.items()),
        Route("/api/v1/events", events, methods=["GET"]),
    ]


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)  # noqa: S101  # that is what it is registered for
    path = request.url.path
    said = {404: f"there is nothing at {path}; the status page links to all there is"}
    said[405] = f"{request.method} is not for {path}; use {(refusal.headers or {}).get('allow', 'GET')}"
    return replies.error(refusal.status_code, said.get(refusal.status_code, refusal.detail), refusal.headers)


async def _failed(request: Request, fault: Exception) -> Response:
    """Our own fault: uvicorn logs it, and the client learns no more than that."""
    return replies.error(500, "gpu-canary failed to answer; its log tells why")


async def _stuck(request: Request, refusal: Exception) -> Response:
    return replies.error(503, "the disk does not answer in time; /metrics still does. `dmesg | tail` may tell why")
