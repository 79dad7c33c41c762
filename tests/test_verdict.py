"""Is a benchmark held against the right runs of its past, and does the verdict name what changed with it?"""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import registry
from exporter.baseline import NOTHING, WINDOW, Past, differences, judged_metrics, quantile, remembered, strains
from exporter.comparison import compare
from exporter.judge import judge, judged_anew, verdicts
from exporter.metrics import COMPARED_LIMIT, CheckSeries
from exporter.result import Check, Latest, Result, Target
from probes.api import Finding, Measurement

PROBE = registry.load().probes["matmul"]
FLOPS = "flops_per_second"
HALF = (("dtype", "fp16"), ("device", "cuda"))
OLD, NEW = {"driver": "570.86.15", "torch": "2.9.1"}, {"driver": "575.51.03", "torch": "2.9.1"}
BETTER = {FLOPS: "higher"}
CALM = "8 samples, median 431 W, throttled by power_cap, VRAM in use 12 MiB before, 12 MiB after"


def run(value: float, started: float = 0.0, conditions: dict[str, str] | None = None, **fields: object) -> Result:
    """One run of `matmul` that measured `value`."""
    known = {"identity": {"params": "p", "uuid": "GPU-a"}, "conditions": OLD if conditions is None else conditions}
    measurements = (Measurement(FLOPS, value, HALF),)
    return Result("matmul", "matmul", started, 1.0, "ok", measurements, **{**known, **fields})  # type: ignore[arg-type]


def past(*runs: Result) -> Past:
    return Past([remembered(one, {FLOPS}) for one in runs], BETTER)


def steady(number: int, level: float = 100.0, begin: int = 0, **fields: object) -> list[Result]:
    """Runs with half a per cent of noise."""
    rng = random.Random(number)
    return [run(level * (1 + rng.gauss(0, 0.005)), begin + n, **fields) for n in range(number)]  # type: ignore[arg-type]


def one(result: Result, before: Past) -> tuple[str, list[str]]:
    """The state of the only series, and the rules that fired."""
    judged = judge(result, [], before)
    assert len(judged.comparisons) == 1
    return judged.comparisons[0].state, [f.rule for f in judged.findings]


def test_a_run_like_those_before_it_is_ok_and_told_with_its_baseline():
    judged = judge(run(99.0, 30), [], past(*steady(20)))
    (c,) = judged.comparisons
    assert (c.state, c.runs, judged.outcome, judged.findings) == ("ok", 18, "ok", ())
    assert c.median == pytest.approx(100, rel=0.01)
    assert c.deviation == pytest.approx((99.0 - c.median) / c.median)
    assert 0 < c.mad < 1


def test_three_slow_runs_in_a_row_are_a_regression_and_one_is_not():
    slow = [run(80.0, 30 + n) for n in range(3)]
    assert one(slow[0], past(*steady(20))) == ("ok", [])
    assert one(slow[1], past(*steady(20), slow[0])) == ("ok", [])
    judged = judge(slow[2], [], past(*steady(20), *slow[:2]))
    assert judged.outcome == "degraded"
    (found,) = judged.findings
    assert (found.rule, found.severity, found.subject) == (
        "regressed",
        "warning",
        "flops_per_second{dtype=fp16,device=cuda}",
    )
    assert "80 FLOP/s; the newest runs are 20.1% below the median 100 FLOP/s of 20 runs" in found.detail
    assert found.detail.endswith("no cause was seen in this run")


def test_what_is_better_is_improved_and_nobody_is_bothered():
    fast = [run(120.0, 30 + n) for n in range(3)]
    judged = judge(fast[2], [], past(*steady(20), *fast[:2]))
    assert (judged.outcome, [f.rule for f in judged.findings]) == ("ok", ["improved"])
    assert judged.comparisons[0].shift == pytest.approx(0.2, abs=0.01)


def test_a_metric_where_less_is_better_regresses_upwards():
    before = Past(past(*steady(20), run(120, 30), run(120, 31)).runs, {FLOPS: "lower"})
    assert one(run(120.0, 32), before) == ("regressed", ["regressed"])


