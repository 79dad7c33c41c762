"""Does the exporter here answer? For a container's health check: exit code 0 or 1, and no shell or curl is needed.

It asks by the standard library alone: what is run every half minute for ever must not load what the exporter loads.
"""

from __future__ import annotations

import argparse
import http.client
import os
import ssl
from urllib.parse import urlsplit

from exporter.console import Console
from exporter.storage import candidates, noted

USUAL = "http://127.0.0.1:19835"  # exporter.config.DEFAULT_PORT, whose import alone costs more than the question
SECONDS = 5.0


def main(args: argparse.Namespace, console: Console) -> int:
    notes = (noted(folder) for folder in candidates(vars(args)["storage.path"], os.environ))
    url = args.url or next((note.url for note in notes if note), USUAL)
    said = _said(url)
    if console.as_json:
        console.json({"exporter": url, "healthy": not said, "detail": said})
    elif said:
        console.trouble(f"{url}: {said}; its log says why, and --url names another place")
    else:
        console.line(f"{url}: healthy")
    return 1 if said else 0


def _said(url: str) -> str:
    """What is wrong with it; "" when it answers. One that wants a login, or a certificate of ours, does."""
    try:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
        connection.request("GET", f"{parts.path.rstrip('/')}/-/healthy")
        response = connection.getresponse()
        body = response.read(100)
    except ssl.SSLError:
        return ""  # a server that shows a certificate of its own, or asks for ours, is up
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    if response.status in (401, 403) or body.startswith(b"gpu-canary"):
        return ""
    return f"status {response.status}, and not from a gpu-canary exporter"
