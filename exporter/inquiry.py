"""What does the exporter that runs on this machine answer?"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from exporter.console import Mistake
from exporter.storage import Exporter, noted
from exporter.world.token import Token
from probes.world.http import Request, Response

SECONDS = 5.0
LIMIT = 64 * 1024 * 1024


def running(folders: Iterable[Path]) -> Exporter | None:
    """The first exporter that left a note in one of these folders and still answers."""
    for folder in folders:
        found = noted(folder)
        if found is not None and answers(found.url):
            return found
    return None


def answers(url: str) -> bool:
    """Is that a gpu-canary exporter? One that wants a login or a certificate of ours first counts as one."""
    response = get(url, "/-/healthy")
    return response.body.startswith(b"gpu-canary") or response.status in (401, 403) or response.error == "tls"


def get(url: str, path: str) -> Response:
    """GET of one of the exporter's own pages. `url` may hold user:password@. Mistake on a URL that is none."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    headers = {}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/") + path)
    try:
        request = Request(bare.geturl(), headers=headers, timeout=SECONDS, limit=LIMIT)
    except ValueError as error:
        raise Mistake(f"{bare.geturl()!r}: {error}") from None
    from exporter.world.http import fetch  # libcurl, which `serve` need not load for this

    return fetch(request, Token(SECONDS))


def answer(url: str, path: str) -> object:
    """The JSON of one page. Mistake when what answers is not our exporter, or does not let us in."""
    response = get(url, path)
    if response.status in (401, 403):
        raise Mistake(f"{url} wants a login: give it with --url https://USER:PASSWORD@HOST:PORT")
    if response.error == "tls":
        raise Mistake(f"{url}: {response.detail}; `export SSL_CERT_FILE=CA.pem` names the authority to trust")
    try:
        data = json.loads(response.body)
    except ValueError:
        data = None
    if response.status != 200 or data is None:
        said = response.detail or f"status {response.status}"
        raise Mistake(f"{url}{path} is no answer of a gpu-canary exporter ({said}); give its address with --url")
    return data