@pytest.mark.parametrize(
    ("metric", "usual", "now", "state"),
    [
        ("decay_ratio", 0.001, 0.02, "ok"),
        ("decay_ratio", 0.001, 0.03, "regressed"),
        ("temperature_celsius", 60.0, 64.0, "ok"),
        ("temperature_celsius", 60.0, 66.0, "regressed"),
        ("left_bytes", 0.0, 512.0, "ok"),
        ("left_bytes", 0.0, 2e6, "regressed"),
        ("wall_seconds", 0.001, 0.02, "regressed"),
    ],
)
def test_from_nearly_nothing_a_share_must_move_by_two_points_a_temperature_by_five_degrees_and_memory_by_a_mebibyte(
    metric, usual, now, state
):
    def measure(value: float, started: float, conditions: dict[str, str] = OLD) -> Result:
        return replace(run(value, started, conditions), measurements=(Measurement(metric, value, HALF),))

    runs = [*(measure(usual, n) for n in range(20)), measure(now, 20), measure(now, 21)]
    before = Past([remembered(one, {metric}) for one in runs], {metric: "lower"})
    assert one(measure(now, 22), before)[0] == state
    changed = remembered(measure(now, 21, NEW), {metric})
    assert one(measure(now, 22, NEW), Past([*before.runs[:20], changed], before.better))[0] == state.replace(
        "ok", "new_conditions"
    )


def test_too_few_runs_are_no_verdict_and_say_how_many():
    for number in (0, 1, 16):
        (c,) = judge(run(50.0, 99), [], past(*steady(number))).comparisons
        assert (c.state, c.runs, c.median) == ("too_few_runs", number, None)
    assert one(run(50.0, 99), past(*steady(17)))[0] == "ok"


def test_two_runs_that_are_far_off_under_new_conditions_are_a_regression_and_one_is_not():
    first = run(88.0, 30, NEW)
    assert one(first, past(*steady(20))) == ("new_conditions", ["conditions-changed"])
    judged = judge(run(88.0, 31, NEW), [], past(*steady(20), first))
    assert (judged.comparisons[0].state, judged.outcome) == ("regressed", "degraded")
    regressed, changed = judged.findings
    assert (regressed.rule, changed.rule) == ("regressed", "conditions-changed")
    assert "seen with it: driver 570.86.15 -> 575.51.03" in regressed.detail
    assert changed.detail.startswith("driver 570.86.15 -> 575.51.03; ")


def test_a_cold_start_after_a_change_of_conditions_is_no_regression():
    new = [run(value, 30 + n, NEW) for n, value in enumerate((60.0, 100.0, 100.0))]
    for number in range(3):
        assert one(new[number], past(*steady(20), *new[:number]))[0] == "new_conditions"


def test_two_changes_one_after_the_other_are_held_against_the_newest_full_baseline():
    newer = {"driver": "575.51.03", "torch": "2.10.0"}
    before = past(*steady(20), *steady(5, 100.0, 30, conditions=NEW), run(88.0, 40, newer))
    judged = judge(run(88.0, 41, newer), [], before)
    assert judged.comparisons[0].state == "regressed"
    assert judged.comparisons[0].cause == "driver 570.86.15 -> 575.51.03; torch 2.9.1 -> 2.10.0"


def test_a_crashed_run_before_the_change_hides_neither_the_change_nor_its_name():
    crashed = replace(run(0.0, 25, {}), outcome="failed", measurements=())
    judged = judge(run(88.0, 31, NEW), [], past(*steady(20), crashed, run(88.0, 30, NEW)))
    assert [f.rule for f in judged.findings] == ["regressed", "conditions-changed"]
    assert judged.comparisons[0].cause == "driver 570.86.15 -> 575.51.03"


def test_new_conditions_without_a_shift_are_an_annotation_and_no_more():
    judged = judge(run(100.4, 30, NEW), [], past(*steady(20)))
    assert (judged.comparisons[0].state, judged.outcome) == ("new_conditions", "ok")
    assert [(f.rule, f.severity) for f in judged.findings] == [("conditions-changed", "info")]


