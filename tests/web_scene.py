"""A machine with one card on a day when some things go wrong: what the page's tests and its screenshot show."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter import injection, maintenance
from exporter.interpreters import Preparation
from exporter.judge import judge
from exporter.registry import load
from exporter.result import SEVERITY_OUTCOME, Check, Result, Target, worst
from exporter.schedule import Running
from probes.api import Finding, Measurement, Probe
from tests.deliveries import alert, message
from tests.web_service import Canary

PROBES = load().probes
MOVING = ("_ratio", "_celsius", "_watts", "_seconds", "_per_second", "_used_bytes", "free_bytes", "averages")


def check(
    probe: str, name: str = "", every: float = 60.0, params: dict[str, Any] | None = None, **fields: Any
) -> Check:
    known = PROBES[probe]
    return Check(name or probe, known, known.params(**(params or {})), every, every / 2, **fields)


def example(probe: Probe[Any], number: int = 0) -> tuple[tuple[Measurement, ...], tuple[Finding, ...]]:
    """What the probe's example of that number measures and finds."""
    facts = probe.examples[number].facts
    return (
        tuple(f for f in facts if isinstance(f, Measurement)),
        tuple(f for f in facts if isinstance(f, Finding)),
    )


def run(check: Check, started: float, number: int = 0, swing: float = 0.0, **fields: Any) -> Result:
    """A run that measures what an example does, each value moved by the share `swing`."""
    measured, found = example(check.probe, number)
    moved = tuple(replace(m, value=m.value * (1 + swing)) if m.metric.endswith(MOVING) else m for m in measured)
    outcome = worst("ok", *(SEVERITY_OUTCOME[f.severity] for f in found))
    return judge(
        Result(check.name, check.probe.name, started, fields.pop("duration", 0.034), outcome, moved, found, **fields),
        check.targets,
    )


def swing(step: int) -> float:
    return 0.06 * math.sin(step * 0.55) + 0.03 * math.sin(step * 1.7)


def healthy(canary: Canary, check: Check, runs: int = 30, number: int = 0, until: float = 8.0) -> None:
    now = time.time()
    for step in range(runs):
        when = now - until - (runs - 1 - step) * max(check.every, 61)
        canary.record(run(check, when, number, swing(step), evidence={}))


def scene(folder: Path, **web: Any) -> Canary:
    """Everything the page can show, at once."""
    disk = check("disk", params={"path": "/models", "minimum_free": "50GiB"})
    site = check(
        "http",
        "comfyui",
        every=15,
        params={"url": "http://127.0.0.1:8188/system_stats"},
        targets=(Target("duration_seconds", at_most=0.25),),
    )
    gpu, host = check("gpu", every=5), check("host", every=15)
    matmul = check("matmul", every=21600, objective=0.95)
    copy = check("memory_copy", every=21600)
    log = check("log_tail", every=30, params={"path": "/var/log/comfyui.log"})
    platform, env = check("platform", every=3600), check("dotenv", params={"path": "/srv/app/.env"})
    canary = Canary(folder, disk, site, gpu, host, matmul, copy, log, platform, env, **web)
    now = time.time()
    for one in (host, platform, gpu):
        healthy(canary, one)
    healthy(canary, site, 30, until=14)
    healthy(canary, matmul, 9, until=1900)
    healthy(canary, disk, 22, until=1200)
    for step in range(8):
        canary.record(run(disk, now - 480 + step * 61, 1, swing(step)))
    blind = {"skip": ("blind", "permission"), "detail": "/var/log/comfyui.log belongs to comfyui, we are gpu-canary"}
    canary.record(Result("log_tail", "log_tail", now - 300, 0.002, "skipped", **blind))  # type: ignore[arg-type]
    put_off = {"skip": ("deferred", "gpu_busy"), "detail": "python (pid 4127) uses 98 % of GPU 0"}
    healthy(canary, copy, 6, until=20000)
    canary.record(Result("memory_copy", "memory_copy", now - 240, 0.2, "skipped", **put_off))  # type: ignore[arg-type]
    canary.record(Result("dotenv", "dotenv", now - 60, 0.001, "skipped", skip=("not_applicable", "not_configured")))
    canary.running_now = {"matmul": Running(41.0, 0.42, 56.0)}
    canary.due = {name: now + c.every * 0.6 for name, c in canary.checks.items()}
    canary.prepared = Preparation("preparing", 0.37, "torch 2.13.0, 1.1 of 2.9 GB")
    maintenance.begin(folder, 5400, "new riser cable")
    injection.begin(folder, "disk", "disk-low", "critical", "injected", 540)
    if canary.inbox is not None:
        gone = alert("GpuCanaryServiceDown", "resolved", labels={"check": "comfyui"})
        canary.inbox.take(message(alert(since=now - 480), gone, alert("GpuCanaryWatchdog")))
    return canary


def calm(folder: Path, **web: Any) -> Canary:
    """A machine without a GPU on which all is well."""
    disk, host, platform = check("disk", params={"path": "/"}), check("host", every=15), check("platform", every=3600)
    gpu, matmul = check("gpu", every=5), check("matmul", every=21600)
    canary = Canary(folder, disk, host, platform, gpu, matmul, **web)
    for one in (disk, host, platform):
        healthy(canary, one)
    none = {"skip": ("not_applicable", "no_gpu"), "detail": "no NVIDIA driver and no card on the PCI bus"}
    canary.record(Result("gpu", "gpu", time.time() - 30, 0.001, "skipped", **none))  # type: ignore[arg-type]
    canary.record(Result("matmul", "matmul", time.time() - 30, 0.001, "skipped", **none))  # type: ignore[arg-type]
    canary.due = {name: time.time() + c.every * 0.6 for name, c in canary.checks.items()}
    return canary
