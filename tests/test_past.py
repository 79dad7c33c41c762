"""Is what the verdict stands on kept over a restart, bounded, and made of recorded runs alone?"""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter import injection
from exporter.app import App
from exporter.baseline import NOTHING, WINDOW
from exporter.cli import main
from exporter.config import Config, Storage
from exporter.history import History, recall
from exporter.machine import Machine
from exporter.past import Pasts
from exporter.redaction import Redactor
from exporter.registry import NoParams, Registry
from exporter.result import SEVERITY_OUTCOME, Check, Latest, Result, Target
from exporter.world.token import Token
from probes.api import Aborted, Fact, Identity, Measurement, Needs, Probe, World
from probes.rules import (
    BELOW_EXPECTED,
    BENCHMARK_NOT_ON_CARD,
    DEADLINE_MISSED,
    REGRESSED,
    TARGET_MISSED,
    WORKER_CRASHED,
    WORKER_LATE,
    WORKER_OUT_OF_MEMORY,
)
from tests.checks import DOWN, SLOW, SPEED, check, eventually, quiet, result
from tests.conftest import TORCH_PYTHON

LABELS = {"path": "/a"}
values: list[float] = []


def measure(params: NoParams, world: World) -> Iterator[Fact]:
    """A benchmark that takes no time: it measures what the test wants next."""
    yield Identity({"uuid": "GPU-a"})
    yield SPEED(values.pop(0) if values else 100.0, **LABELS)


TOY = Probe("toy", NoParams, measure, (SPEED,), needs=Needs("worker"), family="benchmarks")
BENCH = Check("toy", TOY, NoParams(), 3600.0, 5.0)
IDENTITY = {"params": BENCH.identity, "uuid": "GPU-a"}


def before(number: int, level: float = 100.0, **fields: object) -> list[Result]:
    """Recorded runs of the past, an hour apart."""
    now = time.time()
    return [
        result(started=now - 3600 * (number - n), measurements=(SPEED(level + n % 3 / 10, **LABELS),), **fields)  # type: ignore[arg-type]
        for n in range(number)
    ]


def store(folder: Path, *results: Result) -> None:
    history = History(folder / "history.sqlite", 30 * 86400.0, 1 << 30)
    for one in results:
        history.append(Latest.first(one))
    history.close()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = opened(tmp_path)
    yield made
    made.stop()


def opened(folder: Path, *checks: Check) -> App:
    config = replace(Config(), checks=checks or (BENCH,), storage=Storage(path=str(folder)))
    return begun(App(config, lambda: config, Registry(), Machine().doors, Redactor()))


def begun(app: App) -> App:
    """So that it can be stopped; it runs nothing by itself."""
    app.schedule.start(())
    return app


def run(app: App, value: float) -> Result:
    values.append(value)
    judged = app.execute(BENCH, Token(5.0))
    app.journal.record(judged)
    return judged


def test_a_restart_keeps_the_baseline_and_the_verdict(tmp_path):
    slow_before = result(started=time.time() - 1800, measurements=(SPEED(80.0, **LABELS),), identity=IDENTITY)
    store(tmp_path, *before(20, identity=IDENTITY), slow_before)
    first = opened(tmp_path)
    assert run(first, 80.0).comparisons[0].state == "ok"
    first.stop()
    second = opened(tmp_path)
    assert 'gpucanary_verdict_info{check="toy",metric="speed_bytes_per_second",path="/a",verdict="ok"} 1.0' in text(
        second
    ).replace('verdict="ok",path="/a"', 'path="/a",verdict="ok"')
    judged = run(second, 80.0)
    second.stop()
    assert judged.comparisons[0].state == "regressed"
    assert judged.comparisons[0].runs == 20
    assert [f.rule for f in judged.findings] == ["regressed"]


def text(app: App) -> str:
    return app.metrics(compressed=False).decode()


def test_history_is_read_once_and_then_no_more(app):
    asked = []
    read = app.history.runs
    app.history.runs = lambda *given, **named: asked.append(given) or read(*given, **named)
    for value in (1.0, 2.0, 3.0):
        run(app, value)
    assert len(asked) == 1
    assert [one.values for one in app.pasts.of(BENCH).runs] == [
        {("speed_bytes_per_second", (("path", "/a"),)): value} for value in (1.0, 2.0, 3.0)
    ]


def test_cheap_checks_never_read_history():
    asked = []
    pasts = Pasts(lambda *given: asked.append(given) or [])
    assert pasts.of(check(quiet)) is NOTHING
    assert asked == []
    pasts.of(check(quiet, targets=(Target("speed_bytes_per_second", at_least=1.0, quantile=0.5),)))
    assert asked == [("toy", WINDOW)]