def test_the_new_baseline_stands_alone_once_it_is_full():
    before = [*steady(20), *steady(17, 88.0, 100, conditions=NEW)]
    assert one(run(88.0, 200, NEW), past(*before)) == ("ok", [])
    assert one(run(88.0, 200, NEW), past(*before[:-1]))[0] == "regressed"


def test_old_conditions_that_come_back_find_their_baseline_again():
    before = past(*steady(20), *steady(3, 88.0, 100, conditions=NEW))
    judged = judge(run(100.0, 200), [], before)
    assert (judged.comparisons[0].state, judged.findings) == ("ok", ())


def test_new_conditions_after_too_few_runs_have_nothing_to_be_held_against():
    assert one(run(50.0, 30, NEW), past(*steady(14))) == ("too_few_runs", [])


def test_another_card_worker_or_param_is_another_series():
    other = {"params": "p", "uuid": "GPU-b"}
    assert one(run(50.0, 99, identity=other), past(*steady(30))) == ("too_few_runs", [])


def test_a_run_that_ended_before_it_told_its_driver_is_comparable_all_the_same():
    assert differences({"torch": "2.9.1"}, OLD) == {}
    assert one(run(100.0, 99, {"torch": "2.9.1"}), past(*steady(20))) == ("ok", [])


def test_a_cause_is_what_the_slow_run_saw_and_its_past_did_not():
    calm = {"card under load": CALM}
    hot = {
        "card under load": CALM.replace("power_cap", "power_cap, sw_thermal"),
        "idle gate": "gate=strong, residents: python (pid 7, 1024 MiB), Xorg (pid 9, graphics)",
    }
    found = (Finding("benchmark-not-on-card", "warning", "", ""), Finding("target-missed", "critical", "", ""))
    slow = [run(80.0, 30 + n, evidence=hot, findings=found) for n in range(3)]
    assert strains(slow[0]) == [
        "throttled by power_cap",
        "throttled by sw_thermal",
        "benchmark-not-on-card",
        "beside python",
        "beside Xorg",
    ]
    judged = judge(slow[2], [], past(*steady(20, evidence=calm), *slow[:2]))
    assert judged.comparisons[0].cause == ("throttled by sw_thermal; benchmark-not-on-card; beside python; beside Xorg")


def test_a_newcomer_on_the_card_is_named_without_those_who_are_always_there():
    def beside(*names: str) -> dict[str, str]:
        told = ", ".join(f"{name} (pid {n}, 10 MiB)" for n, name in enumerate(names))
        return {"idle gate": f"gate=strong, residents: {told} and 3 more"}

    usual = [*steady(10, evidence=beside("Xorg", "firefox")), *steady(10, evidence=beside("firefox", "Xorg"), begin=10)]
    slow = [run(80.0, 30 + n, evidence=beside("firefox", "ollama", "Xorg")) for n in range(3)]
    assert judge(slow[2], [], past(*usual, *slow[:2])).comparisons[0].cause == "beside ollama"


def test_an_upgrade_of_everything_does_not_hide_what_the_card_suffered_from():
    before = dict.fromkeys(("cuda", "driver", "executable", "pcie_link", "power_limit", "python", "torch"), "1")
    hot = {"card under load": CALM.replace("power_cap", "hw_thermal")}
    now = dict.fromkeys(before, "2")
    judged = judge(run(60.0, 99, now, evidence=hot), [], past(*steady(20, conditions=before), run(60.0, 98, now)))
    assert judged.comparisons[0].cause == (
        "power_limit 1 -> 2; pcie_link 1 -> 2; driver 1 -> 2; cuda 1 -> 2; throttled by hw_thermal"
    )


def test_a_quiet_card_strains_nobody():
    quiet = {"card under load": "8 samples, throttled by nothing", "idle gate": "gate=strong, residents: none"}
    assert strains(run(1.0, evidence=quiet)) == []


