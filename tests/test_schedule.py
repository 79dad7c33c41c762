"""Does every check run at its time, once at a time, whatever hangs?"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from exporter.lanes import Lanes, lanes_of, light_slots
from exporter.result import Latest, Target
from exporter.schedule import Schedule
from exporter.triggers import GRID, GridTrigger, pace, spread
from probes.api import Aborted
from tests.checks import check, eventually, quiet, result


class Bench:
    """A schedule over hand-made runs; `runs` lists what was recorded, `skips` what did not start."""

    def __init__(self, execute=None, slots=4):
        self.runs, self.skips, self.latest = [], [], {}
        self._execute = execute or (lambda check, token: result(check.name))
        self.schedule = Schedule(
            self._execute,
            self.record,
            self.late,
            lambda *skip: self.skips.append(skip),
            self.latest.get,
            Lanes({"light": slots}),
        )

    def record(self, run):
        before = self.latest.get(run.check)
        self.latest[run.check] = before.after(run) if before else Latest.first(run)
        self.runs.append(run)

    def late(self, check, seconds):
        return result(check.name, "error", detail="late")

    def names(self):
        return [run.check for run in self.runs]


@pytest.fixture
def bench():
    made = []

    def make(*args, **kwargs):
        made.append(Bench(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.schedule.stop()


def test_slots_lie_on_the_grid_at_a_fixed_rate_and_a_stable_offset():
    trigger = GridTrigger("models", 15.0)
    slots = [trigger.after(1_700_000_000.0)]
    while len(slots) < 50:
        slots.append(trigger.after(slots[-1]))
    assert {b - a for a, b in pairwise(slots)} == {15.0}
    assert all(slot % GRID == 0 for slot in slots)
    assert spread("models", 15.0) == spread("models", 15.0) != spread("disk", 15.0)


@pytest.mark.parametrize("every", [0.3, 1.0, 7.3, 86400.0])
def test_the_next_slot_is_always_later_and_never_far(every):
    trigger = GridTrigger("models", every)
    for moment in (0.0, 1.7e9, 1.7e9 + 0.25, 4e9):
        assert moment < trigger.after(moment) <= moment + 2 * every + GRID


def test_many_missed_slots_are_one_run():
    trigger = GridTrigger("models", 5.0)
    long_ago, now = datetime(1990, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    assert trigger.get_next_fire_time(long_ago, now) > now


def test_every_check_runs_soon_after_the_start_and_again(bench):
    b = bench()
    b.schedule.start([check(quiet, f"c{i}", every=1.0, timeout=0.5) for i in range(5)])
    eventually(lambda: all(b.names().count(f"c{i}") >= 2 for i in range(5)))
    assert b.schedule.next_runs().keys() == {f"c{i}" for i in range(5)}


def test_a_change_of_targets_alone_runs_nothing_anew(bench):
    b = bench()
    b.latest["toy"] = Latest.first(result(started=time.time() - 60))
    b.schedule.start([check(quiet, every=3600.0)])
    due = b.schedule.next_runs()["toy"]
    b.schedule.update([check(quiet, every=3600.0, targets=(Target("speed_bytes_per_second", at_least=1),))])
    assert b.schedule.next_runs()["toy"] == due
    assert due - time.time() <= 3600.0 - 60 + 1, "no later than an interval after the last run, whatever the jitter"


def test_a_fresh_result_of_history_is_not_measured_again(bench):
    b = bench()
    b.latest["slow"] = Latest.first(result("slow", started=time.time() - 60))
    b.latest["stale"] = Latest.first(result("stale", started=time.time() - 7200))
    b.schedule.start([check(quiet, "slow", every=3600.0), check(quiet, "stale", every=3600.0)])
    eventually(lambda: "stale" in b.names())
    assert b.schedule.next_runs()["slow"] > time.time()
    assert "slow" not in b.names()


def test_two_runs_of_one_check_never_overlap_and_the_second_is_counted(bench):
    gate = threading.Event()
    running, most = [0], [0]

    def execute(check, token):
        running[0] += 1
        most[0] = max(most[0], running[0])
        gate.wait(5)
        running[0] -= 1
        return result(check.name)

    b = bench(execute)
    b.schedule.start([check(quiet, every=0.5, timeout=0.4)])
    eventually(lambda: ("toy", "overlap") in b.skips)
    gate.set()
    eventually(lambda: bool(b.runs))
    assert most[0] == 1


def test_a_run_that_hangs_is_given_up_recorded_once_and_replaced(bench, monkeypatch):
    monkeypatch.setattr("exporter.schedule.HUNG_GRACE", 0.2)
    monkeypatch.setattr("exporter.schedule.TICK", 0.1)
    release = threading.Event()

    def execute(check, token):
        if check.name.startswith("hung"):
            release.wait(30)
        return result(check.name)

    b = bench(execute, slots=4)
    hung = [check(quiet, f"hung{i}", every=1.0, timeout=0.2) for i in range(8)]
    b.schedule.start([*hung, check(quiet, "fine", every=1.0, timeout=0.5)])
    eventually(lambda: all(b.names().count(f"hung{i}") == 1 for i in range(8)))
    count = b.names().count("fine")
    eventually(lambda: b.names().count("fine") > count)
    release.set()
    eventually(lambda: not b.schedule.running() or all(not n.startswith("hung") for n in b.schedule.running()))
    late = [run for run in b.runs if run.check.startswith("hung") and run.detail == "late"]
    assert len(late) == 8, "what a given-up run returns in the end is dropped"


def test_a_removed_checks_run_is_cancelled_and_its_result_dropped(bench):
    stopped = []

    def execute(check, token):
        try:
            token.wait(10)
        except Aborted as stop:
            stopped.append(stop.reason)
        return result(check.name)

    b = bench(execute)
    b.schedule.start([check(quiet, "gone")])
    eventually(lambda: "gone" in b.schedule.running())
    b.schedule.update([])
    eventually(lambda: stopped == ["removed"])
    assert b.runs == []


def test_a_changed_checks_run_finishes_and_is_dropped(bench):
    gate = threading.Event()

    def execute(check, token):
        if check.every == 60.0:
            gate.wait(5)
        return result(check.name, detail=f"{check.every:g}")

    b = bench(execute)
    b.schedule.start([check(quiet)])
    eventually(lambda: "toy" in b.schedule.running())
    b.schedule.update([check(quiet, every=1.0, timeout=0.5)])
    gate.set()
    eventually(lambda: bool(b.runs))
    assert {run.detail for run in b.runs} == {"1"}


def test_an_exclusive_lane_runs_one_at_a_time_in_order():
    lanes, order, active = Lanes({"light": 8}), [], []

    def call(name):
        def inside():
            active.append(name)
            assert len(active) == 1
            time.sleep(0.01)
            active.remove(name)
            order.append(name)

        return inside

    for i in range(6):
        lanes.submit(frozenset({"gpu:0"}), call(i))
    eventually(lambda: len(order) == 6)
    assert order == sorted(order)
    eventually(lambda: lanes.occupancy()["gpu:0"] == (0, 1))


def test_a_run_of_several_lanes_takes_all_or_none_and_does_not_starve():
    lanes, order, gate = Lanes({}), [], threading.Event()
    lanes.submit(frozenset({"gpu:0"}), lambda: gate.wait(5))
    lanes.submit(frozenset({"gpu:0", "gpu:1"}), lambda: order.append("both"))
    lanes.submit(frozenset({"gpu:1"}), lambda: order.append("one"))
    time.sleep(0.05)
    assert order == [], "gpu:1 is free, but somebody ahead waits for it"
    gate.set()
    eventually(lambda: order == ["both", "one"])


def test_the_time_that_a_card_is_held_is_counted_also_while_it_is_and_of_shared_lanes_never():
    lanes, gate = Lanes({"light": 8}), threading.Event()
    lanes.submit(frozenset({"light"}), lambda: None)
    for _ in range(2):
        lanes.submit(frozenset({"gpu:GPU-a"}), lambda: time.sleep(0.1))
    eventually(lambda: lanes.held_seconds().get("gpu:GPU-a", 0.0) > 0 and lanes.occupancy()["gpu:GPU-a"] == (0, 1))
    before = lanes.held_seconds()
    assert list(before) == ["gpu:GPU-a"]
    assert 0.2 <= before["gpu:GPU-a"] < 1.0
    time.sleep(0.05)
    assert lanes.held_seconds() == before, "a free card costs nothing"
    lanes.submit(frozenset({"gpu:GPU-a"}), lambda: gate.wait(5))
    eventually(lambda: lanes.held_seconds()["gpu:GPU-a"] > before["gpu:GPU-a"] + 0.05)
    gate.set()


def test_a_crash_outside_the_runner_frees_the_lane(caplog):
    lanes, done = Lanes({}), []

    def crash():
        raise RuntimeError("bug")

    lanes.submit(frozenset({"browser"}), crash)
    lanes.submit(frozenset({"browser"}), lambda: done.append(True))
    eventually(lambda: done == [True])
    assert "outside the runner" in caplog.text


def test_run_now_starts_a_check_out_of_turn_once(bench):
    gate = threading.Event()

    def execute(check, token):
        gate.wait(5)
        return result(check.name)

    b = bench(execute)
    b.latest["toy"] = Latest.first(result(started=time.time()))
    b.schedule.start([check(quiet, every=3600.0)])
    assert b.schedule.run_now("toy")
    assert not b.schedule.run_now("toy")
    assert not b.schedule.run_now("stranger")
    gate.set()
    eventually(lambda: b.names() == ["toy"])


@pytest.mark.parametrize(
    ("outcomes", "fields", "seconds"),
    [
        (["ok"], {}, 3600.0),
        (["failed"], {}, 360.0),
        (["failed"], {"retry_every": 10.0}, 10.0),
        (["ok", "degraded"], {}, 3600.0),
        (["failed", "ok"], {}, 3600.0),
    ],
)
def test_a_failing_check_is_retried_sooner(outcomes, fields, seconds):
    latest = Latest.first(result(outcome=outcomes[0]))
    for outcome in outcomes[1:]:
        latest = latest.after(result(outcome=outcome))
    assert pace(check(quiet, every=3600.0, **fields), latest) == seconds


def test_a_first_benchmark_that_is_put_off_is_asked_again_within_a_minute():
    put_off = result(outcome="skipped", skip=("deferred", "gpu_busy"))
    assert pace(check(quiet, every=21600.0), Latest.first(put_off)) == 30.0
    assert pace(check(quiet, every=21600.0), Latest.first(result()).after(put_off)) == 300.0


def test_light_slots_stay_within_bounds_and_benchmarks_share_a_card():
    assert light_slots([check(quiet, every=60.0, timeout=1.0)]) == 16
    assert light_slots([check(quiet, f"c{i}", every=10.0, timeout=9.0) for i in range(1000)]) == 128
    assert lanes_of(check(quiet, lane="gpu")) == {"gpu:0"}
    assert lanes_of(check(quiet, lane="worker")) == {"worker"}
    assert lanes_of(check(quiet, lane="gpu"), {"0": "GPU-a", "GPU-a": "GPU-a"}.__getitem__) == {"gpu:GPU-a"}


@pytest.mark.parametrize("drift", [-86400.0, 86400.0])
def test_a_clock_jump_strands_no_check(bench, monkeypatch, drift):
    monkeypatch.setattr("exporter.schedule.TICK", 0.05)
    b = bench()
    b.schedule.start([check(quiet, every=1.0, timeout=0.5), check(quiet, "slow", every=3600.0)])
    eventually(lambda: "toy" in b.names() and "slow" in b.names())
    moved = time.time
    monkeypatch.setattr(time, "time", lambda: moved() + drift)
    real = datetime

    class Moved(datetime):
        @classmethod
        def now(cls, tz=None):
            return real.fromtimestamp(time.time(), tz)

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Moved)
    count = b.names().count("toy")
    eventually(lambda: b.names().count("toy") > count + 1)
    eventually(lambda: abs(b.schedule.next_runs()["slow"] - time.time()) <= 3601.0)


def test_a_clock_set_back_at_boot_does_not_put_off_the_first_benchmark(bench, monkeypatch):
    b = bench()
    b.schedule.start([check(quiet, lane="gpu", every=6 * 3600.0)])
    moved = time.time
    monkeypatch.setattr(time, "time", lambda: moved() - 3600.0)
    b.schedule._clock_jumped(-3600.0)
    assert 0 < b.schedule.next_runs()["toy"] - time.time() < 60


def test_stopping_cancels_what_runs(bench):
    reasons = []

    def execute(check, token):
        try:
            token.wait(10)
        except Aborted as stop:
            reasons.append(stop.reason)
        return result(check.name)

    b = bench(execute)
    b.schedule.start([check(quiet)])
    eventually(lambda: "toy" in b.schedule.running())
    b.schedule.stop()
    eventually(lambda: reasons == ["shutdown"])
    assert b.runs == []


def test_a_reload_and_a_due_check_never_wait_for_each_other(bench):
    b = bench()
    toys = [check(quiet, f"c{i}", every=60.0) for i in range(3)]
    b.schedule.start(toys)
    inside, done = threading.Event(), threading.Event()

    def due():  # as APScheduler does it: with its own lock held
        with b.schedule._scheduler._jobstores_lock:
            inside.set()
            time.sleep(0.3)
            b.schedule._due("c0")

    def reload():
        inside.wait(5)
        b.schedule.update([check(quiet, f"c{i}", every=30.0) for i in range(3)])
        done.set()

    for call in (due, reload):
        threading.Thread(target=call, daemon=True).start()
    assert done.wait(5), "the schedule is stuck"
    assert b.schedule.next_runs()


def test_a_check_that_changes_its_lane_while_in_line_runs_in_the_right_one(bench):
    seen, gate = [], threading.Event()

    def execute(check, token):
        if check.name == "first":
            gate.wait(5)
        else:
            seen.append((check.lane, b.schedule.lanes.occupancy().get("gpu:0", (0, 1))[0]))
        return result(check.name)

    b = bench(execute, slots=1)
    b.schedule.start([check(quiet, "first")])
    eventually(lambda: "first" in b.schedule.running())
    b.schedule.update([check(quiet, "first"), check(quiet, "second")])
    b.schedule.run_now("second")
    b.schedule.update([check(quiet, "first"), check(quiet, "second", lane="gpu")])
    gate.set()
    eventually(lambda: bool(seen))
    assert seen[0] == ("gpu", 1)


def test_a_changed_or_removed_check_whose_old_run_hangs_is_free_and_costs_no_slot(bench, monkeypatch):
    monkeypatch.setattr("exporter.schedule.HUNG_GRACE", 0.2)
    monkeypatch.setattr("exporter.schedule.TICK", 0.1)
    release = threading.Event()

    def execute(check, token):
        if check.every == 600.0:
            release.wait(30)
        return result(check.name)

    b = bench(execute, slots=2)
    b.schedule.start([check(quiet, name, every=600.0, timeout=0.3) for name in ("changed", "removed")])
    eventually(lambda: len(b.schedule.running()) == 2)
    b.schedule.update([check(quiet, "changed", every=1.0, timeout=0.3)])
    eventually(lambda: b.names().count("changed") >= 2)
    assert all(run.outcome == "ok" for run in b.runs), "nothing is said on behalf of a check that is no more"
    assert b.schedule.lanes.occupancy()["light"][1] == 4
    release.set()
    eventually(lambda: b.schedule.lanes.occupancy()["light"][1] == 2)
