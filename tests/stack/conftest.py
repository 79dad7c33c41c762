"""What pages in tests? The real exporter over a stub card, our rules, our Alertmanager file and a webhook, all running."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exporter.shipped import ALERTS
from tests.nvml import MIB, UUIDS, Stub, build_stub
from tests.process import Exporter
from tests.scrape import value
from tests.stack.fleet import INBOX, RULES
from tests.stack.servers import Asked, Webhook, alertmanager, host, prometheus, until, webhook

CONFIG = """
grafana_url: http://grafana.example:3000
checks:
  - probe: gpu
    every: {every}
    timeout: {timeout}
    targets:
      - {{metric: memory_used_ratio, at_most: 0.90}}
      - {{metric: memory_used_ratio, at_most: 0.95, severity: critical}}
  - {{probe: platform, every: 1s, timeout: 900ms}}
"""


@dataclass
class Stack:
    """All of it, running."""

    exporter: Exporter
    stub: Stub
    prometheus: Asked
    alertmanager: str
    pages: Webhook

    def fill(self, ratio: float) -> None:
        """So much of the first card's 24 GB is used."""
        self.stub.set({"gpu0.memory_used": int(24564 * MIB * ratio)})

    def arrived(self, name: str, status: str = "firing", seconds: float = 60) -> dict[str, Any]:
        """The first alert of this name that reached the webhook."""
        until(lambda: self.pages.alerts(name, status), f"{name} {status} arrives", seconds)
        return self.pages.alerts(name, status)[0]


def impatient(folder: Path, name: str) -> Path:
    """A rule file of ours whose alerts wait a second at most: what they say is tested here, promtool tests when."""
    text = (ALERTS / name).read_text()
    path = folder / name
    path.write_text(re.sub(r"^(\s+(?:for|keep_firing_for)): .*$", r"\1: 1s", text, flags=re.MULTILINE))
    return path


def hurried(text: str) -> str:
    """Rules, or Alertmanager's file, in which each wait is a twentieth: who waits for whom stays as it is."""

    def shorter(wait: re.Match[str]) -> str:
        seconds = int(wait[2]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[wait[3]]
        return f"{wait[1]}: {seconds * 50}ms"

    return re.sub(
        r"(\bfor|keep_firing_for|group_wait|group_interval|repeat_interval): (\d+)([smhd])$",
        shorter,
        text,
        flags=re.MULTILINE,
    )


Start = Callable[..., Stack]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the stack; `interval` of scrape, evaluation and check; `patient` leaves the rules as they are."""
    with ExitStack() as stack:

        def begin(
            interval: str = "1s", *, patient: bool = False, hurry: bool = False, more: str = "", **labels: str
        ) -> Stack:
            seconds = int(interval.removesuffix("s"))
            config = tmp_path / "canary.yml"
            config.write_text(CONFIG.format(every=interval, timeout=f"{seconds * 1000 - 100}ms") + more)
            stub = Stub(build_stub(tmp_path / "nvml"))
            exporter = Exporter(tmp_path, f"--config.file={config}", env=stub.env())
            stack.callback(exporter.end, signal.SIGKILL)
            pages = stack.enter_context(webhook())
            text = (ALERTS / "alertmanager.yml").read_text().replace(INBOX, pages.url)
            if hurry:
                text = hurried(text)
            elif not patient:
                text = text.replace("group_interval: 1m", "group_interval: 1s")
                text = re.sub("group_wait: (30|90)s", "group_wait: 3s", text)
            manager = stack.enter_context(alertmanager(tmp_path, text))
            rules = RULES if patient else [impatient(tmp_path, path.name) for path in RULES]
            if hurry:
                for path, rule in zip(rules, RULES, strict=True):
                    path.write_text(hurried(rule.read_text()))
            server = stack.enter_context(
                prometheus(
                    tmp_path, [f"127.0.0.1:{exporter.port}"], [host(manager)], rules, interval=interval, labels=labels
                )
            )
            exporter.until(lambda s: value(s, "gpucanary_gpu_memory_used_ratio", {"uuid": UUIDS[0]}) is not None, 40)
            until(lambda: server.query("gpucanary_gpu_memory_used_ratio"), "the first scrape", 40)
            return Stack(exporter, stub, server, manager, pages)

        yield begin
