"""What does every answer look like? JSON with its length, never cached; an error says what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from probes.api import Json

FRESH = {"cache-control": "no-store"}


def data(content: Json | Mapping[str, Json], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON document."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    return Response(body, status, {**FRESH, **(headers or {})}, "application/json")


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """`{"error": message}`; the message says what to do."""
    return data({"error": message}, status, headers)


def word(text: str, status: int = 200) -> Response:
    """One line of plain text."""
    return Response(f"{text}\n", status, FRESH, "text/plain")