def test_a_past_is_bounded_and_made_of_measured_runs():
    skipped = result(outcome="skipped", skip=("deferred", "gpu_busy"))
    pasts = Pasts(lambda name, limit: [*before(WINDOW), skipped])
    assert len(pasts.of(BENCH).runs) == WINDOW
    for one in (skipped, result(outcome="error"), *before(3, 7.0)):
        pasts.add(one)
    kept = pasts.of(BENCH).runs
    assert len(kept) == WINDOW
    assert [round(next(iter(r.values.values()))) for r in kept[-4:]] == [100, 7, 7, 7]


def test_thirty_benchmarks_with_full_pasts_take_less_than_four_mebibytes():
    """Of the sixty that the exporter may take. Read as from disk: no two runs share a text."""
    conditions = {name: f"{name} of this machine" for name in ("driver", "torch", "cuda", "python", "executable")}

    def read(name: str, limit: int) -> list[Result]:
        run = json.dumps(
            result(
                name,
                identity=IDENTITY,
                conditions=conditions,
                measurements=[SPEED(1.0, path=str(n)) for n in range(6)],
            ).to_dict()
        )
        return [replace(Result.from_dict(json.loads(run)), started=float(n)) for n in range(limit)]

    pasts = Pasts(read)
    pasts.of(replace(BENCH, name="the first of a process is not counted"))
    tracemalloc.start()
    for number in range(30):
        assert len(pasts.of(replace(BENCH, name=f"bench-{number}")).runs) == WINDOW
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 4 * 2**20


def test_a_run_is_in_its_past_once():
    once = before(1)[0]
    pasts = Pasts(lambda *given: [once])
    pasts.of(BENCH)
    pasts.add(once)
    assert len(pasts.of(BENCH).runs) == 1


def test_another_param_begins_another_past():
    class Sized(NoParams):
        size: int = 0

    probe = Probe("toy", Sized, quiet, (SPEED,), family="benchmarks")  # type: ignore[type-var]
    small, large = (Check("toy", probe, Sized(size=size), 3600.0, 5.0) for size in (0, 8))
    assert small.identity != large.identity
    assert Check("toy", probe, Sized(), 60.0, 1.0).identity == small.identity
    asked = []
    pasts = Pasts(lambda name, limit: asked.append(name) or [])
    for one in (small, small, large):
        pasts.of(one)
    assert len(asked) == 2


def test_deferred_runs_do_not_crowd_out_the_measured_ones(tmp_path):
    busy = [result(outcome="skipped", skip=("deferred", "gpu_busy"), started=time.time() + 61 * n) for n in range(12)]
    store(tmp_path, *before(5), *busy)
    history = History(tmp_path / "history.sqlite", 30 * 86400.0, 1 << 30)
    assert len(history.runs("toy", limit=10, measured=True)) == 5
    assert {run.outcome for run in history.runs("toy", limit=10)} == {"skipped"}
    history.close()


def test_an_injected_finding_is_in_no_result_and_so_in_no_baseline(app, tmp_path):
    run(app, 100.0)
    injection.begin(tmp_path, "toy", "toy-slow", "critical", "injected", 60)
    judged = run(app, 100.0)
    assert 'rule="toy-slow",severity="critical",subject="injected"' in text(app)
    assert (judged.findings, judged.outcome) == ((), "ok")
    assert [one.strains for one in app.pasts.of(BENCH).runs] == [frozenset(), frozenset()]


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (WORKER_CRASHED("SIGSEGV"), False),
        (WORKER_LATE("not done after 300 s"), False),
        (WORKER_OUT_OF_MEMORY("CUDA out of memory"), False),
        (BENCHMARK_NOT_ON_CARD("torch sees no CUDA device"), False),
        (replace(DEADLINE_MISSED("not done"), severity="critical"), False),
        (DOWN("wrong bits"), False),
        (replace(TARGET_MISSED("too slow"), severity="critical"), True),
        (REGRESSED("80 is 20% below"), True),
        (BELOW_EXPECTED("half of what it should be"), True),
        (SLOW("a note of the probe's"), True),
    ],
    ids=lambda value: getattr(value, "rule", ""),
)
def test_a_run_that_broke_off_or_ran_elsewhere_is_in_no_baseline_and_a_slow_one_is(found, counts):
    outcome = SEVERITY_OUTCOME[found.severity]
    known = {"measurements": (SPEED(9.0, **LABELS),), "findings": (found,), "identity": IDENTITY}
    runs = [*before(5), result(outcome=outcome, started=1.0, **known)]
    pasts = Pasts(lambda *given: runs)
    assert len(pasts.of(BENCH).runs) == 5 + counts, "read from history"
    pasts.add(result(outcome=outcome, started=2.0, **known))
    assert len(pasts.of(BENCH).runs) == 5 + 2 * counts, "as it arrives"


