"""Does one run always end in a Result, with the right outcome and nothing lost?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from exporter.history import History
from exporter.metrics import CheckSeries
from exporter.result import Comparison, Expectation, Latest, Quantile, Result
from exporter.runner import EVIDENCE_LIMIT, REMEMBER_LIMIT, run
from exporter.world.token import Token
from probes.api import (
    Aborted,
    Blind,
    Conditions,
    Deferred,
    Energy,
    Evidence,
    Finding,
    Identity,
    Measurement,
    NotApplicable,
    Progress,
    Remember,
    SubjectFailed,
)
from probes.rules import WORKER_CRASHED
from probes.testing import RecordedWorld
from tests.checks import DOWN, LINES, NOTE, SLOW, SPEED, check, quiet, result


def ran(facts, ends=None, lane="light", token=None):
    def probe_run(params, world):
        yield from facts
        if ends is not None:
            raise ends

    return run(check(probe_run, lane=lane), RecordedWorld({}), token or Token(5.0))


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ([SPEED(1, path="/")], "ok"),
        ([NOTE("look")], "ok"),
        ([SLOW("1 s")], "degraded"),
        ([SLOW("1 s"), DOWN("gone")], "failed"),
    ],
)
def test_findings_decide_the_outcome(facts, outcome):
    assert ran(facts).outcome == outcome


@pytest.mark.parametrize(
    ("stop", "skip"),
    [
        (Blind("permission", "chmod it"), ("blind", "permission")),
        (NotApplicable("no_gpu"), ("not_applicable", "no_gpu")),
        (Deferred("preparing"), ("deferred", "preparing")),
    ],
)
def test_a_stop_is_a_skip_with_its_class_and_reason(stop, skip):
    got = ran([SPEED(1, path="/")], stop)
    assert (got.outcome, got.skip, got.detail) == ("skipped", skip, stop.detail)
    assert got.measurements == (SPEED(1, path="/"),), "facts before the stop are kept"


def test_the_worse_outcome_wins_over_a_stop_and_over_our_own_error():
    assert ran([DOWN("gone")], Blind("permission")).outcome == "failed"
    assert ran([SLOW("1 s")], Blind("permission")).outcome == "degraded"
    assert ran([DOWN("gone")], RuntimeError("bug")).outcome == "failed"
    assert ran([SLOW("1 s")], RuntimeError("bug")).outcome == "error"


def test_an_exception_is_our_error_and_carries_its_traceback():
    got = ran([SPEED(1, path="/")], ZeroDivisionError("oh"))
    assert got.outcome == "error"
    assert "ZeroDivisionError: oh" in got.detail
    assert [f.rule for f in got.findings] == ["check-error"]


def test_a_crashed_worker_is_the_subjects_fault_and_its_log_is_kept():
    got = ran([], SubjectFailed(WORKER_CRASHED("exit 139"), "Segmentation fault"))
    assert (got.outcome, got.findings[0].rule, got.evidence) == (
        "failed",
        "worker-crashed",
        {"worker log": "Segmentation fault"},
    )


@pytest.mark.parametrize(("lane", "outcome"), [("light", "error"), ("worker", "failed"), ("gpu", "failed")])
def test_a_missed_deadline_is_ours_in_a_light_lane_and_the_subjects_elsewhere(lane, outcome):
    got = ran([], Aborted("deadline"), lane)
    assert (got.outcome, got.findings[0].rule) == (outcome, "deadline-missed")


def test_a_run_that_never_asks_a_door_still_stops_at_its_deadline():
    def forever(params, world):
        while True:
            yield NOTE("again")

    got = run(check(forever), RecordedWorld({}), Token(0.05))
    assert got.outcome == "error"


def test_an_abort_for_any_other_reason_is_deferred():
    token = Token(5.0)
    token.cancel("shutdown")
    token.cancel("gpu_busy")
    got = ran([SPEED(1, path="/")], token=token)
    assert (got.outcome, got.skip) == ("skipped", ("deferred", "shutdown"))


@pytest.mark.parametrize(
    "fact",
    [
        "not a fact",
        Remember({"blob": "x" * REMEMBER_LIMIT}),
        Remember({"nan": float("nan")}),
    ],
)
def test_nonsense_from_a_probe_is_our_error(fact):
    assert ran([fact]).outcome == "error"


def test_undeclared_and_repeated_measurements_are_refused():
    from probes.api import Finding, Measurement

    assert "not declared" in ran([Measurement("stranger", 1.0)]).detail
    assert "not declared" in ran([Finding("stranger", "critical", "x")]).detail
    assert "twice" in ran([SPEED(1, path="/"), SPEED(2, path="/")]).detail


def test_repeated_events_add_up():
    assert ran([LINES(1, **{"class": "oom"}), LINES(2, **{"class": "oom"})]).measurements[0].value == 3


def test_progress_identity_conditions_evidence_and_memory_reach_their_places():
    seen = []
    token = Token(5.0, lambda done, total: seen.append((done, total)))
    facts = [
        Progress(1, 4),
        Identity({"uuid": "GPU-1"}),
        Conditions({"torch": "2.13"}),
        Remember({"at": 7}),
        Evidence("log", "x" * 9999),
    ]
    got = ran(facts, token=token)
    assert seen == [(1, 4)]
    assert (got.identity, got.conditions, got.remember) == ({"uuid": "GPU-1"}, {"torch": "2.13"}, {"at": 7})
    assert len(got.evidence["log"]) == EVIDENCE_LIMIT


def test_the_probes_finally_block_runs_whatever_happens():
    closed = []

    def careful(params, world):
        try:
            yield SPEED(1, path="/")
            yield "nonsense"
        finally:
            closed.append(True)

    assert run(check(careful), RecordedWorld({}), Token(5.0)).outcome == "error"
    assert closed == [True]


def test_secrets_are_hidden_in_every_text():
    def leaky(params, world):
        yield SLOW("token hunter2", subject="hunter2")
        yield Evidence("log", "hunter2")
        raise RuntimeError("hunter2")

    got = run(check(leaky), RecordedWorld({}), Token(5.0), lambda text: text.replace("hunter2", "***"))
    assert "hunter2" not in str(got)


def test_bytes_that_are_no_text_reach_every_view_as_text(tmp_path):
    def odd(params, world):
        yield SPEED(1, path="/mnt/\udcff")
        yield SLOW("\udcff", subject="\udcff")
        yield Evidence("log", "\udcff")
        yield Remember({"path": "\udcff"})

    checked = check(odd)
    latest = Latest.first(run(checked, RecordedWorld({}), Token(5.0)))
    assert latest.last.outcome == "degraded"
    series = CheckSeries(checked)
    series.latest = latest
    assert b"/mnt/?" in series.blocks()["gpucanary_toy_speed_bytes_per_second"][1]
    history = History(tmp_path / "history.sqlite", 1e9, 1 << 30)
    history.know({"toy": "f1"})
    history.append(latest)
    history.flush()
    assert history.latest()["toy"].remembered == {"path": "\udcff"}
    history.close()


def test_results_and_latest_survive_a_round_trip_through_plain_data():
    first = ran([SPEED(1, path="/"), SLOW("1 s", "a"), Remember({"at": 1}), Evidence("log", "x")], Blind("permission"))
    assert Result.from_dict(first.to_dict()) == first
    latest = Latest.first(first).after(ran([SPEED(2, path="/")]))
    assert Latest.from_dict(latest.to_dict()) == latest
    newer = {**first.to_dict(), "field_of_the_future": 1}
    assert Result.from_dict(newer) == first
    labels = (("path", "/"),)
    whole = replace(
        first,
        comparisons=(Comparison("speed", labels, "ok", 20),),
        quantiles=(Quantile("speed", labels, 0.95, 20, 1.0),),
        expectations=(Expectation("speed", labels, 2.0, 0.5),),
        energy=(Energy(0, "GPU-1", 3.0),),
    )
    data = json.loads(json.dumps(whole.to_dict()))
    for part in ("comparisons", "quantiles", "expectations", "energy"):
        data[part][0]["field_of_the_future"] = 1
    assert Result.from_dict(data) == whole


def test_a_deferred_run_leaves_the_measured_one_and_a_blind_one_removes_it():
    measured = Latest.first(ran([SPEED(1, path="/"), Remember({"at": 1})]))
    deferred = measured.after(ran([], Deferred("gpu_busy")))
    assert deferred.measured is measured.measured
    blind = deferred.after(ran([], Blind("permission")))
    assert blind.measured is None
    assert blind.remembered == {"at": 1}, "what was remembered outlives blindness"
    assert deferred.after(ran([], RuntimeError())).measured is None


def test_failures_in_a_row_and_since_follow_the_outcomes():
    latest = Latest.first(result(outcome="ok", started=1))
    for moment, outcome in ((2, "failed"), (3, "failed"), (4, "skipped"), (5, "failed")):
        latest = latest.after(result(outcome=outcome, started=moment))
    assert (latest.failures, latest.since, latest.succeeded) == (3, 5, 1)
    assert latest.after(result(outcome="degraded", started=6)).failures == 0


def test_quiet_is_ok():
    assert run(check(quiet), RecordedWorld({}), Token(5.0)).outcome == "ok"


def test_a_plugin_that_breaks_every_rule_still_makes_a_result():
    def exits(params, world):
        yield SPEED(1, path="/")
        raise SystemExit(3)

    def undeclared(params, world):
        raise SubjectFailed(Finding("never-declared", "critical", "x"))
        yield

    def severe(params, world):
        yield Finding("toy-slow", "fatal", "x")

    def named(params, world):
        yield Measurement("speed_bytes_per_second", 1.0, (("check", "other"),))

    def wordy(params, world):
        yield Measurement("speed_bytes_per_second", "fast", (("path", "/"),))

    for run_ in (exits, undeclared, severe, named, wordy):
        ended = run(check(run_), None, Token(5.0))
        assert ended.outcome == "error", run_.__name__
        assert ended.findings[-1].rule == "check-error"


def test_secrets_in_labels_identity_and_conditions_are_hidden():
    def leaky(params, world):
        yield SPEED(1, path="/hunter2")
        yield Identity({"card": "hunter2"})
        yield Conditions({"driver": "hunter2", "count": 3})

    told = run(check(leaky), None, Token(5.0), lambda text: text.replace("hunter2", "***"))
    assert "hunter2" not in str(told.to_dict())
    assert told.conditions == {"driver": "***", "count": "3"}, "what is not text would never reach the disk"


@pytest.mark.parametrize(("lane", "rules"), [("gpu", ["toy-down"]), ("light", ["deadline-missed"])])
def test_a_probe_whose_worker_missed_the_deadline_may_still_say_how(lane, rules):
    got = ran([SPEED(1, path="/"), DOWN("the program did not end")], lane=lane, token=Token(0.0))
    assert [f.rule for f in got.findings] == rules
