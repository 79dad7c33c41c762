"""Is nothing lost between runs, restarts, full disks and damaged files?"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from exporter.history import QUEUE_ROWS, History, recall
from exporter.journal import Journal
from exporter.result import Comparison, Latest
from tests.checks import SPEED, eventually, result

VERSION_1 = Path(__file__).parent / "history-v1.sqlite"


@pytest.fixture
def opened(tmp_path):
    files = []

    def open_(path=None, age=86400.0, size=1 << 30):
        history = History(path or tmp_path / "state" / "history.sqlite", age, size)
        history.know({"toy": "f1"})
        files.append(history)
        return history

    yield open_
    for history in files:
        history.close()


def change(path, statement):
    with closing(sqlite3.connect(path)) as database:
        database.executescript(statement)


def test_a_restart_finds_the_latest_of_the_same_fingerprint(opened):
    first = opened()
    latest = Latest.first(result(measurements=(SPEED(5, path="/"),), started=100.0))
    first.append(latest)
    first.close()
    second = opened()
    assert second.latest() == {"toy": latest}
    second.know({"toy": "other params"})
    assert second.latest() == {}


def test_runs_come_back_oldest_first_within_bounds(opened):
    history = opened()
    for moment in range(5):
        history.append(Latest.first(result(started=1000.0 + 100 * moment)))
    assert [r.started for r in history.runs("toy", limit=3)] == [1200.0, 1300.0, 1400.0]
    assert [r.started for r in history.runs("toy", since=1300.0)] == [1400.0]
    assert history.runs("stranger") == []


def test_fast_checks_keep_each_change_of_outcome_and_one_row_a_minute(opened):
    history = opened()
    outcomes = ["ok"] * 10 + ["failed"] * 10 + ["ok"] * 10
    for i, outcome in enumerate(outcomes):
        history.append(Latest.first(result(outcome=outcome, started=1000.0 + 5 * i)))
    kept = [(r.started, r.outcome) for r in history.runs("toy")]
    assert kept == [(1000.0, "ok"), (1050.0, "failed"), (1100.0, "ok")]


def test_a_fast_check_that_says_nothing_new_is_written_once_a_minute_and_at_the_end(opened):
    first = opened()
    for i in range(10):
        first.append(Latest.first(result(started=1000.0 + 5 * i)))
    first.flush()
    assert first.latest()["toy"].last.started == 1000.0
    first.append(Latest.first(result(started=1050.0, remember={"offset": 7})))
    first.flush()
    assert first.latest()["toy"].remembered == {"offset": 7}, "what a run remembers is never held back"
    first.append(Latest.first(result(started=1055.0)))
    first.close()
    assert opened().latest()["toy"].last.started == 1055.0


def test_a_write_that_fails_is_counted_kept_and_written_later(opened):
    history = opened()
    with history._locked() as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk is full"
    journal = Journal(history)
    big = "x" * 20_000
    journal.record(result(evidence={"log": big}, started=1.0))
    history.flush()
    assert history.write_failures == 1
    assert "full" in history.last_error
    assert journal.latest("toy") is not None, "memory first"
    with history._locked() as database:
        database.execute("PRAGMA max_page_count = 1000000")
    history.flush()
    assert history.last_error == ""
    assert [r.started for r in history.runs("toy")] == [1.0]


def test_a_disk_that_stays_full_costs_bounded_memory(opened):
    history = opened()
    with history._locked() as database:
        database.execute("PRAGMA query_only = 1")
    for i in range(QUEUE_ROWS + 50):
        history._runs.append(result(started=float(i)))
    history._dirty["toy"] = Latest.first(result())
    history.flush()
    history.flush()
    assert history.write_failures >= 1
    assert len(history._runs) == QUEUE_ROWS
    assert "toy" in history._dirty, "the latest is never dropped"


def test_what_is_too_big_takes_no_baseline_from_a_benchmark_that_runs_seldom(opened):
    history = opened(age=30 * 86400.0, size=300_000)
    begun = time.time() - 29 * 86400
    for n in range(100):
        history.append(Latest.first(result("seldom", started=begun + 6 * 3600 * n)))
    for n in range(4000):
        history.append(Latest.first(result("often", started=begun + 60 * n)))
    history.flush()
    history.prune()
    assert history.size() <= 300_000
    assert len(history.runs("seldom", limit=1000)) == 100
    often = [run.started for run in history.runs("often", limit=5000)]
    assert (often[-1], len(often) > 136) == (begun + 60 * 3999, True)


def test_a_size_that_is_too_small_for_the_baselines_is_kept_all_the_same(opened):
    history = opened(size=100_000)
    for n in range(200):
        history.append(Latest.first(result(f"c{n % 5}", started=time.time() - 61 * n)))
    history.flush()
    history.prune()
    assert history.size() <= 100_000
    assert history.runs("c0", limit=1000)


def test_a_clock_that_was_wrong_for_a_while_changes_no_order(opened):
    history = opened()
    ahead, now = time.time() + 10 * 365 * 86400, time.time()
    for started in (now - 300, ahead, ahead + 61, now - 200, now - 100):
        history.append(Latest.first(result(started=started)))
    assert [run.started for run in history.runs("toy")] == [now - 300, ahead, ahead + 61, now - 200, now - 100]


def test_a_damaged_record_is_left_out_and_the_others_are_read(opened):
    history = opened()
    for n in range(4):
        history.append(Latest.first(result(started=1000.0 + 100 * n)))
    history.flush()
    for started, record in ((1000.0, "{"), (1100.0, "[]"), (1200.0, '{"measurements": [["x"]], "findings": 3}')):
        change(history.path, f"UPDATE runs SET record = '{record}' WHERE started = {started}")
    assert [run.started for run in history.runs("toy")] == [1300.0]
    assert [run.started for run in recall(history.path, "toy", 10)] == [1300.0]


def test_each_run_of_a_benchmark_is_kept_however_soon_it_follows(opened):
    history = opened()
    for n in range(3):
        compared = (Comparison("speed_bytes_per_second", (), "too_few_runs", n),)
        history.append(Latest.first(result(started=1000.0 + n, comparisons=compared)))
    assert len(history.runs("toy")) == 3


def test_retention_by_age_and_by_size(opened):
    history = opened(age=3600.0, size=200_000)
    now = time.time()
    history._runs.extend(result(started=now - 7200 + i) for i in range(10))
    history._runs.extend(result(started=now - 100 + i / 100, evidence={"log": "y" * 1000}) for i in range(1000))
    history.flush()
    history.prune()
    kept = history.runs("toy", limit=5000)
    assert kept
    assert kept[0].started > now - 3600
    assert kept[-1].started == pytest.approx(now - 100 + 9.99), "the newest stay"
    assert history.size() <= 200_000


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda p: p.write_bytes(b"this is no database at all, just text" * 100), "not a database"),
        (lambda p: change(p, "PRAGMA user_version = 99"), "schema 99"),
        (lambda p: change(p, "CREATE TABLE mine (x)"), "something else"),
    ],
)
def test_an_unusable_file_is_moved_aside_and_nothing_is_lost(tmp_path, opened, damage, word):
    path = tmp_path / "history.sqlite"
    damage(path)
    before = path.read_bytes()
    history = opened(path)
    assert word in history.moved_aside
    aside = [p for p in tmp_path.iterdir() if p.name.endswith(".aside")]
    assert [p.read_bytes() for p in aside] == [before]
    history.append(Latest.first(result()))
    eventually(lambda: bool(history.latest()))


def test_a_damaged_page_is_noticed(tmp_path, opened):
    path = tmp_path / "history.sqlite"
    first = opened(path)
    for i in range(300):
        first.append(Latest.first(result(started=100.0 * i, evidence={"log": "z" * 500})))
    first.close()
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(bytes(data))
    assert opened(path).moved_aside


def test_a_version_1_file_is_read_for_ever(tmp_path, opened):
    path = tmp_path / "history.sqlite"
    path.write_bytes(VERSION_1.read_bytes())
    history = opened(path)
    history.know({"models": "0123456789abcdef"})
    assert history.moved_aside == ""
    assert history.latest()["models"].measured.measurements[0].value == 42.0
    assert [r.outcome for r in history.runs("models")] == ["ok", "degraded"]


def test_forgetting_a_check_removes_its_latest_and_keeps_its_runs(opened):
    history = opened()
    history.append(Latest.first(result(started=1.0)))
    history.flush()
    history.forget("toy")
    history.flush()
    assert history.latest() == {}
    assert len(history.runs("toy")) == 1


def test_listeners_hear_every_result_until_they_leave(opened):
    journal, heard = Journal(opened()), []
    leave = journal.subscribe(lambda latest: heard.append(latest.last.started))
    journal.record(result(started=1.0))
    leave()
    journal.record(result(started=2.0))
    assert heard == [1.0]
    journal.forget("toy")
    assert journal.latest("toy") is None


def make_version_1(path: Path = VERSION_1) -> None:
    """How the version-1 file was made, once: `python -c 'from tests.test_history import *; make_version_1()'`."""
    path.unlink(missing_ok=True)
    history = History(path, 1e12, 1 << 30)
    history.know({"models": "0123456789abcdef"})
    first = Latest.first(result("models", started=1_700_000_000.0, measurements=(SPEED(41, path="/m"),)))
    second = first.after(
        result("models", "degraded", 1_700_000_600.0, measurements=(SPEED(42, path="/m"),), remember={"at": 1})
    )
    history.append(first)
    history.append(second)
    history.close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        assert json.loads(database.execute("SELECT record FROM latest").fetchone()[0])["failures"] == 0


def test_a_listener_that_fails_keeps_a_result_from_nobody(opened, caplog):
    history = opened()
    journal, heard = Journal(history), []
    journal.subscribe(lambda latest: 1 / 0)
    journal.subscribe(heard.append)
    journal.record(result())
    assert len(heard) == 1
    assert len(history.runs("toy")) == 1
    assert "a listener failed" in caplog.text


def test_a_record_that_cannot_be_read_costs_one_check_not_the_start(tmp_path, opened):
    first = opened()
    first.append(Latest.first(result()))
    first.close()
    change(first.path, "UPDATE latest SET record = '{\"last\": {}}'")
    assert opened().latest() == {}


def test_a_record_that_is_no_plain_data_does_not_end_the_writer(opened):
    history = opened()
    history.append(Latest.first(result(remember={"odd": object()})))
    eventually(lambda: history.write_failures == 1)
    history.append(Latest.first(result(started=2e9)))
    eventually(lambda: bool(history.latest()))


def test_a_disk_that_takes_nothing_at_the_start_is_no_reason_not_to_report(tmp_path):
    folder = tmp_path / "state"
    folder.write_text("in the way")  # as a full or read-only disk, it lets no file be made
    with pytest.raises(OSError, match="state"):
        History(folder / "history.sqlite", 1e12, 1 << 30)
    history = History(folder / "history.sqlite", 1e12, 1 << 30, patient=True)
    history.know({"toy": "f1"})
    journal = Journal(history, history.latest())
    journal.record(result(started=1000.0))
    eventually(lambda: history.write_failures >= 2)
    assert history.last_error
    assert [run.started for run in history.runs("toy")] == [1000.0]
    folder.unlink()
    journal.record(result(started=1100.0))
    eventually(lambda: not history.last_error)
    assert [run.started for run in history.runs("toy")] == [1000.0, 1100.0]
    history.close()
    again = History(folder / "history.sqlite", 1e12, 1 << 30)
    again.know({"toy": "f1"})
    assert again.latest()["toy"].last.started == 1100.0
    again.close()