def test_every_component_that_changed_is_named():
    now = {"driver": "575.51.03", "torch": "2.10.0", "power_limit": "300 W", "pcie_link": "gen 1 x4"}
    before = {"driver": "570.86.15", "torch": "2.9.1", "power_limit": "450 W", "pcie_link": "gen 4 x16"}
    judged = judge(run(60.0, 99, now), [], past(*steady(20, conditions=before), run(60.0, 98, now)))
    assert judged.comparisons[0].cause == (
        "power_limit 450 W -> 300 W; pcie_link gen 4 x16 -> gen 1 x4; driver 570.86.15 -> 575.51.03; torch 2.9.1 -> 2.10.0"
    )


@pytest.mark.parametrize("outcome", ["skipped", "error"])
def test_what_measured_nothing_has_no_verdict(outcome):
    result = replace(run(1.0), outcome=outcome)
    assert judge(result, [], past(*steady(30))) is result


def test_a_verdict_survives_the_disk_and_a_change_of_targets():
    slow = [run(80.0, 30 + n) for n in range(3)]
    judged = judge(slow[2], [Target(FLOPS, at_least=90)], past(*steady(20), *slow[:2]))
    read = Result.from_dict(json.loads(json.dumps(judged.to_dict())))
    assert read == judged
    anew = judged_anew(Latest.first(read), []).last
    assert [f.rule for f in anew.findings] == ["regressed"]
    assert anew.comparisons == judged.comparisons


def test_only_benchmarks_are_judged_and_only_where_one_direction_is_better():
    probes = registry.load().probes
    judged = {name: judged_metrics(Check(name, p, p.params.model_construct(), 60.0, 5.0)) for name, p in probes.items()}
    assert judged["matmul"] == BETTER
    assert {probes[name].family for name, metrics in judged.items() if metrics} == {"benchmarks"}


def test_a_series_of_few_values_in_a_check_of_many_runs_has_too_few_runs():
    other = Measurement(FLOPS, 5.0, (("dtype", "fp8"), ("device", "cuda")))
    result = replace(run(100.0, 99), measurements=(*run(100.0).measurements, other))
    assert [c.state for c in compare(result, past(*steady(20)))] == ["ok", "too_few_runs"]


# -- a regression that lasts ----------------------------------------------------------------------------------------


def lived(*values: float, begin: int = 0, conditions: dict[str, str] = OLD, **fields: object) -> list[Result]:
    """Runs as the exporter makes them: each judged by those before it."""
    return after([], *values, begin=begin, conditions=conditions, **fields)


def after(
    runs: list[Result], *values: float, begin: int = 0, conditions: dict[str, str] = OLD, **fields: object
) -> list[Result]:
    runs = list(runs)
    for number, value in enumerate(values):
        newest = run(value, begin + number, conditions, **fields)
        runs.append(judge(newest, [], past(*runs[-WINDOW:])))
    return runs


def states(runs: list[Result]) -> list[str]:
    return [judged.comparisons[0].state for judged in runs]


def noisy(number: int, level: float = 100.0, spread: float = 0.03) -> list[float]:
    rng = random.Random(number)
    return [level * (1 + rng.gauss(0, spread)) for _ in range(number)]


def test_what_is_slow_for_weeks_stays_a_regression_and_its_baseline_stays_what_was_normal():
    runs = lived(*noisy(30), *noisy(90, 85.0))
    told = states(runs)[30:]
    assert told[8:] == ["regressed"] * 82
    assert runs[-1].comparisons[0].median == pytest.approx(100, rel=0.02)


def test_it_ends_when_the_card_is_as_before():
    runs = lived(*noisy(30), *noisy(40, 85.0), *noisy(12))
    assert states(runs)[-7:] == ["ok"] * 7


def test_a_second_loss_during_the_first_is_told_with_its_whole_size():
    runs = lived(*noisy(30, spread=0.005), *noisy(30, 90.0, 0.005), *noisy(8, 60.0, 0.005))
    assert runs[-1].comparisons[0].shift == pytest.approx(-0.4, abs=0.01)


