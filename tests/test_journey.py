"""From a config file to a scrape, through good and bad reloads, kill -9, a dying card and hung checks: one real process."""

from __future__ import annotations

import http.server
import json
import shutil
import signal
import socket
import subprocess
import threading
import time

import psutil
import pytest

from tests.nvml import GPU_IS_LOST, UUIDS, Stub, build_stub, compiler
from tests.process import ROOT, Exporter
from tests.scrape import assert_well_formed, value

TORCH = ROOT / ".venv-torch" / "bin" / "python"
CONFIG = """
interpreters: {{stuck: {folder}/stuck-python, torch: "{torch}"}}
checks:
  - {{probe: disk, every: 1s, timeout: 900ms, params: {{path: {folder}}}}}
  - {{probe: http, name: site, every: 1s, timeout: 900ms, params: {{url: "http://127.0.0.1:{site}/"}},
      targets: [{{metric: body_bytes, at_least: 1}}], objective: 0.99}}
  - {{probe: http, name: hung, every: 120s, timeout: 110s, params: {{url: "http://127.0.0.1:{hole}/", timeout: 100s}}}}
  - {{probe: matmul, name: stuck, every: 10m, timeout: 9m, params: {{interpreter: stuck, device: cpu, gpu: "9"}}}}
  - {{probe: gpu, every: 1s, timeout: 900ms}}
  - {{probe: host, every: 1s, timeout: 900ms}}
"""
BENCHMARKS = """
  - {probe: matmul, every: 6h, timeout: 1m, params: {interpreter: torch, device: cpu, size: 64, seconds: 100ms}}
  - {probe: memory_copy, every: 6h, timeout: 1m, params: {interpreter: torch, device: cpu, seconds: 100ms}}
"""


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def hole():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    if compiler() is None:
        pytest.skip("no C compiler for the stub libnvidia-ml")
    return Stub(build_stub(tmp_path_factory.mktemp("nvml")))


@pytest.fixture(scope="module")
def journey(tmp_path_factory, site, hole, stub):
    folder = tmp_path_factory.mktemp("journey")
    python = folder / "stuck-python"
    python.write_text("#!/bin/sh\ntrap '' TERM\nsleep 600 & sleep 600\n")
    python.chmod(0o755)
    (folder / "canary.yml").write_text(config(folder, site, hole))
    exporters = []

    def start(*flags):
        exporters.append(Exporter(folder, f"--config.file={folder / 'canary.yml'}", *flags, env=stub.env()))
        return exporters[-1]

    start.folder = folder
    yield start
    for exporter in exporters:
        exporter.end(signal.SIGKILL)


def config(folder, site, hole, extra=""):
    return (
        CONFIG.format(folder=folder, site=site, hole=hole, torch=TORCH) + (BENCHMARKS if TORCH.exists() else "") + extra
    )


def outcome(found, check, name):
    return value(found, "gpucanary_check_outcome", {"check": check, "outcome": name})


@pytest.mark.nvml
def test_a_journey_from_a_config_file_to_a_scrape_and_back(journey, site, hole, stub):
    first = journey()
    found = first.until(lambda s: outcome(s, "disk", "ok") == 1 and outcome(s, "site", "ok") == 1, 10)
    assert time.monotonic() - first.begun < 10
    first.until(lambda s: value(s, "gpucanary_gpu_temperature_celsius", {"uuid": UUIDS[0]}) == 41)
    if TORCH.exists():
        found = first.until(
            lambda s: value(s, "gpucanary_matmul_flops_per_second") and outcome(s, "memory_copy", "ok") == 1, 90
        )
    first.until(lambda s: {"hung", "stuck"} <= _running(first), 60)
    text = first.text()
    assert_well_formed(text)
    _promtool(text)
    assert value(found, "gpucanary_target_met", {"check": "site"}) == 1
    _a_dying_card(first, stub)
    _reloads(first, journey.folder, site, hole)
    _killed_and_back(first, journey)


def _running(exporter):
    status, body = exporter.get("/api/v1/checks")
    assert status == 200, body
    return {check["name"] for check in json.loads(body)["checks"] if check.get("running")}


def _promtool(text):
    if shutil.which("promtool"):
        lint = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, timeout=30)
        assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")


