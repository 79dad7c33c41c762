"""Is that the URL of a server, and is the server on this machine?"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit


def served_at(url: str) -> SplitResult | None:
    """The parts of a URL with http or https and a host; None for anything else."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if known else None


def is_loopback(host: str) -> bool:
    """Does that name or address lead back to this machine, without asking anybody?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