def test_the_cause_is_named_for_as_long_as_the_regression_lasts():
    hot = {"card under load": CALM.replace("power_cap", "sw_thermal")}
    calm = {"card under load": CALM}
    runs = after(lived(*noisy(20, spread=0.005), evidence=calm), *[80.0] * 60, begin=30, evidence=hot)
    assert runs[-1].comparisons[0].state == "regressed"
    assert runs[-1].comparisons[0].cause == "throttled by sw_thermal"


def test_an_improvement_that_stays_becomes_normal_and_one_that_goes_soon_is_no_regression():
    short = lived(*noisy(30, spread=0.005), *noisy(10, 110.0, 0.005), *noisy(12, spread=0.005))
    assert "improved" in states(short)
    assert "regressed" not in states(short)
    stays = lived(*noisy(30, spread=0.005), *noisy(70, 110.0, 0.005))
    assert states(stays)[-10:] == ["ok"] * 10


def test_a_level_that_was_told_under_new_conditions_begins_their_baseline_all_the_same():
    runs = after(lived(*noisy(30, spread=0.005)), *noisy(25, 88.0, 0.005), begin=40, conditions=NEW)
    assert states(runs)[31:47] == ["regressed"] * 16
    assert states(runs)[47:] == ["ok"] * 8
    assert runs[-1].comparisons[0].median == pytest.approx(88, rel=0.01)


def test_a_small_loss_under_new_conditions_is_told_after_eight_runs():
    runs = after(lived(*noisy(40)), *noisy(8, 93.5), begin=40, conditions=NEW)
    assert states(runs)[41:] == ["new_conditions"] * 6 + ["regressed"]


def test_conditions_that_go_to_and_fro_each_keep_their_baseline():
    runs = lived(*noisy(20, spread=0.005))
    for turn in range(6):
        conditions, level = (NEW, 88.0) if turn % 2 == 0 else (OLD, 100.0)
        runs = after(runs, *noisy(10, level, 0.005), begin=100 * (turn + 1), conditions=conditions)
    assert "regressed" not in [s for r, s in zip(runs, states(runs), strict=True) if r.conditions == OLD]
    assert states(runs)[40:50] == ["regressed"] * 7 + ["ok"] * 3  # its eighteenth run begins to stand alone
    assert states(runs)[50:] == ["ok"] * 30


def test_a_restart_in_the_middle_of_a_regression_changes_no_verdict():
    runs = lived(*noisy(30), *noisy(60, 85.0))
    read = [Result.from_dict(json.loads(json.dumps(one.to_dict()))) for one in runs]
    newest = run(85.0, 99)
    assert judge(newest, [], past(*read)) == judge(newest, [], past(*runs))


# -- targets on a quantile ------------------------------------------------------------------------------------------


def test_a_target_on_a_quantile_looks_at_the_newest_runs():
    target = Target(FLOPS, at_least=95, quantile=0.5, runs=5)
    before = past(*(run(value, n) for n, value in enumerate((1.0, 1.0, 100.0, 100.0, 100.0, 100.0))))
    judged = judge(run(10.0, 9), [target], before)
    assert judged.findings == ()
    (verdict,) = verdicts(judged, [target])
    assert (verdict.value, verdict.met) == (100.0, True)
    judged = judge(run(10.0, 9), [replace(target, quantile=0.0)], before)
    assert (
        "10 FLOP/s is the 0 quantile of the newest 5 runs; the target is at least 95 FLOP/s"
        in judged.findings[0].detail
    )


def test_with_fewer_runs_a_quantile_is_that_of_those_there_are():
    target = Target(FLOPS, at_least=95, quantile=0.5, runs=20)
    assert judge(run(96.0), [target]).findings == ()
    assert judge(run(94.0), [target]).findings[0].rule == "target-missed"


def test_a_quantile_is_judged_anew_over_the_runs_before_its_own():
    before = past(*(run(value, n) for n, value in enumerate((90.0, 90.0, 90.0, 100.0))))
    latest = Latest.first(judge(run(100.0, 3), []))
    anew = judged_anew(latest, [Target(FLOPS, at_least=95, quantile=0.5)], before).last
    assert [(q.value, q.runs) for q in anew.quantiles] == [(90.0, 20)]
    assert [f.rule for f in anew.findings] == ["target-missed"]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_quantile_lies_between_the_extremes_and_rises_with_its_share(values, share):
    got = quantile(values, share)
    assert min(values) <= got <= max(values)
    assert quantile(values, share / 2) <= got or got == pytest.approx(quantile(values, share / 2))


