"""At which address do we listen, and who sits there already?"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from exporter.web.hosts import AUTHORITY

PROC = Path("/proc")
LISTEN = "0A"  # the state in /proc/net/tcp: https://www.kernel.org/doc/Documentation/networking/proc_net_tcp.txt
BACKLOG = 128
ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Unreachable(Exception):
    """We cannot listen there; the message says why and what to type."""


def listen(address: str, owner: Callable[[int], str] | None = None) -> list[socket.socket]:
    """Sockets that listen at `HOST:PORT`, one for each address of the host; `:PORT` is every address, IPv6 too.

    `owner(port)` names the process that holds a busy port; without it /proc is asked.
    """
    match = AUTHORITY.fullmatch(address)
    host, port = (match[1] or match[2] or "", int(address.rpartition(":")[2])) if match else ("", 0)
    opened: list[socket.socket] = []
    failures: list[OSError] = []
    try:
        places = _places(host, port)
    except OSError as error:
        places, failures = [], [error]
    for family, place in places:
        try:
            opened.append(_open(family, (place[0], port or _port(opened), *place[2:])))
        except OSError as error:
            failures.append(error)
    # `localhost` is two addresses, and a machine without IPv6 has one of them.
    if opened and all(error.errno in ABSENT for error in failures):
        return opened
    for listener in opened:
        listener.close()
    raise Unreachable(_explained(failures[0], address, port, owner or owner_of))


def _places(host: str, port: int) -> list[tuple[int, tuple[str, int, *tuple[int, ...]]]]:
    """The families and addresses of a host; the wildcard is one socket for both families where there are two."""
    if not host:
        return [(socket.AF_INET6, ("::", port)) if socket.has_dualstack_ipv6() else (socket.AF_INET, ("", port))]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))  # type: ignore[misc]


def _open(family: int, place: tuple[str, int, *tuple[int, ...]]) -> socket.socket:
    # asyncio switches Nagle's delay off only where the protocol is named: without it a scrape waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, place[0] != "::")
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _port(opened: list[socket.socket]) -> int:
    """The port that was chosen for the first address, so that the others get the same."""
    return int(opened[0].getsockname()[1]) if opened else 0


def _explained(error: OSError, address: str, port: int, owner: Callable[[int], str]) -> str:
    if error.errno == errno.EADDRINUSE:
        who = owner(port)
        held = f"{address} is in use by {who}" if who else f"{address} is in use"
        look = "stop it" if who else f"`ss -ltnp 'sport = :{port}'` names its owner; stop it"
        other = address.removesuffix(str(port)) + str(port + 1 if port < 65535 else 1024)
        return f"{held}; {look}, or listen elsewhere, like --web.listen-address={other}"
    if error.errno == errno.EACCES:
        return f"{address}: ports below 1024 need root; choose a higher one with --web.listen-address"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{address} is no address of this machine; `ip -br address` lists them. :{port} listens on all"
    return f"{address}: {error.strerror or error}; choose another with --web.listen-address"


def owner_of(port: int) -> str:
    """`name (pid 123)` of the process that listens on a TCP port; "" when the system does not say."""
    with suppress(OSError):
        sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
        for folder in PROC.iterdir() if sockets else ():
            with suppress(OSError):  # another user's process, or one that ended
                if folder.name.isdigit() and any(os.readlink(fd) in sockets for fd in (folder / "fd").iterdir()):
                    return f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"
    return ""


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == LISTEN and int(local.rpartition(":")[2], 16) == port:
                    found.add(rest[5])
    return found
