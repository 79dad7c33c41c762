"""Which servers do tests start? Debian's, as children, on free loopback ports, with storage in the test's folder."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.process import free_port


@contextmanager
def running(folder: Path, name: str, *flags: str, port: int = 0) -> Iterator[str]:
    """A real server on a port of its own, until the end of the block. Yields its URL once it is ready."""
    binary, port = shutil.which(name), port or free_port()
    if binary is None:
        pytest.skip(f"{name} is not installed")
    url = f"http://127.0.0.1:{port}"
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen([binary, f"--web.listen-address=127.0.0.1:{port}", *flags], stdout=log, stderr=log)
    try:
        until(lambda: _ready(url), f"{name} is ready: {folder / name}.log")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _ready(url: str) -> bool:
    with urlopen(f"{url}/-/ready", timeout=1) as response:
        return bool(response.status == 200)


def until(holds: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Ask until it holds; OSError means that it is not up yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except OSError:
            pass  # it is not up yet: what we wait for
        time.sleep(0.1)
    raise AssertionError(f"never in {seconds} s: {what}")


def host(url: str) -> str:
    return url.removeprefix("http://")


@contextmanager
def alertmanager(folder: Path, config: str) -> Iterator[str]:
    """Alertmanager with this config. Start it before Prometheus: a first send that fails is repeated a minute later."""
    (folder / "alertmanager.yml").write_text(config)
    flags = (
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'am'}",
        "--cluster.listen-address=",
    )
    with running(folder, "prometheus-alertmanager", *flags) as url:
        yield url


@dataclass(frozen=True, slots=True)
class Asked:
    """A Prometheus that answers queries."""

    url: str

    def get(self, path: str, **params: str | float) -> Any:
        """`data` of an API answer; urllib.error.HTTPError with the body's text where the query is wrong."""
        with urlopen(f"{self.url}{path}?{urlencode(params)}", timeout=20) as response:
            return json.load(response)["data"]

    def query(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """The vector of an instant query: [{"metric": {...}, "value": [time, text]}]."""
        found = self.get("/api/v1/query", query=expr, **({} if at is None else {"time": at}))
        return list(found["result"]) if found["resultType"] != "scalar" else [{"metric": {}, "value": found["result"]}]

    def range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The matrix of a range query: [{"metric": {...}, "values": [[time, text], ...]}]."""
        return list(self.get("/api/v1/query_range", query=expr, start=start, end=end, step=step)["result"])

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {a["labels"]["alertname"] for a in self.get("/api/v1/alerts")["alerts"] if a["state"] == "firing"}


@contextmanager
def prometheus(
    folder: Path,
    targets: Sequence[str] = (),
    managers: Sequence[str] = (),
    rules: Sequence[Path] = (),
    *,
    interval: str = "1s",
    labels: dict[str, str] | None = None,
    flags: Sequence[str] = (),
    **more: Any,
) -> Iterator[Asked]:
    """Prometheus that scrapes itself, and `targets` (HOST:PORT) as job gpu-canary; `more`: further keys of its config."""
    port = free_port()
    itself = {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    static = [{"targets": list(targets), "labels": labels or {}}]
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": "1s", "evaluation_interval": interval},
        "rule_files": [str(rule) for rule in rules],
        "scrape_configs": [{"job_name": "gpu-canary", "static_configs": static}] if targets else [],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(managers)}]}]} if managers else {},
        **more,
    }
    config["scrape_configs"] = [*config["scrape_configs"], itself]
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    own = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}")
    with running(folder, "prometheus", *own, "--rules.alert.resend-delay=1s", *flags, port=port) as url:
        yield Asked(url)


@dataclass
class Webhook:
    """What receives pages: every payload, with the moment it came."""

    port: int
    payloads: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def alerts(self, name: str, status: str = "firing") -> list[dict[str, Any]]:
        """Alerts of this name that arrived, oldest first; each with the `receiver` it came by."""
        return [
            {**alert, "receiver": payload["receiver"]}
            for _, payload in self.payloads
            for alert in payload["alerts"]
            if alert["labels"]["alertname"] == name and alert["status"] == status
        ]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A receiver on a free port."""
    received = Webhook(0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.payloads.append((time.time(), json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
