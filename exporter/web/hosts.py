"""By which names may we be called? The wall against DNS rebinding.

A page from elsewhere can make its own name point to our address; its browser then takes our answers for the page's own.
But the name stays in the Host header, and it is one that the page's author could get. So these pass:

- addresses: nobody can make `http://192.0.2.1/` point elsewhere;
- `localhost`, names below it, and the names by which a container calls its host;
- the host of `web.listen_address` and of `web.external_url`, and every entry of `web.allowed_hosts`
  (`.example.org` allows all names below example.org);
- and, when we listen beyond loopback, the machine's own names, plus those that no stranger can register: names without a
  dot (a compose service, a machine of this network) and names below .local, .internal and .home.arpa.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from exporter.config import Web

# RFC 6761 and 6762 (localhost, local), RFC 8375 (home.arpa), ICANN's resolution of 2024-07-29 (internal).
ALWAYS = frozenset({"localhost", "host.docker.internal", "gateway.docker.internal", "host.containers.internal"})
PRIVATE = (".local", ".internal", ".home.arpa")
AUTHORITY = re.compile(r"(?:\[([^\]]+)\]|([^\s:/@\[\]]*))(?::[0-9]*)?")


class Hosts:
    """The names that pass, decided once per name: a scrape asks the same one for ever."""

    def __init__(self, web: Web) -> None:
        listen = bare(web.listen_address)
        external = urlsplit(web.external_url).hostname or ""
        allowed = {name.lower().strip().removeprefix("*") for name in web.allowed_hosts}
        self._names = ALWAYS | {listen, external, *allowed} - {""}
        self._endings = (".localhost", *(name for name in allowed if name.startswith(".")))
        self._beyond = not _is_loopback(listen)
        if self._beyond:
            self._names |= {socket.gethostname().lower()}
            self._endings += PRIVATE
        self._known: dict[bytes, bool] = {}

    def allow(self, host: bytes) -> bool:
        """Is this Host header one of ours?"""
        known = self._known.get(host)
        if known is None:
            if len(self._known) > 256:  # a stranger who tries names shall not fill our memory
                self._known.clear()
            known = self._known[host] = self._decide(bare(host.decode("latin-1")))
        return known

    def _decide(self, name: str) -> bool:
        if not name:
            return False
        if name in self._names or _address(name) is not None or name.endswith(self._endings):
            return True
        return self._beyond and "." not in name


def bare(authority: str) -> str:
    """The host of `host:port`, lower case, without brackets and final dot; "" when it is none."""
    match = AUTHORITY.fullmatch(authority)
    return (match[1] or match[2] or "").lower().rstrip(".") if match else ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None


def _is_loopback(listen: str) -> bool:
    address = _address(listen)
    return listen == "localhost" or (address is not None and address.is_loopback)
