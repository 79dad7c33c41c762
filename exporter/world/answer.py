"""What has arrived of an answer, where was it stuck, and how is that said to people? Pure; knows no libcurl."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from urllib.parse import urlsplit

from probes.world.http import HttpError, Phases, Request

PHASES = ("resolve", "connect", "tls", "processing", "transfer")
MESSAGE_LIMIT = 300


class Body:
    """A body as it arrives, at most `limit` bytes of it."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit

    def write(self, piece: bytes) -> int:
        """One decompressed piece; how much of it was taken. Less than all of it ends the transfer."""
        taken = piece[: self._limit - len(self.data)]
        self.data += taken
        return len(taken)


def head(lines: Sequence[bytes]) -> dict[str, str]:
    """Headers of the last answer in these lines: 100 and 103 come before it, trailers (left out) after it."""
    headers: dict[str, str] = {}
    ended = False
    for line in lines:
        if line.startswith(b"HTTP/"):
            headers, ended = {}, False
        elif not line.strip():
            ended = True
        elif not ended:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
    return headers


def phases(marks: Sequence[float], total: float) -> tuple[Phases, str]:
    """Cumulative seconds (resolved, connected, shaken hands, first byte; 0: not reached) as Phases, and the last phase."""
    reached = len(marks)
    while reached and not marks[reached - 1]:
        reached -= 1
    ends = [*accumulate(marks[:reached], max), total]
    spent = [max(0.0, end - start) for start, end in pairwise([0.0, *ends])]
    return Phases(*spent), PHASES[reached]


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
