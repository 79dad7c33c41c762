"""What does Prometheus get? The ready bytes of the exposition, before any routing."""

from __future__ import annotations

import re

from starlette.types import Receive, Scope, Send

from exporter.web import replies
from exporter.web.service import Service

CONTENT_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
VARY = (b"vary", b"accept-encoding")
GZIP = (b"content-encoding", b"gzip")
# A coding is refused by a weight of zero: https://www.rfc-editor.org/rfc/rfc9110#name-accept-encoding
REFUSED = re.compile(rb"(?:gzip|\*)\s*;\s*q=0(?:\.0*)?\s*(?:,|$)")


class Scrape:
    """GET and HEAD of /metrics as a bare ASGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            refusal = replies.error(405, "/metrics is read with GET", {"allow": "GET, HEAD"})
            await refusal(scope, receive, send)
            return
        compressed = accepts_gzip(scope["headers"])
        body = self._service.metrics(compressed)
        headers = [CONTENT_TYPE, VARY, (b"content-length", b"%d" % len(body))]
        if compressed:
            headers.append(GZIP)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def accepts_gzip(headers: list[tuple[bytes, bytes]]) -> bool:
    """Did the client ask for gzip, and not with a weight of zero?"""
    for name, value in headers:
        if name == b"accept-encoding" and b"gzip" in (value := value.lower()):
            return REFUSED.search(value) is None
    return False
