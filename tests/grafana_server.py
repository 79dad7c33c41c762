"""What does a Grafana answer? A stateful stand-in for the parts of its API that a push uses, over real HTTP.

https://grafana.com/docs/grafana/latest/developers/http_api/ (dashboard, folder); grafana-client asks for
/api/frontend/settings first, which needs the token.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TOKEN = "glsa_hushhushhushhushhushhushhushhush_0a1b2c3d"
Json = dict[str, Any]
Answer = tuple[int, Json]


@dataclass
class Stored:
    dashboard: Json
    folder: str
    provisioned: bool = False
    messages: list[str] = field(default_factory=list)


@dataclass
class FakeGrafana:
    """Its state, and what it was asked. `instead` takes the place of an answer: (method, path) to what is sent."""

    url: str = ""
    prefix: str = ""
    folders: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    role: str = "Editor"
    instead: Callable[[http.server.BaseHTTPRequestHandler], bool] = lambda handler: False

    @property
    def written(self) -> list[str]:
        return [path for method, path in self.asked if method != "GET"]

    def answer(self, method: str, path: str, token: str, body: Json) -> Answer:
        if token != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key", "messageId": "api-key.invalid", "statusCode": 401}
        if method == "POST" and self.role != "Editor":
            return 403, {"message": "You'll need additional permissions to perform this action"}
        match method, path.split("/")[2:]:
            case "GET", ["frontend", "settings"]:
                return 200, {"buildInfo": {"version": "13.2.3", "commit": "0", "env": "production"}, "defaults": {}}
            case "GET", ["folders", uid]:
                return self._folder(uid)
            case "POST", ["folders"]:
                return self._make_folder(body)
            case "GET", ["dashboards", "uid", uid]:
                return self._dashboard(uid)
            case "POST", ["dashboards", "db"]:
                return self._save(body)
        return 404, {"message": "Not found"}

    def _folder(self, uid: str) -> Answer:
        if uid not in self.folders:
            return 404, {"message": "folder not found", "status": "not-found"}
        return 200, {"id": 1, "uid": uid, "title": self.folders[uid]}

    def _make_folder(self, body: Json) -> Answer:
        if body["uid"] in self.folders:
            return 412, {"message": "the folder has been changed by someone else", "status": "version-mismatch"}
        self.folders[body["uid"]] = body["title"]
        return self._folder(body["uid"])

    def _dashboard(self, uid: str) -> Answer:
        if uid not in self.stored:
            return 404, {"message": "Dashboard not found"}
        kept = self.stored[uid]
        meta = {"folderUid": kept.folder, "provisioned": kept.provisioned, "version": kept.dashboard["version"]}
        return 200, {"meta": meta, "dashboard": kept.dashboard}

    def _save(self, body: Json) -> Answer:
        sent, folder = dict(body["dashboard"]), body.get("folderUid", "")
        if not sent.get("title"):
            return 400, {"message": "Dashboard title cannot be empty", "status": "empty-name"}
        if sent.get("id") and all(kept.dashboard["id"] != sent["id"] for kept in self.stored.values()):
            return 404, {"message": "Dashboard not found", "status": "not-found"}
        if folder and folder not in self.folders:
            return 400, {"message": "folder not found", "status": "not-found"}
        kept = self.stored.get(sent["uid"])
        if kept is not None and kept.provisioned:
            return 400, {"message": "Cannot save provisioned dashboard"}
        version = kept.dashboard["version"] if kept else 0
        if kept is not None and not body.get("overwrite") and sent.get("version") != version:
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        number = kept.dashboard["id"] if kept else len(self.stored) + 1
        fresh = self.stored[sent["uid"]] = Stored({**sent, "id": number, "version": version + 1}, folder)
        fresh.messages = [*(kept.messages if kept else []), body.get("message", "")]
        return 200, {"uid": sent["uid"], "id": number, "status": "success", "version": version + 1}


@contextmanager
def grafana(prefix: str = "", context: ssl.SSLContext | None = None) -> Iterator[FakeGrafana]:
    """One on a free port, below `prefix`; `context` makes it a TLS server."""
    fake = FakeGrafana(prefix=prefix)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Json) -> None:
            path = self.path.removeprefix(fake.prefix)
            fake.asked.append((self.command, path))
            if fake.instead(self):
                return
            known = self.path.startswith(f"{fake.prefix}/api/")
            token = self.headers.get("Authorization", "")
            status, answer = fake.answer(self.command, path, token, body) if known else (404, {"message": "Not found"})
            send(self, status, json.dumps(answer).encode())

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # a client that does not trust us hangs up
                super().handle()

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    fake.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}{prefix}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def send(
    handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json", **more: str
) -> bool:
    """One whole answer."""
    handler.send_response(status)
    for name, text in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
        handler.send_header(name, text)
    handler.end_headers()
    handler.wfile.write(body)
    return True
