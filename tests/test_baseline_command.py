"""Does `gpu-canary baseline` tell what is normal, what it was before, and take a new normal? On a real history."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from exporter import accepted
from exporter.accepted import Accepted
from exporter.config import load
from exporter.history import History, recall
from exporter.judge import judge
from exporter.past import Pasts
from exporter.registry import load as registry
from exporter.result import Check, Latest, Result
from probes.api import Measurement
from tests.test_cli import here, written

HOUR = 3600.0
LABELS = (("dtype", "bf16"), ("device", "cuda"))
OLD, NEW = {"driver": "570.86.15"}, {"driver": "575.51.03"}
CONFIG = "checks: [{probe: matmul}, {probe: disk}]"


def ran(check: Check, number: int, value: float, conditions: dict[str, str] = OLD) -> Result:
    started = time.time() - HOUR * (100 - number)
    identity = {"params": check.identity, "uuid": "GPU-1", "revision": "r"}
    measured = (Measurement("flops_per_second", value, LABELS),)
    return Result(check.name, "matmul", started, 9.0, "ok", measured, identity=identity, conditions=conditions)


@pytest.fixture
def check(tmp_path: Path) -> Check:
    written(tmp_path, CONFIG)
    return next(c for c in load(tmp_path / "canary.yml", registry().probes).checks if c.name == "matmul")


def kept(tmp_path: Path, check: Check, results: list[Result]) -> None:
    history = History(tmp_path / "store" / "history.sqlite", 1e9, 2**30)
    history.know({check.name: check.fingerprint})
    for result in results:
        history.append(Latest.first(result))
    history.close()


def asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    place = ["--storage.path", str(tmp_path / "store"), "--config.file", str(tmp_path / "canary.yml")]
    got, out, err = here(capsys, "baseline", *words, *place)
    assert got == code, err
    return out or err


def steady(check: Check, first: int, number: int, value: float, conditions: dict[str, str] = OLD) -> list[Result]:
    return [ran(check, first + n, value * (1 + 0.01 * (n % 3 - 1)), conditions) for n in range(number)]


def test_show_tells_median_spread_and_number_of_comparable_runs(
    tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, check, steady(check, 0, 21, 100e12))
    heads, line = asked(tmp_path, capsys, "show").splitlines()
    assert heads.split() == ["CHECK", "SERIES", "MEDIAN", "SPREAD", "RUNS", "NEWEST"]
    assert line.split("  ")[0] == "matmul"
    assert "flops_per_second{dtype=bf16,device=cuda}  100 TFLOP/s  1.00%   21    101 TFLOP/s" in line
    (data,) = json.loads(asked(tmp_path, capsys, "show", "matmul", "--json"))
    assert data == {
        "check": "matmul",
        "metric": "flops_per_second",
        "labels": dict(LABELS),
        "median": 100e12,
        "mad": pytest.approx(1e12),
        "runs": 21,
        "newest": 101e12,
    }


def test_show_says_when_there_are_too_few_runs(
    tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, check, steady(check, 0, 4, 100e12))
    assert "too few: 18 are needed" in asked(tmp_path, capsys, "show")


def test_diff_tells_what_changed_and_by_how_much(
    tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, check, [*steady(check, 0, 9, 100e12), *steady(check, 20, 6, 80e12, NEW)])
    out = asked(tmp_path, capsys, "diff")
    assert "100 TFLOP/s  80 TFLOP/s  -20.0%  driver 570.86.15 -> 575.51.03" in out


def test_diff_without_other_conditions_says_so(
    tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, check, steady(check, 0, 9, 100e12))
    assert asked(tmp_path, capsys, "diff") == "no benchmark ran under other conditions before\n"


def test_update_makes_the_newest_runs_the_normal_and_the_exporter_knows_at_once(
    tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [*steady(check, 0, 40, 100e12), *steady(check, 40, 8, 80e12)]
    kept(tmp_path, check, runs)
    file = tmp_path / "store" / "history.sqlite"
    pasts = Pasts(lambda name, limit: recall(file, name, limit), lambda: accepted.read(tmp_path / "store"))
    newest = ran(check, 50, 80e12)
    assert [f.rule for f in judge(newest, (), pasts.of(check)).findings] == ["regressed"]

    out = asked(tmp_path, capsys, "update", "matmul", "--why", "quiet fans")
    assert out.startswith("matmul: runs from 20")
    assert "verdicts begin again with 18 runs" in out
    judged = judge(newest, (), pasts.of(check))
    assert (judged.findings, judged.comparisons[0].state, judged.comparisons[0].runs) == ((), "too_few_runs", 8)
    out = asked(tmp_path, capsys, "show")
    assert "80 TFLOP/s" in out
    assert re_since(out)
    assert "100 TFLOP/s  80 TFLOP/s  -20.0%  accepted" in asked(tmp_path, capsys, "diff")


def lived(check: Check, runs: list[Result]) -> list[Result]:
    """As the exporter records them: each judged by those before it."""
    told: list[Result] = []
    for run in runs:
        told.append(judge(run, (), Pasts(lambda name, limit: told).of(check)))
    return told


def test_what_is_told_as_a_regression_is_not_what_show_calls_normal_until_it_is_accepted(
    tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = lived(check, [*steady(check, 0, 20, 100e12), *steady(check, 20, 30, 80e12)])
    kept(tmp_path, check, runs)
    (line,) = asked(tmp_path, capsys, "show").splitlines()[1:]
    assert "100 TFLOP/s" in line
    assert line.endswith("80.8 TFLOP/s  regressed")
    asked(tmp_path, capsys, "update", "matmul")
    file, store = tmp_path / "store" / "history.sqlite", tmp_path / "store"
    later = lived(check, steady(check, 50, 12, 80e12))
    kept(tmp_path, check, later)
    past = Pasts(lambda name, limit: recall(file, name, limit), lambda: accepted.read(store)).of(check)
    judged = judge(ran(check, 70, 80e12), (), past)
    assert (judged.comparisons[0].state, judged.comparisons[0].median) == ("ok", pytest.approx(80e12, rel=0.02))
    assert judge(ran(check, 70, 60e12), (), past).comparisons[0].deviation == pytest.approx(-0.25, abs=0.02)


def re_since(out: str) -> bool:
    return any(line.startswith("matmul: from 20") and line.endswith("on: quiet fans") for line in out.splitlines())


@pytest.mark.parametrize(("number", "left"), [("1", 1), ("0", 0), ("99", 10)])
def test_so_many_runs_stay(
    tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str], number: str, left: int
) -> None:
    kept(tmp_path, check, steady(check, 0, 10, 100e12))
    asked(tmp_path, capsys, "update", "matmul", "--runs", number)
    past = Pasts(
        lambda name, limit: recall(tmp_path / "store" / "history.sqlite", name, limit),
        lambda: accepted.read(tmp_path / "store"),
    )
    assert len(past.of(check).runs) == left


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["update"], "say which: gpu-canary baseline update"),
        (["update", "disk"], "disk has no baseline: it is no benchmark"),
        (["show", "disk"], "disk has no baseline"),
        (["show"], "holds no run of these checks"),
        (["update", "matmul"], "holds no run of matmul"),
        (["update", "matmul", "--runs", "-1"], "--runs takes a number from 0 on"),
        (["sho"], "did you mean show?"),
    ],
)
def test_a_mistake_is_exit_code_2(
    tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert said in asked(tmp_path, capsys, *words, code=2)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", "3", '{"matmul": 3}', '{"matmul": {"since": "soon", "why": ""}}', "[" * 100_000),
        *(f'{{"matmul": {{"since": {since}, "why": ""}}}}' for since in ("NaN", "1e400", "-1e300", "9" * 400)),
    ],
    ids=lambda text: text[:40],
)
def test_a_damaged_file_lets_the_whole_past_judge(tmp_path: Path, text: str) -> None:
    (tmp_path / accepted.FILE).write_text(text)
    assert accepted.read(tmp_path) == {}


def test_what_was_accepted_of_other_checks_stays(tmp_path: Path) -> None:
    accepted.add(tmp_path / "store", {"a": Accepted(1.0, "one"), "b": Accepted(2.0)})
    accepted.add(tmp_path / "store", {"a": Accepted(3.0, "two")})
    expected: Any = {"a": Accepted(3.0, "two"), "b": Accepted(2.0)}
    assert accepted.read(tmp_path / "store") == expected
