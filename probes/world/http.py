"""What is asked of a server, and what came back?"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

HttpError = Literal[
    "resolve", "refused", "unreachable", "tls", "timeout", "reset", "protocol", "too_large", "redirects"
]
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
FRAMING = frozenset({"content-length", "transfer-encoding", "upgrade"})  # the door's own: they say where a request ends


@lru_cache(maxsize=1024)
def checked_url(url: str) -> str:
    """The URL as it goes over the wire: ASCII, an international host name in punycode. ValueError says what is wrong."""
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise ValueError("a URL holds no space, control character or backslash; write a space as %20")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("a URL starts with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("a URL holds no user name or password here; send them as an Authorization header")
    if parts.port == 0:
        raise ValueError("port 0 is no port")
    host = parts.hostname or ""
    if ":" in host:
        ipaddress.IPv6Address(host.replace("%25", "%"))
    else:
        wire = host.encode("idna").decode("ascii")
        if not re.fullmatch(r"[a-z0-9_.-]+", wire):
            raise ValueError(f"{host!r} is no host name")
        if wire != host:
            url = parts._replace(netloc=wire + (f":{parts.port}" if parts.port else "")).geturl()
    if not url.isascii():
        raise ValueError("the path and query of a URL are ASCII; percent-encode the rest (%C3%BC for ü)")
    return url


def checked_headers(headers: Mapping[str, str]) -> None:
    """ValueError when a header would not arrive as the one header that was meant."""
    for name, value in headers.items():
        if not TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no header name")
        if name.lower() in FRAMING:
            raise ValueError(f"the header {name} follows from the body; leave it out")
        if not re.fullmatch(r"[\x20-\x7e\t]*", value):
            raise ValueError(f"the value of header {name} is not printable ASCII on one line")


@dataclass(frozen=True, slots=True)
class Request:
    """One request on a new connection. Times in seconds; `limit` in bytes of the body after decompression.

    ValueError on what could not be sent as it was meant.
    """

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", checked_url(self.url))
        checked_headers(self.headers)
        if not TOKEN.fullmatch(self.method) or self.method == "CONNECT":
            raise ValueError(f"{self.method!r} is no method this door sends")
        if self.timeout <= 0 or self.limit < 0:
            raise ValueError("a request takes more than 0 s, and a body no less than 0 bytes")


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds spent in each phase of the last hop; 0 where there was none. What ended early counts where it was stuck."""

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
    """What the server did. `status` 0 means no answer, and `error` says why; `verified` None means no TLS.

    `seconds` covers all hops. A body cut short keeps what arrived.
    """

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