def _a_dying_card(exporter, stub):
    """A card is lost, then the driver hangs, then all is well again: scrapes never fail and never wait."""
    stub.set({"gpu1.err.nvmlDeviceGetTemperatureV": GPU_IS_LOST, "gpu1.err.nvmlDeviceGetTemperature": GPU_IS_LOST,
              "gpu1.err.nvmlDeviceGetMemoryInfo_v2": GPU_IS_LOST, "gpu1.err.nvmlDeviceGetUtilizationRates": GPU_IS_LOST})  # fmt: skip
    exporter.until(lambda s: value(s, "gpucanary_finding", {"rule": "gpu-lost", "subject": UUIDS[1]}) == 1)
    found = exporter.scrape()
    assert value(found, "gpucanary_gpu_temperature_celsius", {"uuid": UUIDS[0]}) == 41, "the other card lives"
    stub.set({"gpu0.hang.nvmlDeviceGetUtilizationRates": 9})
    exporter.until(lambda s: value(s, "gpucanary_finding", {"rule": "gpu-driver-wedged"}) == 1)
    begun = time.monotonic()
    exporter.scrape()
    assert time.monotonic() - begun < 1
    stub.set({key: None for key in list(stub.values) if ".err." in key or ".hang." in key})
    exporter.until(
        lambda s: (
            outcome(s, "gpu", "ok") == 1 and value(s, "gpucanary_gpu_temperature_celsius", {"uuid": UUIDS[1]}) == 41
        ),
        60,
    )


def _reloads(exporter, folder, site, hole):
    """A bad config changes nothing and says so; a good one touches only what changed."""
    path = folder / "canary.yml"
    path.write_text("checks:\n  - {probe: dsik, every: 1s}\n")
    exporter.signal(signal.SIGHUP)
    found = exporter.until(lambda s: value(s, "gpucanary_config_last_reload_successful") == 0)
    assert outcome(found, "disk", "ok") == 1
    assert "canary.yml:2" in exporter.log()
    runs = value(found, "gpucanary_check_runs_total", {"check": "site", "outcome": "ok"})
    changed = config(folder, site, hole, "  - {probe: platform, name: fresh, every: 1s, timeout: 900ms}\n")
    path.write_text(changed.replace("  - {probe: host, every: 1s, timeout: 900ms}\n", ""))
    exporter.signal(signal.SIGHUP)
    found = exporter.until(lambda s: outcome(s, "fresh", "ok") == 1)
    assert value(found, "gpucanary_config_last_reload_successful") == 1
    assert value(found, "gpucanary_check_runs_total", {"check": "site", "outcome": "ok"}) >= runs, "counters go on"
    assert not [labels for name, labels in found if ("check", "host") in labels], (
        "a removed check takes its series along"
    )
    assert {"hung", "stuck"} <= _running(exporter), "what did not change was not touched"


def _killed_and_back(first, journey):
    """kill -9 loses no benchmark; SIGTERM ends within five seconds and leaves no child, whatever hangs."""
    time.sleep(2.5)  # a batch of history is written once a second
    before = first.scrape()
    orphans = first.children()
    first.end(signal.SIGKILL)
    for process in orphans:  # no real Python: it never ran kit.py, which asks the kernel to die with its parent
        process.kill()
    second = journey()
    found = second.until(lambda s: outcome(s, "fresh", "ok") is not None, 10)
    if TORCH.exists():
        for name in ("gpucanary_matmul_flops_per_second", "gpucanary_memory_copy_bytes_per_second"):
            assert value(found, name) == value(before, name) is not None
        stamp = {"check": "matmul"}
        measured = "gpucanary_check_last_measured_timestamp_seconds"
        assert value(found, measured, stamp) == value(before, measured, stamp), "its age is told"
        assert value(found, "gpucanary_check_runs_total", {"check": "matmul", "outcome": "ok"}) == 0
    children = []

    def both_hang(
        _,
    ):  # "running" is told a moment before the worker is started, and the worker is killed at its timeout
        children[:] = second.children()
        return children and {"hung", "stuck"} <= _running(second)

    second.until(both_hang, 60)
    assert second.end(signal.SIGTERM) < 5
    assert second.process.returncode == 0, second.log()
    assert 'msg="stopping: ' in second.log()
    _, alive = psutil.wait_procs(children, timeout=3)
    for process in alive:
        process.kill()
    assert not alive, f"left behind: {alive}"
