"""Does a breach become a page? The real exporter, our rules, our Alertmanager file, a webhook, and a stub card."""

from __future__ import annotations

import http.server
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from exporter.shipped import ALERTS
from tests.nvml import GPU_IS_LOST, LIB_RM_VERSION_MISMATCH, MIB, UUIDS, Stub, build_stub
from tests.process import Exporter, free_port
from tests.scrape import value
from tests.stack.servers import Asked, Webhook, alertmanager, host, prometheus, until, webhook

pytestmark = [pytest.mark.prometheus, pytest.mark.nvml, pytest.mark.timeout(300)]

RULES = tuple(
    ALERTS / f"{name}.yml" for name in ("gpucanary", "environment", "hardware", "benchmarks", "services", "peers")
)
INBOX = "http://exporter:19835/api/v1/inbox"
BUDGET = 15.0  # seconds from breach to page, with 5 s scrape and evaluation (DESIGN.md section 10)
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


@pytest.mark.parametrize("interval", ["5s", "15s"])
def test_vram_over_its_limit_becomes_a_page_with_remedy_and_links(
    start: Start, interval: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`interval`: what the budget is made for, and what deploy/prometheus/prometheus.yml comes with."""
    stack = start(interval, patient=True, tier="server")
    assert "GpuCanaryVramNearLimit" not in stack.prometheus.firing()
    begun = time.time()
    stack.fill(0.97)
    page = stack.arrived("GpuCanaryVramNearLimit")
    took = next(at for at, payload in stack.pages.payloads if payload["receiver"] == "page") - begun
    with capsys.disabled():
        print(f"\nbreach to page: {took:.1f} s with {interval} between checks, scrapes and evaluations")
    assert page["receiver"] == "page"
    labels, said = page["labels"], page["annotations"]
    assert {k: labels[k] for k in ("severity", "scope", "check", "uuid", "job", "tier")} == {
        "severity": "critical",
        "scope": "cause",
        "check": "gpu",
        "uuid": UUIDS[0],
        "job": "gpu-canary",
        "tier": "server",
    }
    assert "97" in said["description"]
    assert "`" in said["remedy"], "a command to type"
    assert said["dashboard_url"].startswith("http://grafana.example:3000/d/gpucanary-hardware?")
    assert f"var-gpu={UUIDS[0]}" in said["dashboard_url"]
    status, runbook = stack.exporter.get(urlsplit(said["runbook_url"]).path)
    assert said["runbook_url"].startswith(f"http://127.0.0.1:{stack.exporter.port}/runbooks/")
    assert (status, "GpuCanaryVramNearLimit" in runbook) == (200, True)


def test_a_page_is_taken_back_when_the_breach_ends(start: Start) -> None:
    stack = start()
    stack.fill(0.97)
    stack.arrived("GpuCanaryVramNearLimit")
    stack.fill(0.30)
    assert stack.arrived("GpuCanaryVramNearLimit", "resolved", 90)["labels"]["uuid"] == UUIDS[0]


def test_a_cause_mutes_what_only_says_that_the_check_is_not_well(start: Start) -> None:
    stack = start()
    stack.stub.set({"gpu1.err.nvmlDeviceGetTemperature": GPU_IS_LOST})
    assert stack.arrived("GpuCanaryGpuMissing")["labels"]["uuid"] == UUIDS[1]
    until(lambda: "GpuCanaryCheckFailing" in stack.prometheus.firing(), "the effect fires too")
    time.sleep(6)
    assert not stack.pages.alerts("GpuCanaryCheckFailing")


def test_an_exporter_that_is_killed_pages_once_and_its_late_checks_stay_quiet(start: Start) -> None:
    stack = start(tier="server")
    stack.exporter.end(signal.SIGKILL)
    page = stack.arrived("GpuCanaryExporterDown")
    assert (page["receiver"], page["labels"]["severity"]) == ("page", "critical")
    assert all(page["annotations"].values()), "no scrape, and still something to read"
    time.sleep(8)
    assert not stack.pages.alerts("GpuCanaryCheckOverdue")


def test_on_a_healthy_host_only_the_watchdog_calls(start: Start) -> None:
    stack = start()
    assert stack.arrived("GpuCanaryWatchdog")["receiver"] == "watchdog"
    time.sleep(5)
    assert {payload["receiver"] for _, payload in stack.pages.payloads} == {"watchdog"}


# -- one page for one cause, from the first second to the last ---------------------------------------------------------

STORY = """
  - {{probe: gpu_driver, every: 1s, timeout: 900ms}}
  - {{probe: http, name: api, every: 1s, timeout: 900ms, objective: 0.99, params: {{url: "http://127.0.0.1:{port}/"}}}}
"""
GONE = {"gpu1.err.nvmlDeviceGetTemperature": GPU_IS_LOST}
BROKEN = dict.fromkeys(("gpu0.err.nvmlDeviceGetTemperature", "err.nvmlInitWithFlags"), LIB_RM_VERSION_MISMATCH)


def web_service(stack: ExitStack, port: int) -> None:
    """Answers 200 to anybody, until the stack is closed."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    stack.callback(thread.join, 5)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.mark.parametrize(
    ("cause", "answers"),
    [("GpuCanaryGpuMissing", GONE), ("GpuCanaryDriverBroken", BROKEN), ("GpuCanaryServiceDown", {})],
)
def test_one_cause_is_one_page_from_its_first_second_to_its_last(
    start: Start, cause: str, answers: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Waits are a twentieth. The outage lasts for 25 s (8 minutes); what follows its end is watched as well."""
    port = free_port()
    with ExitStack() as well:
        web_service(well, port)
        stack = start(hurry=True, more=STORY.format(port=port), tier="server")
        until(lambda: stack.prometheus.query('gpucanary_check_outcome{check="api", outcome="ok"} == 1'), "it is well")
        begun = time.time()
        if not answers:
            well.close()
        stack.stub.set(answers)
        if cause == "GpuCanaryGpuMissing":
            stack.stub.raise_xid(1, 79)
        stack.arrived(cause)
        time.sleep(max(0.0, begun + 25 - time.time()))
        stack.stub.set(dict.fromkeys(answers))
        if not answers:
            web_service(well, port)
        stack.arrived(cause, "resolved", 60)
        time.sleep(8)
    messages = [
        (round(at - begun, 1), sent) for at, sent in stack.pages.payloads if sent["receiver"] in ("page", "ticket")
    ]
    with capsys.disabled():
        for at, sent in messages:
            names = sorted(
                {f"{a['labels']['alertname']}({a['labels']['check']}) {a['status']}" for a in sent["alerts"]}
            )
            print(f"\n{cause}: {at:5} s {sent['receiver']} {sent['status']}: {', '.join(names)}", end="")
    assert {sent["receiver"] for _, sent in messages} == {"page"}
    assert len({sent["groupKey"] for _, sent in messages}) == 1