def test_quantiles_are_those_that_everybody_computes():
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert quantile(list(range(101)), 0.95) == 95
    assert quantile([7.0], 0.9) == 7.0


# -- series ---------------------------------------------------------------------------------------------------------


def families(judged: Result) -> dict[str, list[tuple[dict[str, str], float]]]:
    check = Check("matmul", PROBE, PROBE.params(), 60.0, 5.0)
    series = CheckSeries(check)
    series.latest = Latest.first(judged)
    made = {}
    for family in series.families():
        rows = [(dict(labels), value) for (_, labels), value in zip(family.rows, family.values, strict=True)]
        made[family.name] = rows
    return made


def test_the_verdict_is_on_metrics_with_its_baseline():
    shown = families(judge(run(99.0, 30), [], past(*steady(20))))
    labels = {"metric": FLOPS, "dtype": "fp16", "device": "cuda"}
    assert shown["gpucanary_verdict_info"] == [({**labels, "verdict": "ok"}, 1.0)]
    assert shown["gpucanary_baseline_runs"] == [(labels, 18.0)]
    assert shown["gpucanary_baseline_median"][0][1] == pytest.approx(100, rel=0.01)
    assert shown["gpucanary_baseline_deviation_ratio"][0][1] == pytest.approx(-0.01, abs=0.003)
    assert shown["gpucanary_baseline_shift_ratio"] == [(labels, 0.0)]
    quiet = {row["rule"]: value for row, value in shown["gpucanary_finding"]}
    assert (quiet["regressed"], quiet["improved"], quiet["conditions-changed"]) == (0.0, 0.0, 0.0)


def test_without_a_baseline_there_is_no_median_and_never_a_zero():
    shown = families(judge(run(99.0, 30), [], past(*steady(3))))
    assert shown["gpucanary_verdict_info"][0][0]["verdict"] == "too_few_runs"
    assert shown["gpucanary_baseline_runs"][0][1] == 3.0
    assert {name for name in shown if name.startswith("gpucanary_baseline_")} == {"gpucanary_baseline_runs"}


def test_one_run_that_is_as_before_does_not_hide_how_large_the_regression_is():
    shown = families(lived(*noisy(30, spread=0.005), *noisy(20, 85.0, 0.005), 100.0)[-1])
    assert shown["gpucanary_verdict_info"][0][0]["verdict"] == "regressed"
    assert shown["gpucanary_baseline_deviation_ratio"][0][1] == pytest.approx(0.0, abs=0.01)
    assert shown["gpucanary_baseline_shift_ratio"][0][1] == pytest.approx(-0.15, abs=0.01)


def test_a_check_of_very_many_series_says_that_not_all_baselines_are_shown():
    many = tuple(Measurement(FLOPS, 1.0, (("dtype", f"t{n}"), ("device", "cuda"))) for n in range(COMPARED_LIMIT + 1))
    judged = judge(replace(run(1.0), measurements=many), [], Past((), BETTER))
    shown = families(judged)
    assert len(shown["gpucanary_verdict_info"]) == COMPARED_LIMIT
    worse = replace(judged, comparisons=(*judged.comparisons[:-1], replace(judged.comparisons[-1], state="regressed")))
    (first, *others) = families(worse)["gpucanary_verdict_info"]
    assert (first[0]["dtype"], first[0]["verdict"], len(others)) == (
        f"t{COMPARED_LIMIT}",
        "regressed",
        COMPARED_LIMIT - 1,
    )
    assert {"rule": "series-dropped", "severity": "warning", "subject": ""} in [
        r for r, _ in shown["gpucanary_finding"]
    ]


def test_a_past_holds_no_more_than_two_full_baselines():
    assert WINDOW == 2 * (60 + 8)
    assert judge(run(1.0), [], NOTHING).comparisons == ()
