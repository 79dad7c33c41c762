"""`make bench`: every figure of DESIGN.md section 10 as a ratio, and how often the verdict is wrong. QUICK=1 shortens it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.performance.daemons import program
from tests.performance.footprint import benchmarks, default_config, fifty_checks
from tests.performance.probing import Row, per_probe, whole_process
from tests.performance.scraping import scrapes
from tests.performance.shifts import table

NEEDED = ("nginx", "prometheus", "prometheus-blackbox-exporter", "openssl")


def main() -> int:
    quick, chosen = bool(os.environ.get("QUICK")), sys.argv[1:]
    if not chosen or "verdict" in chosen:
        print(*table(40 if quick else 200), sep="\n", flush=True)
    if chosen == ["verdict"]:
        return 0
    missing = [name for name in NEEDED if not program(name)]
    if missing:
        print(
            f"missing: {', '.join(missing)}; as root: apt-get install nginx-light prometheus prometheus-blackbox-exporter"
        )
        return 2
    parts: dict[str, Callable[[Path], Iterator[Row]]] = {
        "probe": lambda folder: per_probe(folder, 500 if quick else 3000),
        "scrape": lambda folder: scrapes(folder, 200 if quick else 1000),
        "steady200": lambda folder: whole_process(folder, 200, 15 if quick else 60),
        "steady1000": lambda folder: whole_process(folder, 1000, 15 if quick else 60),
        "fifty": lambda folder: fifty_checks(folder, 15 if quick else 60),
        "benchmarks": lambda folder: benchmarks(folder, 35 if quick else 65),
        "default": lambda folder: default_config(folder, 15 if quick else 60),
    }
    chosen = [name for name in chosen if name != "verdict"] or list(parts)
    print(f"{'what':52} {'figures':58} {'ratio':>6}  budget")
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="gpu-canary-bench-") as folder:
            for what, figures, ratio, budget in parts[name](Path(folder)):
                print(f"{what:52} {figures:58} {ratio:6.2f}  {budget}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
