"""Does `bench` say what was measured, what to hold it against, and end with the right code? Real runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.commands.bench import HEADS, _narrow, selected
from exporter.commands.test_performance import example
from exporter.config import load as load_config
from exporter.history import recall
from exporter.registry import load as registry
from exporter.result import Check, Comparison, Expectation, Result
from exporter.scores import Score, gone, scores, success, values_of
from probes.api import Finding, Measurement
from tests.checks import eventually
from tests.test_cli import gpu_canary, here, written
from tests.torch_side import CALM

MATMUL = registry().probes["matmul"]
CHECK = Check("matmul", MATMUL, MATMUL.params(), 21600.0, 300.0)
LABELS = (("dtype", "bf16"), ("device", "cuda"))
SERIES = ("flops_per_second", LABELS)
NAME = "flops_per_second{dtype=bf16,device=cuda}"


def ran(value: float, **fields: Any) -> Result:
    return Result("matmul", "matmul", 1.0, 2.0, fields.pop("outcome", "ok"), (Measurement(*_first(value)),), **fields)


def _first(value: float) -> tuple[str, float, tuple[tuple[str, str], ...]]:
    return "flops_per_second", value, LABELS


def compared(state: Any, cause: str = "") -> tuple[Comparison, ...]:
    return (Comparison("flops_per_second", LABELS, state, 30, 100.0, 1.0, 0.0, 0.0, cause),)


# -- the lines of the table -------------------------------------------------------------------------------------------


def test_the_value_is_the_median_of_the_runs_that_measured() -> None:
    broken = replace(ran(1000.0), outcome="error")
    (score,) = scores(CHECK, [ran(90.0), ran(100.0), ran(130.0), broken], {})
    assert (score.value, score.values, score.spread) == (100.0, (90.0, 100.0, 130.0), 0.1)


def test_one_run_has_no_spread_and_what_is_not_known_is_none() -> None:
    (score,) = scores(CHECK, [ran(90.0)], {})
    assert (score.spread, score.expected, score.ratio, score.baseline, score.before, score.change) == (None,) * 6
    assert not score.lost


def test_the_statistics_of_the_runs_are_those_of_their_values() -> None:
    (score,) = scores(CHECK, [ran(float(value)) for value in (4, 1, 3, 2, 100)], {})
    told = score.to_dict()["statistics"]
    assert told == pytest.approx({"min": 1.0, "mean": 22.0, "max": 100.0, "p50": 3.0, "p95": 80.8, "p99": 96.16})


def test_a_run_that_failed_is_no_success_and_one_that_was_put_off_is_no_run() -> None:
    runs = [replace(ran(1.0), outcome=outcome) for outcome in ("ok", "degraded", "failed", "ok", "skipped", "error")]
    assert success(runs) == 0.75
    assert success(runs[4:]) is None


def test_runs_that_measured_nothing_have_no_line() -> None:
    assert scores(CHECK, [replace(ran(90.0), outcome="skipped")], {}) == []


def test_a_line_holds_expected_value_baseline_and_the_value_before() -> None:
    result = ran(90.0, comparisons=compared("ok"), expectations=(Expectation(*SERIES, 120.0, 0.75),))
    (score,) = scores(CHECK, [result], values_of([ran(45.0)]))
    assert (score.expected, score.ratio, score.baseline, score.change) == (120.0, 0.75, 100.0, 1.0)


MISSED = Finding("target-missed", "warning", "90 is below", NAME)
BELOW = Finding("below-expected", "warning", "far below; seen with it: throttled by power_cap", NAME)


@pytest.mark.parametrize(
    ("comparisons", "found", "verdict"),
    [
        ((), (), ("", "")),
        (compared("too_few_runs"), (), ("too few runs", "")),
        (compared("new_conditions"), (), ("new conditions", "")),
        (compared("regressed", "driver 1 -> 2"), (), ("regressed", "driver 1 -> 2")),
        (compared("regressed", "driver 1 -> 2"), (BELOW,), ("regressed", "driver 1 -> 2")),
        (compared("ok"), (BELOW,), ("below expected", "throttled by power_cap")),
        (compared("regressed"), (BELOW, MISSED), ("target missed", "throttled by power_cap")),
        (compared("ok"), (replace(BELOW, subject="flops_per_second{dtype=fp16,device=cuda}"),), ("ok", "")),
    ],
)
def test_the_worst_that_is_said_of_a_series_is_its_verdict(
    comparisons: tuple[Comparison, ...], found: tuple[Finding, ...], verdict: tuple[str, str]
) -> None:
    (score,) = scores(CHECK, [ran(90.0, comparisons=comparisons, findings=found)], {})
    assert (score.verdict, score.cause) == verdict


@pytest.mark.parametrize(
    ("better", "before", "lost"),
    [("higher", 100.1, True), ("higher", 99.9, False), ("lower", 81.7, True), ("lower", 82.0, False), ("higher", None, False)],
)  # fmt: skip
def test_more_than_a_tenth_for_the_worse_is_a_loss(better: Any, before: float | None, lost: bool) -> None:
    assert Score("c", "m", (), better, 90.0, (90.0,), None, None, "", "", before).lost is lost


@pytest.mark.parametrize(
    ("metric", "before", "now", "lost"),
    [
        ("decay_ratio", 0.001, 0.003, False),
        ("decay_ratio", 0.0, 0.05, True),
        ("left_bytes", 0.0, 512.0, False),
        ("differing_values", 0.0, 1.0, True),
        ("temperature_celsius", 40.0, 44.5, False),
    ],
)
def test_from_nothing_it_is_a_loss_where_it_matters(metric: str, before: float, now: float, lost: bool) -> None:
    assert Score("c", metric, (), "lower", now, (now,), None, None, "", "", before).lost is lost


def test_labels_are_compared_in_whatever_order_they_were_written_and_what_is_gone_is_named() -> None:
    known = values_of([replace(ran(45.0), measurements=(Measurement(SERIES[0], 45.0, LABELS[::-1]),))])
    made = scores(CHECK, [ran(90.0)], known)
    assert (made[0].before, gone(CHECK, made, known)) == (45.0, [])
    assert gone(CHECK, [], known) == ["flops_per_second{device=cuda,dtype=bf16}"]
    assert gone(replace(CHECK, name="other"), [], known) == []


def test_the_newest_run_of_a_check_is_the_one_before() -> None:
    blind = replace(ran(7.0), outcome="skipped")
    series = ("flops_per_second", (("device", "cuda"), ("dtype", "bf16")))
    assert values_of([ran(90.0), ran(100.0), blind]) == {("matmul", series): 100.0}


# -- real runs --------------------------------------------------------------------------------------------------------

CONFIG = f"""\
interpreters: {{torch: {CALM}}}
checks:
  - {{probe: matmul, params: {{size: 64, seconds: 20ms, interpreter: torch}}}}
  - {{probe: memory_copy, params: {{size: 1MiB, seconds: 20ms, interpreter: torch}}}}
  - {{probe: disk}}
