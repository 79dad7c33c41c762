"""Does a breach become a page, by the right route, with all that a person needs, and is it taken back?"""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.nvml import GPU_IS_LOST, UUIDS
from tests.stack.conftest import Start
from tests.stack.servers import until

pytestmark = [pytest.mark.prometheus, pytest.mark.nvml, pytest.mark.timeout(300)]


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


def test_vram_over_its_first_bound_becomes_a_ticket(start: Start) -> None:
    stack = start()
    stack.fill(0.92)
    ticket = stack.arrived("GpuCanaryVramNearLimit")
    assert (ticket["receiver"], ticket["labels"]["severity"]) == ("ticket", "warning")
    assert not any(payload["receiver"] == "page" for _, payload in stack.pages.payloads)


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


PROGRAM = """
  - probe: command
    name: generation
    every: 1s
    timeout: 900ms
    params: {{device: cpu, command: [sh, -c, "sleep $(cat {pace})"]}}
"""


def test_a_program_that_became_slow_is_a_ticket_that_says_by_how_much_until_it_is_as_it_was(
    start: Start, tmp_path: Path
) -> None:
    pace = tmp_path / "pace"
    pace.write_text("0.15")
    stack = start(more=PROGRAM.format(pace=pace))
    full = 'gpucanary_verdict_info{check="generation", metric="wall_seconds", verdict="ok"} == 1'
    until(lambda: stack.prometheus.query(full), "a baseline is full", 60)
    assert "GpuCanaryRegression" not in stack.prometheus.firing()
    pace.write_text("0.5")
    ticket = stack.arrived("GpuCanaryRegression")
    assert (ticket["receiver"], ticket["labels"]["severity"], ticket["labels"]["check"]) == (
        "ticket",
        "warning",
        "generation",
    )
    said = ticket["annotations"]
    assert re.search(r"wall_seconds.* is [1-4]\d\d(\.\d+)?% off its median", said["description"]), said["description"]
    assert "`gpu-canary" in said["remedy"]
    pace.write_text("0.15")
    until(lambda: "GpuCanaryRegression" not in stack.prometheus.firing(), "it is as it was", 90)
