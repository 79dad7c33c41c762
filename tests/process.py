"""The real program as a child process, for tests."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.scrape import Series, series

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Exporter:
    """`gpu-canary serve` in a folder of its own; `log()` is what it wrote to stderr."""

    def __init__(self, folder: Path, *flags: str, env: Mapping[str, str] | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.begun = time.monotonic()
        self._log = folder / f"log-{self.port}"
        where = [f"--web.listen-address=127.0.0.1:{self.port}", f"--storage.path={folder / 'state'}"]
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "exporter", "serve", *where, *flags],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, "TORCH": "0", **(env or {})},
            )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def text(self) -> str:
        status, body = self.get("/metrics")
        assert status == 200, body
        return body

    def scrape(self) -> Series:
        return series(self.text())

    def check(self, name: str) -> dict[str, Any]:
        status, body = self.get(f"/api/v1/checks/{name}")
        assert status == 200, body
        return json.loads(body)

    def until(self, question: Callable[[Series], bool], seconds: float = 20.0) -> Series:
        """Scrape until `question(series)` holds; the AssertionError shows the log."""
        deadline = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, f"it ended: {self.log()}"
            try:
                found = self.scrape()
                if question(found):
                    return found
            except OSError:
                found = {}
            assert time.monotonic() < deadline, f"not in {seconds} s; {len(found)} series; {self.log()[-3000:]}"
            time.sleep(0.05)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait; how many seconds it took."""
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        return time.monotonic() - begun

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
