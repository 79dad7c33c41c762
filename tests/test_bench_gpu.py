"""Does `make bench-gpu` hold results against what the library really reaches? On the processor; no card was at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from exporter.world.workers import WORKERS
from tests.performance.device import HERE, main, page, row
from tests.test_bench import CONFIG
from tests.torch_side import CALM, TICK, at_our_clock

TINY: dict[str, Any] = {"device": "cpu", "shapes": [[64, 64, 64], [32, 64, 96]], "copies": [65536], "seconds": 0.005}
BEST = {("flops_per_second", "bf16"): 170e12, ("bytes_per_second", ""): 940e9}


def score(value: float = 161.5e12, **fields: Any) -> dict[str, Any]:
    made = {"check": "matmul", "metric": "flops_per_second", "labels": {"dtype": "bf16", "device": "cuda"}}
    values = [0.99 * value, value, 1.02 * value]
    return {**made, "value": value, "values": values, "expected_ratio": 1.06, "spread_ratio": 0.004, **fields}


def test_a_result_is_told_beside_its_ceiling_its_expected_value_and_its_spread() -> None:
    assert row("matmul", score(161.5e12), BEST) == (
        "| matmul | flops_per_second{dtype=bf16,device=cuda} | 162 TFLOP/s | 170 TFLOP/s | 95.0% | 106% | 0.40% "
        "| 160 TFLOP/s to 165 TFLOP/s |"
    )


@pytest.mark.parametrize(
    ("fields", "bold"),
    [
        ({"value": 161.4e12}, "**94.9%**"),
        ({"spread_ratio": 0.01}, "**1.00%**"),
        ({"spread_ratio": 0.0099}, "| 0.99% |"),
    ],
)
def test_what_misses_the_goal_is_bold(fields: dict[str, Any], bold: str) -> None:
    assert bold in row("matmul", score(**fields), BEST)


def test_a_series_without_a_ceiling_is_held_against_none() -> None:
    other = score(1e12, labels={"dtype": "fp8", "device": "cuda"}, expected_ratio=None, spread_ratio=None)
    assert "| 1 TFLOP/s |  |  |  |  |" in row("matmul", other, BEST)
    assert "| 1 TFLOP/s |  |  |" in row("attention", score(1e12), BEST)


def test_the_page_names_the_card_and_what_did_not_run() -> None:
    skipped = {"skip": {"class": "not_applicable", "reason": "no_gpu"}, "outcome": "skipped", "detail": ""}
    failed = {"skip": None, "outcome": "failed", "detail": "killed\nby a signal"}
    entries = [
        {"check": "matmul", "probe": "matmul", "scores": [score(161.5e12)], "results": []},
        {"check": "host_copy", "probe": "host_copy", "scores": [], "results": [skipped]},
        {"check": "attention", "probe": "attention", "scores": [], "results": [failed]},
    ]
    about = {"device_name": "NVIDIA GeForce RTX 4090", "driver": "570.86.15", "torch": "2.9.1+cu128"}
    text = "\n".join(page(entries, BEST, about, 10))
    assert text.startswith("# NVIDIA GeForce RTX 4090, 20")
    assert "10 runs of each. driver 570.86.15, torch 2.9.1+cu128" in text
    assert "| host_copy | not_applicable: no_gpu |" in text
    assert "| attention | failed: killed |" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {9}


@pytest.mark.torch
def test_the_ceiling_is_the_best_of_all_shapes_and_ways_counted_by_hand() -> None:
    worker = os.path.relpath(HERE / "ceiling", WORKERS)
    seen = at_our_clock(worker, **{**TINY, "shapes": [[64, 64, 64], [32, 64, 128], [8, 8, 8]], "copies": [4096, 65537]})
    assert seen == {
        ("flops_per_second", "fp32", "cpu"): 2 * 64 * 64 * 64 / TICK,
        ("bytes_per_second", "cpu"): 2 * 65536 / TICK,  # whole numbers of fp32
    }


@pytest.mark.torch
def test_the_whole_of_it_runs_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "canary.yml").write_text(CONFIG)
    words = ["--device", "cpu", "--repeat", "2", "--config", str(tmp_path / "canary.yml"), "--interpreter", str(CALM)]
    assert main([*words, "--ceiling", json.dumps(TINY), "--pages", str(tmp_path)]) == 0
    (written,) = tmp_path.glob("processor-*.md")
    text = written.read_text()
    assert text.strip() in capsys.readouterr().out
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith(("| matmul", "| memory_copy"))]
    assert [line[1] for line in lines] == ["flops_per_second{dtype=fp32,device=cpu}", "bytes_per_second{device=cpu}"]
    assert all("%" in line[4] for line in lines)


def test_without_a_card_it_says_so_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a card")
    assert main(["--pages", str(tmp_path)]) == 2
    assert "no card here" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