"""
DISK = "checks: [{probe: disk_io, params: {path: FOLDER, size: 4MiB, chunk: 1MiB}}]"


def told(tmp_path: Path, *words: str) -> tuple[int, Any]:
    file = written(tmp_path, DISK.replace("FOLDER", str(tmp_path)))
    code, out, _ = gpu_canary(tmp_path, "bench", *words, "--config.file", file, "--json", "--storage.path", "store")
    return code, json.loads(out)


@pytest.mark.torch
def test_the_configured_benchmarks_run_and_the_table_tells_what_there_is_to_tell_in_eighty_columns(
    tmp_path: Path,
) -> None:
    code, out, err = gpu_canary(tmp_path, "bench", "--device", "cpu", "--config.file", written(tmp_path, CONFIG))
    assert (code, err) == (0, "")
    heads, first, second, note = out.splitlines()
    assert heads.split() == ["CHECK", "SERIES", "VALUE", "VERDICT"], "columns of dashes are left out"
    assert max(map(len, (heads, first, second))) <= 80
    assert first.split()[:2] == ["matmul", "flops_per_second{dtype=fp32,device=cpu}"]
    assert first.split()[3] in ("MFLOP/s", "GFLOP/s", "TFLOP/s")
    assert second.split()[:2] == ["memory_copy", "bytes_per_second{device=cpu}"]
    assert "too few runs" in first
    assert note.startswith("no expected value for the processor")


def test_a_column_is_there_as_soon_as_one_row_has_something_to_say_in_it() -> None:
    known = ("matmul", "flops", "1 FLOP/s", "2 FLOP/s", "50%", "-", "ok", "-")
    unknown = ("corruption", "values", "0", "-", "-", "-", "ok", "-")
    heads, rows = _narrow(HEADS, [known, unknown])
    assert heads == ["CHECK", "SERIES", "VALUE", "EXPECTED", "RATIO", "VERDICT"]
    assert rows[1] == ["corruption", "values", "0", "-", "-", "ok"]


def test_repeated_runs_are_recorded_compared_with_the_last_and_a_loss_is_exit_code_1(tmp_path: Path) -> None:
    code, (entry,) = told(tmp_path, "disk_io", "--repeat", "3", "--record")
    score, _ = entry["scores"]
    assert (code, len(score["values"]), len(entry["results"])) == (0, 3, 3)
    assert score["value"] == sorted(score["values"])[1]
    runs = recall(tmp_path / "store" / "history.sqlite", "disk_io", 9)
    assert [run.measurements[0].value for run in runs] == score["values"]

    code, (entry,) = told(tmp_path, "disk_io", "--compare", "last")
    assert entry["scores"][0]["before"] == runs[-1].measurements[0].value
    assert code == int(any(score["change_ratio"] < -0.1 for score in entry["scores"]))

    faster = [{**entry, "scores": [{**entry["scores"][0], "value": 1e15}]}]
    (tmp_path / "before.json").write_text(json.dumps(faster))
    file = tmp_path / "canary.yml"
    code, out, _ = gpu_canary(tmp_path, "bench", "disk_io", "--config.file", str(file), "--compare", "before.json")
    assert code == 1
    assert re.search("disk_io write_bytes_per_second{cache=[a-z]+}: -100.0% from before", out)

    other = [{**entry, "scores": [{**entry["scores"][0], "labels": {"cache": "elsewhere"}}]}]
    (tmp_path / "before.json").write_text(json.dumps(other))
    code, (entry,) = told(tmp_path, "disk_io", "--compare", "before.json")
    assert (code, entry["gone"]) == (1, ["write_bytes_per_second{cache=elsewhere}"]), "nothing was compared: no pass"


@pytest.mark.torch
def test_a_target_that_is_missed_is_the_verdict_and_its_remedy_follows_the_table(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        f"interpreters: {{torch: {CALM}}}\n"
        "checks: [{probe: matmul, params: {size: 64, seconds: 20ms, interpreter: torch},"
        " targets: [{metric: flops_per_second, at_least: 1.0e+18}]}]",
    )
    code, out, _ = gpu_canary(tmp_path, "bench", "--config.file", file)
    assert code == 1, out
    assert "target missed" in out
    assert "warning target-missed" in out
    assert "`gpu-canary run CHECK` measures again" in out


def test_without_torch_nobody_knows_and_the_table_says_why(tmp_path: Path) -> None:
    file = written(tmp_path, "checks: [{probe: matmul, params: {interpreter: nowhere}}]")
    code, out, _ = gpu_canary(tmp_path, "bench", "--config.file", file)
    assert code == 3
    assert "skipped (blind: no_interpreter)" in out
    assert "no Python called 'nowhere'" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["disk"], "disk is no benchmark; `gpu-canary run disk` runs it"),
        (["matmull"], "did you mean matmul?"),
        (["matmul", "--repeat", "0"], "--repeat takes a number from 1 on"),
        (["matmul", "--device", "gpu"], "it is auto, cpu, cuda, or one card, like cuda:1"),
        (["matmul", "--compare", "nowhere.json"], "write it with `gpu-canary bench --json > FILE`"),
        (["matmul", "--compare", "broken.json"], "not what `gpu-canary bench --json` writes"),
        (["matmul", "--compare", "last", "--storage.path", "nowhere"], "holds no run of these checks"),
    ],
)
def test_a_mistake_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text('{"scores": 3}')
    file = written(tmp_path, "checks: [{probe: matmul}, {probe: disk}]")
    code, out, err = here(capsys, "bench", *words, "--config.file", file)
    assert (code, out) == (2, "")
    assert said in err


def saved(value: str = "1.0", labels: str = "{}", check: str = "matmul") -> str:
    return f'[{{"scores": [{{"check": "{check}", "metric": "m", "labels": {labels}, "value": {value}}}]}}]'


@pytest.mark.parametrize(
    "text",
    [
        *("", "3", "null", "[3]", "{}", '[{"scores": 3}]', '[{"scores": [{}]}]', "[" * 100_000, "\udcff"),
        *(saved(value) for value in ("NaN", "-Infinity", "1e400", "9" * 400, '"fast"', "null", "[1]")),
        *(saved(labels=labels) for labels in ("3", "[]", "null")),
        saved(check="disk_io"),
    ],
    ids=lambda text: text[:60].encode("ascii", "replace").decode(),
)
def test_a_file_that_cannot_be_compared_with_is_a_mistake_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "before.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    file = written(tmp_path, "checks: [{probe: matmul}]")
    code, out, err = here(capsys, "bench", "matmul", "--compare", str(tmp_path / "before.json"), "--config.file", file)
    assert (code, out) == (2, "")
    assert "--compare" in err


CARDS = """\
checks:
  - {probe: matmul}
  - {probe: matmul, name: "matmul:gpu1", params: {gpu: "1"}}
  - {probe: memory_copy}
  - {probe: disk_io, params: {path: /models}}
