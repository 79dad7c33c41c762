"""Are targets held against the right series, and do they fail closed?"""

from __future__ import annotations

import pytest

from exporter.judge import judge, judged_anew, verdicts
from exporter.result import Latest, Target
from tests.checks import SLOW, SPEED, result

TWO = (SPEED(10, path="/a"), SPEED(3, path="/b"))


def test_a_target_judges_every_series_that_carries_its_labels():
    target = Target("speed_bytes_per_second", at_least=5)
    assert [v.met for v in verdicts(result(measurements=TWO), [target])] == [True, False]
    only_a = Target("speed_bytes_per_second", at_least=5, labels={"path": "/a"})
    assert [v.met for v in verdicts(result(measurements=TWO), [only_a])] == [True]


def test_a_missing_value_fails_closed():
    got = judge(result(measurements=()), [Target("speed_bytes_per_second", at_most=5, severity="critical")])
    assert got.outcome == "failed"
    assert "no value was measured" in got.findings[0].detail


def test_a_run_that_failed_already_is_not_blamed_for_its_missing_values_too():
    run = result(outcome="failed", measurements=())
    assert judge(run, [Target("speed_bytes_per_second", at_most=5)]) is run


@pytest.mark.parametrize(("severity", "outcome"), [("info", "ok"), ("warning", "degraded"), ("critical", "failed")])
def test_the_targets_severity_decides_the_outcome(severity, outcome):
    got = judge(result(measurements=TWO), [Target("speed_bytes_per_second", at_least=5, severity=severity)])
    assert got.outcome == outcome
    assert got.findings[0].subject == "speed_bytes_per_second{path=/b}"
    assert got.findings[0].detail == "3 B/s; the target is at least 5 B/s"


def test_a_value_that_reads_like_the_bound_it_misses_is_told_in_full():
    got = judge(result(measurements=TWO), [Target("speed_bytes_per_second", at_most=9.9999, labels={"path": "/a"})])
    assert got.findings[0].detail == "10; the target is at most 9.9999"


def test_both_bounds_are_inclusive():
    target = Target("speed_bytes_per_second", at_least=3, at_most=10)
    assert all(v.met for v in verdicts(result(measurements=TWO), [target]))


def test_records_of_before_are_judged_anew_under_the_targets_of_today():
    strict, lax = (
        Target("speed_bytes_per_second", at_least=5, severity="critical"),
        Target("speed_bytes_per_second", at_least=1),
    )
    measured = judge(result(outcome="degraded", measurements=TWO, findings=(SLOW("1 s"),)), [strict])
    assert measured.outcome == "failed"
    put_off = result(outcome="skipped", skip=("deferred", "gpu_busy"))
    for latest in (Latest.first(measured), Latest.first(measured).after(put_off)):
        now = judged_anew(latest, [lax])
        assert (now.measured.outcome, now.measured.findings) == ("degraded", (SLOW("1 s"),))
        assert now.last is now.measured or now.last is put_off
        assert judged_anew(now, [strict]).measured == measured


@pytest.mark.parametrize("outcome", ["skipped", "error"])
def test_skipped_and_broken_runs_are_nobodys_verdict(outcome):
    run = result(outcome=outcome)
    assert judge(run, [Target("speed_bytes_per_second", at_least=5)]) is run


def test_what_does_not_apply_here_misses_no_target_and_what_was_measured_stands():
    target = Target("speed_bytes_per_second", at_least=5, labels={"path": "/c"})
    run = result(outcome="skipped", skip=("not_applicable", "unsupported"), measurements=TWO)
    assert run.measured
    assert judge(run, [target]) is run
    assert judged_anew(Latest.first(run), [target]).measured == run
    low = Target("speed_bytes_per_second", at_least=5)
    assert judge(run, [low]).outcome == "degraded", "what it did measure is held against its targets"
    assert not result(outcome="skipped", skip=("not_applicable", "unsupported"), measurements=()).measured
    assert not result(outcome="skipped", skip=("blind", "no_torch"), measurements=TWO).measured
    assert not result(outcome="skipped", skip=("deferred", "gpu_busy"), measurements=TWO).measured


def test_a_worse_outcome_stays():
    assert (
        judge(result(outcome="failed", measurements=TWO), [Target("speed_bytes_per_second", at_least=5)]).outcome
        == "failed"
    )
