"""What is asked of a server, and what came back?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

HttpError = Literal[
    "resolve", "refused", "unreachable", "tls", "timeout", "reset", "protocol", "too_large", "redirects"
]


@dataclass(frozen=True, slots=True)
class Request:
    """One request on a new connection. Times in seconds; `limit` in bytes of the body after decompression."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout: float = 10.0
    limit: int = 1024 * 1024
    follow_redirects: int = 0
    verify: bool = True
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds spent in each phase of the last hop; 0 where there was none."""

    resolve: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    processing: float = 0.0
    transfer: float = 0.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of the chain the server sent, leaf first. Times are Unix seconds."""

    subject: str
    issuer: str
    not_before: float
    not_after: float
    fingerprint_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What the server did. `status` 0 means no answer, and `error` says why; `verified` None means no TLS."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case, the last of equal names
    body: bytes = b""
    seconds: float = 0.0
    phases: Phases = Phases()
    version: str = ""
    url: str = ""  # after redirects
    redirects: int = 0
    certificates: tuple[Certificate, ...] = ()
    verified: bool | None = None
    error: HttpError | None = None
    detail: str = ""