"""


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (None, {"matmul": "auto", "matmul:gpu1": "auto 1", "memory_copy": "auto", "disk_io": ""}),
        ("cuda", {"matmul": "cuda", "matmul:gpu1": "cuda 1", "memory_copy": "cuda", "disk_io": ""}),
        ("cpu", {"matmul": "cpu", "memory_copy": "cpu", "disk_io": ""}),
        ("cuda:0", {"matmul": "cuda", "memory_copy": "cuda", "disk_io": ""}),
        ("cuda:1", {"matmul:gpu1": "cuda 1", "memory_copy": "cuda 1", "disk_io": ""}),
        ("cuda:2", {"matmul": "cuda 2", "memory_copy": "cuda 2", "disk_io": ""}),
    ],
)
def test_a_device_is_asked_each_question_once(tmp_path: Path, device: str | None, expected: dict[str, str]) -> None:
    probes = registry()
    checks = selected([], device, load_config(Path(written(tmp_path, CARDS)), probes.probes), probes)
    fields = {c.name: [getattr(c.params, name, "") for name in ("device", "gpu")] for c in checks}
    assert {name: " ".join(pair).strip() for name, pair in fields.items()} == expected


@pytest.mark.torch
def test_after_a_ctrl_c_the_table_holds_what_was_measured_until_then(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    waits = (
        f"  - {{probe: command, timeout: 2m, params: {{command: [sh, -c, 'touch {begun}; sleep 100'], device: cpu}}}}\n"
    )
    argv = [sys.executable, "-m", "exporter", "bench", "--config.file", written(tmp_path, CONFIG + waits)]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        eventually(begun.exists, 60)
        bench.send_signal(signal.SIGINT)
        out, err = bench.communicate(timeout=60)
    assert (bench.returncode, err) == (130, "")
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["CHECK", "matmul", "memory_copy"]
    assert "command" not in out


def test_a_program_of_ones_own_is_no_device_that_lacks_an_expected_value(tmp_path: Path) -> None:
    file = written(tmp_path, f"checks: [{{probe: command, params: {{command: [{sys.executable}, -c, pass]}}}}]")
    code, out, _ = gpu_canary(tmp_path, "bench", "--config.file", file)
    assert code == 0
    assert "wall_seconds" in out
    assert "no expected value" not in out


# -- test-performance -------------------------------------------------------------------------------------------------

PERFORMANCE = ["test-performance", "--resolution", "720p", "--benchmark"]  # as the source systems spell it
VIDEO = """\
checks:
  - name: video_720p
    probe: command
    params: {command: [sleep, "0.2"]}
    targets: [{metric: wall_seconds, at_most: BOUND}]
