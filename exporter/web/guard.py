"""Who is let in, and what may a browser do with our answers? The outermost layer: every request passes here first.

`/-/healthy` and `/-/ready` ask for no login: they say one word, and what probes them (Kubernetes, a load balancer) has
none. They do ask for a client certificate where TLS does.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.config import Web
from exporter.web import replies
from exporter.web.access import Access
from exporter.web.hosts import Hosts
from exporter.web.passwords import Passwords, TooManyGuesses

BODY_LIMIT = 64 * 1024  # no request of ours has a body at all, but a delivery to the inbox
INBOX, INBOX_LIMIT = "api/v1/inbox", 1024 * 1024
OPEN = ("-/healthy", "-/ready")
SHIELD = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    # Not `no-referrer`: then a form's POST carries `Origin: null`, and nobody could tell it from a stranger's.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), text.encode()) for name, text in headers.items()]


PLAIN_SHIELD = _encoded(SHIELD)


class Guard:
    """Host, login, size and origin of every request, and the headers of every answer."""

    def __init__(self, app: ASGIApp, web: Web, prefix: str, access: Access | None = None) -> None:
        self._app, self._access = app, access
        self._hosts = Hosts(web)
        self._external = _origin(web.external_url)
        self._open = frozenset(prefix + path for path in OPEN)
        self._inbox = prefix + INBOX if web.enable_inbox else None
        self._passwords = Passwords()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        refusal = self._misdirected(scope, headers) or self._forged(scope, headers) or self._too_large(scope, headers)
        if refusal is None and self._access is not None:
            refusal = await self._unknown(self._access, scope, headers)
        shield = self._shield()

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *shield]
            await send(message)

        await (refusal or self._app)(scope, receive, shielded)

    def _shield(self) -> list[tuple[bytes, bytes]]:
        """Our headers for every answer, and over them those of the web config."""
        if self._access is None:
            return PLAIN_SHIELD
        own = {name.lower(): text for name, text in self._access.rules.http_server_config.headers.items()}
        return _encoded(SHIELD | own)

    def _misdirected(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        host = headers.get(b"host", b"")
        if sum(name == b"host" for name, _ in scope["headers"]) != 1:
            return replies.error(400, "send exactly one Host header")
        if self._hosts.allow(host):
            return None
        name = host.decode("latin-1")
        hint = "if it should, add its name to web.allowed_hosts in the config, or set web.external_url"
        return replies.error(421, f"this exporter does not answer for {name!r}; {hint}")

    def _forged(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        """A page from elsewhere can make its reader's browser POST here. Whatever is no browser sends neither header."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        site, origin = headers.get(b"sec-fetch-site", b"same-origin"), headers.get(b"origin")
        host = headers[b"host"].decode("latin-1").lower()
        ours = {f"http://{host}", f"https://{host}", self._external}
        if site in (b"same-origin", b"none") and (origin is None or origin.decode("latin-1").lower() in ours):
            return None
        return replies.error(403, "this request comes from another site; use the exporter's own page, or curl")

    def _too_large(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        takes = scope["path"] == self._inbox
        length = headers.get(b"content-length", b"0")
        fits = length.isdigit() and len(length) < 10 and int(length) <= (INBOX_LIMIT if takes else BODY_LIMIT)
        if fits and b"transfer-encoding" not in headers:
            return None
        hint = "send at most 1 MiB, with its Content-Length" if takes else "no request here has a body; send none"
        return replies.error(413, hint, {"connection": "close"})

    async def _unknown(self, access: Access, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        users = access.rules.basic_auth_users
        if not users or scope["path"] in self._open:
            return None
        try:
            if await self._passwords.right(users, headers.get(b"authorization", b"")):
                return None
        except TooManyGuesses:
            return replies.error(503, "too many logins are being checked; try again in a second", {"retry-after": "1"})
        hint = "log in as one of basic_auth_users in the file of --web.config.file"
        return replies.error(401, hint, {"www-authenticate": 'Basic realm="gpu-canary", charset="UTF-8"'})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.netloc else ""
