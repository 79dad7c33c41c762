"""How much memory and CPU does the exporter take at rest, and how soon does it say something?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.performance.daemons import exporter, get, http_checks, nginx
from tests.performance.probing import Row
from tests.torch_side import CALM

# Two of torch, one of the disk, and a program that takes 200 MiB and prints twenty.
BENCHMARKS = f"""
interpreters: {{torch: {CALM}}}
checks:
  - {{probe: matmul, every: 30s, timeout: 25s, interpreter: torch, params: {{device: cpu, size: 256, seconds: 1s}}}}
  - {{probe: llm_decode, every: 30s, timeout: 25s, interpreter: torch, params: {{device: cpu, seconds: 1s}}}}
  - {{probe: disk_io, every: 30s, timeout: 25s, params: {{path: FOLDER, size: 64MiB}}}}
  - probe: command
    every: 30s
    timeout: 25s
    params: {{command: [{sys.executable}, -c, "held = bytes(200 << 20); print('x' * (20 << 20)); import time; time.sleep(1)"]}}
"""


def default_config(folder: Path, seconds: float) -> Iterator[Row]:
    """Without a config: what it finds here, hardware sampled every 5 s."""
    with exporter(folder, None) as (daemon, port):
        first = _first_value(port, daemon.begun)
        yield "start to first value", f"{first:.2f} s", first / 3, "<= 1 of 3 s"
        time.sleep(30)  # the benchmarks at the start are not what steady state means
        share = daemon.share(seconds)
        yield "CPU, default config", f"{share:.2f} % of a core", share / 1.0, "<= 1 of 1 %"
        yield "RSS, default config", f"{daemon.rss():.1f} MiB", daemon.rss() / 60, "<= 1 of 60 MiB"


def fifty_checks(folder: Path, seconds: float) -> Iterator[Row]:
    """Fifty HTTP checks every 15 s."""
    with nginx(folder) as (plain, _), exporter(folder, http_checks(f"http://127.0.0.1:{plain}/", 50)) as (daemon, _):
        time.sleep(15)
        share = daemon.share(seconds)
        yield "CPU, 50 checks every 15 s", f"{share:.2f} % of a core", share / 1.0, "<= 1 of 1 %"
        yield "RSS, 50 checks", f"{daemon.rss():.1f} MiB", daemon.rss() / 60, "<= 1 of 60 MiB"


def benchmarks(folder: Path, seconds: float) -> Iterator[Row]:
    """Four benchmarks every 30 s, one after the other: their children are not us."""
    with exporter(folder, BENCHMARKS.replace("FOLDER", str(folder))) as (daemon, _):
        time.sleep(max(seconds, 35))
        yield "RSS, benchmarks running", f"{daemon.rss():.1f} MiB", daemon.rss() / 60, "<= 1 of 60 MiB"


def _first_value(port: int, begun: float) -> float:
    """Seconds from the start of the process to a scrape that holds a measured value."""
    while time.monotonic() - begun < 30:
        text = get(port, "/metrics")[1].decode()
        if "gpucanary_disk_free_bytes{" in text:
            return time.monotonic() - begun
        time.sleep(0.02)
    raise TimeoutError("no value after 30 s")
