"""What does the page load besides itself? Three files of our own, cached by their content's hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
TYPES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
FOR_EVER = {"cache-control": "public, max-age=31536000, immutable"}


class Assets:
    """`versions` gives each file the hash under which it may be kept for ever: `static/page.css?v=HASH`."""

    def __init__(self) -> None:
        self._files = {name: (FOLDER / name).read_bytes() for name in TYPES}
        self.versions: Mapping[str, str] = {
            name: hashlib.sha256(content).hexdigest()[:12] for name, content in self._files.items()
        }

    async def serve(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        current = request.query_params.get("v") == self.versions[name]
        return Response(self._files[name], headers=FOR_EVER if current else None, media_type=TYPES[name])
