"""What do dashboards look at in tests? The demo's hosts as a child process, scraped by a real Prometheus."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from exporter.shipped import ALERTS
from tests.process import ROOT, free_port
from tests.stack.servers import Asked, alertmanager, host, prometheus, until

INBOX = "http://exporter:19835/api/v1/inbox"  # where the default file sends what nobody else takes
RULES = tuple(
    ALERTS / f"{name}.yml" for name in ("gpucanary", "environment", "hardware", "benchmarks", "services", "peers")
)


@contextmanager
def demo(folder: Path, *flags: str) -> Iterator[list[dict[str, Any]]]:
    """`gpu-canary demo`; yields what its /sd says: targets and labels, one entry a host."""
    port = free_port()
    command = [sys.executable, "-m", "exporter", "demo", f"--web.listen-address=127.0.0.1:{port}", *flags]
    with (folder / "demo.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    found: list[dict[str, Any]] = []

    def answers() -> bool:
        assert process.poll() is None, (folder / "demo.log").read_text()
        with urlopen(f"http://127.0.0.1:{port}/sd", timeout=5) as response:
            found[:] = json.load(response)
        return bool(found)

    try:
        until(answers, "the demo answers")
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


@contextmanager
def watched(folder: Path, *flags: str, interval: str = "1s") -> Iterator[Asked]:
    """The demo, scraped as its service discovery says, under our rules, with Alertmanager and its inbox behind it."""
    with demo(folder, *flags) as hosts:
        inbox = f"http://{hosts[0]['targets'][0]}/api/v1/inbox"
        text = (ALERTS / "alertmanager.yml").read_text().replace(INBOX, inbox)
        with alertmanager(folder, text) as manager:
            scrape = [
                {"job_name": "gpu-canary", "static_configs": hosts},
                {"job_name": "alertmanager", "static_configs": [{"targets": [host(manager)]}]},
            ]
            with prometheus(
                folder, managers=[host(manager)], rules=RULES, interval=interval, scrape_configs=scrape
            ) as server:
                yield server
