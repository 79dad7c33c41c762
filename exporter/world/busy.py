"""Does a service say that it works now?

One that is down works for nobody and cannot be disturbed. One whose answer is late or makes no sense may well work: what
is unknown is never idle.
"""

from __future__ import annotations

import json
import re

from exporter.world.token import Token
from probes.api import Blind, Json
from probes.world.http import Request

PATIENCE = 2.0  # seconds
LIMIT = 1024 * 1024


def busy(url: str, json_path: str | None, regex: str | None, token: Token) -> str:
    """In words why nobody may disturb it now; "" when it is idle, or down. Aborted when the token fires."""
    from exporter.world.http import fetch  # libcurl, for those who have somebody to ask

    try:
        response = fetch(Request(url, timeout=PATIENCE, limit=LIMIT), token)
    except Blind as why:
        return f"{url} cannot be asked: {why}"
    if response.error == "refused":  # an address that nobody has ("unreachable") may have somebody tomorrow: unknown
        return ""
    if response.error or response.status != 200:
        said = f"{response.error}: {response.detail}" if response.error else f"status {response.status}"
        return f"{url} does not say whether it is idle ({said})"
    text = response.body.decode("utf-8", "replace")
    if regex is not None:
        found = re.search(regex, text)
        return f"{url} answers {found[0][:80]!r}" if found else ""
    try:
        value = _at(json.loads(text), json_path or "")
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return f"{url} does not say whether it is idle: its answer has no {json_path}"
    return f"{url} says {json_path} = {json.dumps(value)[:80]}" if value else ""


def _at(value: Json, path: str) -> Json:
    for step in re.findall(r"[^.\[\]]+", path):  # an index is `[0]`, as in checks, or a step of its own
        if isinstance(value, list):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value[step]
        else:
            raise TypeError(f"{step} of a plain value")
    return value
