"""Does the exporter keep its size while benchmarks run? Their child is not us."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.performance.footprint import BENCHMARKS
from tests.process import Exporter
from tests.scrape import Series, value

MIB = 2**20
PROMISED = 100e6  # to users; the budget of DESIGN.md section 10 is 60 MiB, and `make bench` reports it
GROWTH = 8 * MIB  # rows, logs and pasts of four benchmarks


@pytest.mark.torch
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_exporter_keeps_its_size_while_benchmarks_run(tmp_path: Path) -> None:
    config = tmp_path / "canary.yml"
    config.write_text(BENCHMARKS.replace("FOLDER", str(tmp_path)))
    exporter = Exporter(tmp_path, f"--config.file={config}")
    ours, theirs = [], []

    def all_ran(found: Series) -> bool:
        ours.append(_rss(psutil.Process(exporter.process.pid)))
        theirs.append(sum(map(_rss, exporter.children())))
        asked = ({"check": name, "outcome": "ok"} for name in ("matmul", "llm_decode", "disk_io", "command"))
        return all(value(found, "gpucanary_check_outcome", labels) == 1 for labels in asked)

    try:
        exporter.until(all_ran, 90)
    finally:
        exporter.end()
    print(f"{ours[0] / MIB:.1f} MiB, then {max(ours) / MIB:.1f} MiB beside workers of {max(theirs) / MIB:.0f} MiB")
    assert max(theirs) > 150 * MIB, "there was a worker to be seen beside"
    assert max(ours) < min(ours[0] + GROWTH, PROMISED)


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