def test_a_run_that_was_stopped_after_it_measured_is_in_no_baseline(app):
    run(app, 100.0)

    def stopped(params: NoParams, world: World) -> Iterator[Fact]:
        yield from measure(params, world)
        raise Aborted("gpu_busy")

    values.append(7.0)
    halted = app.execute(replace(BENCH, probe=replace(TOY, run=stopped)), Token(5.0))
    app.journal.record(halted)
    assert (halted.skip, len(halted.measurements)) == (("deferred", "gpu_busy"), 1)
    assert [list(one.values.values()) for one in app.pasts.of(BENCH).runs] == [[100.0]]


def test_services_that_fail_count_for_a_quantile():
    slow = replace(check(quiet), targets=(Target("speed_bytes_per_second", at_least=1.0, quantile=0.5),))
    failed = result(outcome="failed", measurements=(SPEED(9.0, **LABELS),), findings=(DOWN("500"),))
    assert len(Pasts(lambda *given: [failed]).of(slow).runs) == 1


def test_a_target_set_by_a_reload_is_held_against_the_past(tmp_path):
    store(tmp_path, *before(20, 90.0, identity=IDENTITY))
    target = Target("speed_bytes_per_second", at_least=95.0, quantile=0.5, runs=10)
    plain, strict = (replace(BENCH, targets=targets) for targets in ((), (target,)))
    config = replace(Config(), checks=(plain,), storage=Storage(path=str(tmp_path)))
    configs = [replace(config, checks=(strict,))]
    app = begun(App(config, lambda: configs[0], Registry(), Machine().doors, Redactor()))
    assert run(app, 100.0).outcome == "ok"
    app.reload()
    latest = app.latest("toy")
    app.stop()
    assert latest is not None
    assert [q.value for q in latest.last.quantiles] == [pytest.approx(90.1)]
    assert latest.last.outcome == "degraded"


# -- by hand --------------------------------------------------------------------------------------------------------


def test_what_another_process_may_be_writing_is_read_without_touching_it(tmp_path):
    history = History(tmp_path / "history.sqlite", 30 * 86400.0, 1 << 30)
    for one in before(3):
        history.append(Latest.first(one))
    eventually(lambda: history.flush() or len(recall(tmp_path / "history.sqlite", "toy", 10)) == 3)
    assert len(recall(tmp_path / "history.sqlite", "toy", 2)) == 2
    history.close()


@pytest.mark.parametrize("content", [None, b"", b"no database"])
def test_a_history_that_cannot_be_read_is_no_past(tmp_path, content):
    path = tmp_path / "history.sqlite"
    if content is not None:
        path.write_bytes(content)
    assert recall(path, "toy", 10) == []
    assert list(tmp_path.iterdir()) == ([path] if content is not None else [])


@pytest.mark.torch
def test_a_hand_run_is_judged_by_history_and_leaves_it_alone(tmp_path, capsys):
    def hand_run(*flags: str) -> dict[str, Any]:
        params = [f"--param={name}" for name in ("device=cpu", "size=64", "seconds=50ms")]
        where = [f"--interpreter={TORCH_PYTHON}", f"--storage.path={tmp_path}"]
        main(["run", "matmul", "--json", *params, *where, *flags])
        (told,) = json.loads(capsys.readouterr().out)
        assert told["outcome"] in ("ok", "degraded"), told
        return told

    path = tmp_path / "history.sqlite"
    assert hand_run("--record")["comparisons"][0]["state"] == "too_few_runs"
    (real,) = recall(path, "matmul", 10)
    (m,) = real.measurements
    begun = real.started - 30 * 3600
    fast = [Measurement(m.metric, m.value * (1e9 + n % 3), m.labels) for n in range(20)]  # no busy machine is that slow
    store(
        tmp_path,
        *(replace(real, started=begun + n * 3600, measurements=(fast[n],)) for n in range(20)),
        *(replace(real, started=begun + n * 3600) for n in range(20, 22)),
    )
    told = hand_run()
    (compared,) = told["comparisons"]
    assert (compared["state"], compared["labels"]) == ("regressed", {"dtype": "fp32", "device": "cpu"})
    assert compared["shift"] == pytest.approx(-1.0, abs=1e-3)
    assert "regressed" in [finding["rule"] for finding in told["findings"]]
    assert len(recall(path, "matmul", 100)) == 23
