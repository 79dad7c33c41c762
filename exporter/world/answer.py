"""What has arrived of an answer, where was it stuck, and how is that said to people? Pure; knows no libcurl."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from probes.world.http import HttpError, Phases, Request

PHASES = ("resolve", "connect", "tls", "processing", "transfer")
MESSAGE_LIMIT = 300


class Answer:
    """Headers and body as they arrive, at most `limit` bytes of body."""

    def __init__(self, limit: int) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self._limit = limit
        self._in_head = False

    def header(self, line: bytes) -> None:
        """One line of a head. Each status line starts anew (100, 103, then the answer); trailers are left out."""
        if line.startswith(b"HTTP/"):
            self.headers.clear()
            self._in_head = True
        elif not line.strip():
            self._in_head = False
        elif self._in_head:
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def write(self, piece: bytes) -> int:
        """One decompressed piece of the body; how much of it was taken. Less than all of it ends the transfer."""
        taken = piece[: self._limit - len(self.body)]
        self.body += taken
        return len(taken)


def phases(marks: Sequence[float], total: float) -> tuple[Phases, str]:
    """Cumulative seconds (resolved, connected, shaken hands, first byte; 0: not reached) as Phases, and the last phase."""
    reached = max((n for n, mark in enumerate(marks, start=1) if mark > 0), default=0)
    spent, before = dict.fromkeys(PHASES, 0.0), 0.0
    for phase, mark in zip(PHASES, marks[:reached], strict=False):
        spent[phase] = max(0.0, mark - before)
        before = max(before, mark)
    last = PHASES[reached]
    spent[last] = max(0.0, total - before)
    return Phases(**spent), last


def explain(error: HttpError, request: Request, last: str, errno: int, message: str) -> str:
    """A sentence for people: what was seen, and where that helps, what to try."""
    url = urlsplit(request.url)
    seen = "".join(c if c.isprintable() else "?" for c in message)[:MESSAGE_LIMIT]
    sentences: Mapping[HttpError, str] = {
        "resolve": f"the name {url.hostname} does not resolve; `getent hosts {url.hostname}` asks the same resolver",
        "refused": f"{url.netloc} refuses connections: nothing listens there",
        "unreachable": f"no way to {url.netloc}: {os.strerror(errno) if errno else seen}",
        "timeout": f"no complete answer within {request.timeout:g} s; the time went to {last}",
        "tls": f"TLS with {url.netloc} failed: {seen.removeprefix('SSL certificate OpenSSL verify result: ')}",
        "reset": f"the answer of {url.netloc} broke off during {last}: {seen}",
        "protocol": f"{url.netloc} does not speak proper HTTP: {seen}",
        "too_large": f"the body is larger than {request.limit} bytes",
    }
    return sentences[error]