"""


def test_without_a_generator_it_is_skipped_plainly_and_nothing_stands_in(tmp_path: Path) -> None:
    file = written(tmp_path, "checks: [{probe: disk}]")
    code, out, err = gpu_canary(tmp_path, *PERFORMANCE, "--config.file", file)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "skipped: no generator configured"
    assert "video_720p" in out
    code, out, _ = gpu_canary(tmp_path, *PERFORMANCE, "--config.file", file, "--json")
    assert json.loads(out) == {
        "check": "command:video_720p",
        "outcome": "skipped",
        "reason": "no generator configured",
        "results": [],
    }


@pytest.mark.parametrize("resolution", ["720p", "1080p"])
def test_the_example_that_it_prints_is_a_config(tmp_path: Path, resolution: str) -> None:
    file = written(tmp_path, example(resolution))
    (check,) = load_config(Path(file), registry().probes).checks
    assert (check.name, check.probe.name) == (f"command:video_{resolution}", "command")
    assert [target.at_most for target in check.targets] == [{"720p": 540, "1080p": 1020}[resolution], 12e9]


def test_a_check_without_a_command_is_no_generator_either(tmp_path: Path) -> None:
    file = written(tmp_path, "checks: [{name: video_720p, probe: command}]")
    code, out, _ = gpu_canary(tmp_path, *PERFORMANCE, "--config.file", file)
    assert (code, out.splitlines()[0]) == (0, "skipped: no generator configured")


@pytest.mark.parametrize("number", ["0", "-1"])
def test_no_runs_at_all_are_a_mistake_and_no_missing_generator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    file = written(tmp_path, VIDEO.replace("BOUND", "60"))
    code, out, err = here(capsys, "test-performance", "--repeat", number, "--config.file", file)
    assert (code, out) == (2, "")
    assert "--repeat takes a number from 1 on" in err


def test_a_generator_is_timed_by_its_own_program(tmp_path: Path) -> None:
    (tmp_path / "generate.py").write_text("import sys; assert sys.argv[1:] == ['--resolution', '720p']")
    text = example("720p").replace("/path/to/it", str(tmp_path)).replace("[python,", f"[{sys.executable},")
    text = text.replace(", {metric: peak_vram_bytes, at_most: 12GB}", "")  # there is no card here
    code, out, _ = gpu_canary(tmp_path, *PERFORMANCE, "--config.file", written(tmp_path, text), "--json")
    (target,) = json.loads(out)["targets"]
    assert (target["series"], target["target"]) == ("wall_seconds", "at most 9 min")
    assert (target["met"], target["runs"]) == (3, 3)
    assert code == int(target["variation_ratio"] > 0.10)


@pytest.mark.parametrize(("bound", "met"), [("60", 3), ("0.1", 0)])
def test_each_of_three_runs_is_held_against_the_targets(tmp_path: Path, bound: str, met: int) -> None:
    file = written(tmp_path, VIDEO.replace("BOUND", bound))
    code, out, _ = gpu_canary(tmp_path, *PERFORMANCE, "--config.file", file, "--json")
    data = json.loads(out)
    (target,) = data["targets"]
    assert len(data["results"]) == target["runs"] == 3
    assert target["met"] == met
    measured = [{m["metric"]: m["value"] for m in run["measurements"]} for run in data["results"]]
    assert target["values"] == [values["wall_seconds"] for values in measured]
    assert code == int(met < 3 or target["variation_ratio"] > 0.10)


def test_one_run_without_benchmark_and_a_table_of_targets(tmp_path: Path) -> None:
    file = written(tmp_path, VIDEO.replace("BOUND", "60"))
    code, out, _ = gpu_canary(tmp_path, "test-performance", "--config.file", file)
    assert code == 0
    assert out.splitlines()[-2].split() == ["SERIES", "MEDIAN", "TARGET", "MET", "VARIATION"]
    assert "at most 1 min  1 of 1 runs  -" in out.splitlines()[-1]


def test_runs_without_a_target_are_held_against_each_other(tmp_path: Path) -> None:
    (tmp_path / "uneven.py").write_text(
        "import pathlib, sys, time; a = pathlib.Path('a'); time.sleep(1.5 * a.exists()); a.touch()"
    )
    check = f"{{name: video_720p, probe: command, params: {{command: [{sys.executable}, uneven.py], directory: {tmp_path}}}}}"
    code, out, _ = gpu_canary(tmp_path, *PERFORMANCE, "--config.file", written(tmp_path, f"checks: [{check}]"))
    (line,) = [line.split() for line in out.splitlines() if line.startswith("wall_seconds ") and "none" in line]
    assert (line[-3:-1], line[-1][-1]) == (["none", "-"], "%")
    assert "wall_seconds varies by more than 10% from run to run" in out
    assert code == 1
