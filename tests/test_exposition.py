"""Is the scrape complete, well formed, bounded and true?"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
import zlib

import pytest
from prometheus_client import generate_latest

from exporter.about import Own, shortened
from exporter.exposition import Exposition
from exporter.families import Registry
from exporter.live import live_series
from exporter.metrics import MEASURED_SERIES_LIMIT, CheckSeries
from exporter.result import Latest, Target
from exporter.schedule import Running
from probes.api import Finding, Measurement
from probes.rules import HOUSE_RULES
from tests.checks import DOWN, LINES, SLOW, SPEED, check, quiet, result
from tests.scrape import assert_well_formed, series, value


@pytest.fixture
def exposition():
    own = Own(HOUSE_RULES, "http://grafana", "http://here")
    made = Exposition(own.blocks, lambda: b"")
    yield made
    made.close()


def scrape(exposition):
    text = exposition.plain().decode()
    assert_well_formed(text)
    return series(text)


def test_every_check_has_the_houses_series(exposition):
    checked = check(quiet, every=30.0, objective=0.99)
    exposition.update(checked, None, counted=False)
    got = scrape(exposition)
    assert value(got, "gpucanary_check_info", {"check": "toy"}) == 1
    assert value(got, "gpucanary_check_interval_seconds", {"check": "toy"}) == 30
    assert value(got, "gpucanary_objective_ratio") == 0.99
    runs = {dict(labels)["outcome"]: n for (name, labels), n in got.items() if name == "gpucanary_check_runs_total"}
    assert runs == {"ok": 0, "degraded": 0, "failed": 0, "skipped": 0, "error": 0}, "counters are initialised at 0"
    assert value(got, "gpucanary_check_outcome") is None, "what never ran has no outcome"


def test_a_result_replaces_all_series_of_the_one_before(exposition):
    first = Latest.first(result(measurements=(SPEED(1, path="/a"), SPEED(2, path="/b"))))
    exposition.update(check(quiet), first)
    exposition.update(check(quiet), first.after(result(measurements=(SPEED(3, path="/b"),))))
    got = scrape(exposition)
    speeds = {
        dict(labels)["path"]: n for (name, labels), n in got.items() if name == "gpucanary_toy_speed_bytes_per_second"
    }
    assert speeds == {"/b": 3}
    assert value(got, "gpucanary_check_runs_total", {"outcome": "ok"}) == 2
    assert value(got, "gpucanary_check_duration_seconds_count") == 2


def test_a_deferred_run_keeps_the_benchmark_and_a_blind_one_removes_it(exposition):
    latest = Latest.first(result(measurements=(SPEED(1, path="/a"),), started=100.0))
    exposition.update(check(quiet), latest)
    latest = latest.after(result(outcome="skipped", skip=("deferred", "gpu_busy"), started=200.0))
    exposition.update(check(quiet), latest)
    got = scrape(exposition)
    assert value(got, "gpucanary_toy_speed_bytes_per_second") == 1
    assert value(got, "gpucanary_check_last_measured_timestamp_seconds") == 100
    assert value(got, "gpucanary_check_last_run_timestamp_seconds") == 200
    assert value(got, "gpucanary_check_outcome", {"outcome": "skipped"}) == 1
    assert value(got, "gpucanary_check_outcome", {"outcome": "ok"}) == 0
    exposition.update(check(quiet), latest.after(result(outcome="skipped", skip=("blind", "permission"))))
    got = scrape(exposition)
    assert value(got, "gpucanary_toy_speed_bytes_per_second") is None
    assert value(got, "gpucanary_finding", {"rule": "toy-slow"}) is None, "blind is not quiet"
    assert value(got, "gpucanary_check_skips_total", {"class": "blind"}) == 1
    assert value(got, "gpucanary_check_skip_info", {"class": "blind", "reason": "permission"}) == 1
    exposition.update(check(quiet), latest.after(result()))
    assert value(scrape(exposition), "gpucanary_check_skip_info") is None, "it was not skipped any more"


def test_rules_are_0_while_quiet_and_1_per_subject(exposition):
    exposition.update(check(quiet), Latest.first(result(outcome="failed", findings=(DOWN("x", "a"), DOWN("y", "b")))))
    got = scrape(exposition)
    assert value(got, "gpucanary_finding", {"rule": "toy-down", "subject": "a", "severity": "critical"}) == 1
    assert value(got, "gpucanary_finding", {"rule": "toy-down", "subject": ""}) is None
    assert value(got, "gpucanary_finding", {"rule": "toy-slow", "subject": ""}) == 0


def test_more_than_twenty_subjects_fold_into_others(exposition):
    findings = tuple(SLOW("x", f"s{i}") for i in range(100))
    exposition.update(check(quiet), Latest.first(result(findings=findings)))
    subjects = [
        dict(labels)["subject"]
        for (name, labels) in scrape(exposition)
        if name == "gpucanary_finding" and ("rule", "toy-slow") in labels
    ]
    assert len(subjects) == 21
    assert "others" in subjects


def test_more_than_the_allowed_series_are_dropped_with_a_finding(exposition):
    many = tuple(
        Measurement("speed_bytes_per_second", float(i), (("path", str(i)),)) for i in range(MEASURED_SERIES_LIMIT + 7)
    )
    exposition.update(check(quiet), Latest.first(result(measurements=many)))
    got = scrape(exposition)
    assert sum(name == "gpucanary_toy_speed_bytes_per_second" for name, _ in got) == MEASURED_SERIES_LIMIT
    assert value(got, "gpucanary_finding", {"rule": "series-dropped"}) == 1


def test_the_houses_own_series_stay_under_sixty_a_check(exposition):
    checked = check(
        quiet, every=30.0, objective=0.9, targets=(Target("speed_bytes_per_second", at_least=1, at_most=9),)
    )
    latest = Latest.first(result(measurements=(SPEED(1, path="/a"),)))
    exposition.update(checked, latest.after(result(measurements=(SPEED(1, path="/a"),), skip=None)))
    ours = [
        name
        for name, labels in scrape(exposition)
        if ("check", "toy") in labels and not name.startswith("gpucanary_toy_")
    ]
    assert len(ours) <= 60


def test_targets_arrive_as_series_with_the_labels_of_what_they_bound(exposition):
    targets = (
        Target("speed_bytes_per_second", at_least=5, at_most=50),
        Target("lines_total", at_most=1, severity="critical"),
    )
    found = (Finding("target-missed", "critical", "no value was measured", "lines_total"),)
    exposition.update(
        check(quiet, targets=targets), Latest.first(result(measurements=(SPEED(7, path="/a"),), findings=found))
    )
    got = scrape(exposition)
    labels = {"metric": "speed_bytes_per_second", "severity": "warning", "path": "/a", "check": "toy"}
    assert value(got, "gpucanary_target_lower", labels) == 5
    assert value(got, "gpucanary_target_upper", labels) == 50
    assert value(got, "gpucanary_target_value", labels) == 7
    assert value(got, "gpucanary_target_met", labels) == 1
    assert value(got, "gpucanary_target_met", {"metric": "lines_total"}) == 0
    assert value(got, "gpucanary_target_value", {"metric": "lines_total"}) is None


def test_events_add_up_since_the_start_and_history_adds_nothing(exposition):
    oom = result(measurements=(LINES(2, **{"class": "oom"}),))
    exposition.update(check(quiet), Latest.first(oom), counted=False)
    exposition.update(check(quiet), Latest.first(oom))
    exposition.update(check(quiet), Latest.first(oom))
    assert value(scrape(exposition), "gpucanary_toy_lines_total", {"class": "oom"}) == 4


def test_a_slow_check_has_no_histogram(exposition):
    exposition.update(check(quiet, every=600.0), Latest.first(result()))
    got = scrape(exposition)
    assert value(got, "gpucanary_check_duration_seconds_count") is None
    assert value(got, "gpucanary_check_last_duration_seconds") == 0.1


def test_a_removed_check_takes_its_series_along(exposition):
    exposition.update(check(quiet), Latest.first(result(measurements=(SPEED(1, path="/a"),))))
    exposition.forget("toy")
    assert not [labels for _, labels in scrape(exposition) if ("check", "toy") in labels]


def test_label_values_that_need_escaping_survive(exposition):
    nasty = 'a\\b"c\nd'
    exposition.update(check(quiet), Latest.first(result(measurements=(SPEED(1, path=nasty),))))
    assert value(scrape(exposition), "gpucanary_toy_speed_bytes_per_second", {"path": nasty}) == 1


def test_the_merged_blocks_are_what_prometheus_client_itself_prints(exposition):
    checked, latest = (
        check(quiet, every=30.0, objective=0.5, targets=(Target("speed_bytes_per_second", at_most=0.5),)),
        None,
    )
    series = CheckSeries(checked)
    for i, outcome in enumerate(["ok", "failed", "ok", "skipped"]):
        findings = (DOWN("gone", "a"),) if outcome == "failed" else ()
        skip = ("blind", "permission") if outcome == "skipped" else None
        measured = (SPEED(i / 3, path="/a"), SPEED(1e12 * i, path="/b"))
        run = result(outcome=outcome, measurements=measured, findings=findings, skip=skip, started=100.0 + i)
        latest = latest.after(run) if latest else Latest.first(run)
        exposition.update(checked, latest)
        series.latest = latest
        series.counts.count(checked, run)
        theirs = generate_latest(Registry([family.metric((("check", "toy"),)) for family in series.families()]))
        assert b"".join(part for _, block in sorted(series.blocks().items()) for part in block) == b"".join(
            sorted(b"# HELP" + family for family in theirs.split(b"# HELP")[1:])
        ), "to the last byte"
        due = [line for line in lines_of(exposition.plain()) if "next_run" not in line]
        assert due == lines_of(theirs)


def lines_of(text: bytes) -> list[str]:
    """The sample lines of the toy check, sorted."""
    return sorted(line for line in text.decode().splitlines() if 'check="toy"' in line)


def test_compressed_and_plain_say_the_same_also_with_a_run_in_progress():
    running = {"matmul": Running(3.0, 0.25, 9.0)}
    own = Own(HOUSE_RULES, "", "")
    made = Exposition(own.blocks, lambda: live_series(running))
    made.update(check(quiet), Latest.first(result()))
    try:
        body = made.gzipped()
        unzip = zlib.decompressobj(31)
        text = unzip.decompress(body)
        assert unzip.eof, "one gzip member: not every client reads a second one"
        assert unzip.unused_data == b""
        assert_well_formed(text.decode())
        assert value(text, "gpucanary_check_progress_ratio", {"check": "matmul"}) == 0.25
        assert value(text, "gpucanary_check_eta_seconds", {"check": "matmul"}) == 9
        plain, zipped = series(made.plain()), series(text)
        assert plain.keys() == zipped.keys()
    finally:
        made.close()


def test_a_large_exposition_is_pressed_ahead_and_never_much_older_than_promised(monkeypatch):
    monkeypatch.setattr("exporter.exposition.CHEAP", 0.0)
    made = Exposition(Own(HOUSE_RULES, "", "").blocks, lambda: b"")
    try:
        made.plain()
        for i in range(5):
            made.update(check(quiet), Latest.first(result(measurements=(SPEED(i, path="/a"),))))
        deadline = time.monotonic() + 5
        while value(made.plain(), "gpucanary_toy_speed_bytes_per_second") != 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        made.close()


def test_scrapes_and_updates_from_many_threads_never_tear(exposition):
    def update(name):
        for i in range(40):
            exposition.update(check(quiet, name), Latest.first(result(name, measurements=(SPEED(i, path="/a"),))))

    threads = [threading.Thread(target=update, args=(f"c{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        scrape(exposition)
    assert len([1 for name, _ in scrape(exposition) if name == "gpucanary_toy_speed_bytes_per_second"]) == 4


def test_what_alert_templates_need_is_there_and_bounded(exposition):
    got = scrape(exposition)
    assert value(got, "gpucanary_links_info", {"grafana": "http://grafana", "self": "http://here"}) == 1
    remedies = [dict(labels)["remedy"] for name, labels in got if name == "gpucanary_rule_info"]
    assert len(remedies) == len(HOUSE_RULES)
    assert all(len(remedy.encode()) <= 300 for remedy in remedies)
    assert len(shortened("ä" * 400).encode()) <= 300
    assert shortened("1. `one` is short.\n2. `two " + "x" * 400 + "`") == "1. `one` is short..."
    assert shortened("`true` then `a " + "long " * 100 + "`") == "`true` then..."
    assert value(got, "gpucanary_config_last_reload_successful") == 1
    assert value(got, "process_resident_memory_bytes") > 1e6


@pytest.mark.prometheus
@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_about(exposition):
    checked = check(quiet, every=30.0, objective=0.9, targets=(Target("speed_bytes_per_second", at_least=1),))
    exposition.update(checked, Latest.first(result(measurements=(SPEED(1, path="/a"), LINES(1, **{"class": "a"})))))
    lint = subprocess.run(["promtool", "check", "metrics"], input=exposition.plain(), capture_output=True, timeout=30)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")


@pytest.mark.parametrize("odd", ["a\rb", "a\x85b", "a\u2028b", "a\x0bb", "100 %s", "a b}"])
def test_characters_that_python_takes_for_an_end_of_line_break_no_series(exposition, odd):
    exposition.update(check(quiet, odd), Latest.first(result(odd, measurements=(SPEED(1, path=odd),))))
    lines = exposition.plain().decode().split("\n")
    assert f'gpucanary_toy_speed_bytes_per_second{{check="{odd}",path="{odd}"}} 1.0' in lines


def test_events_of_ever_new_labels_are_bounded(exposition):
    for i in range(0, MEASURED_SERIES_LIMIT + 50, 50):
        many = tuple(LINES(1, **{"class": str(i + j)}) for j in range(50))
        exposition.update(check(quiet), Latest.first(result(measurements=many)))
    got = scrape(exposition)
    assert sum(name == "gpucanary_toy_lines_total" for name, _ in got) == MEASURED_SERIES_LIMIT
    assert value(got, "gpucanary_finding", {"rule": "series-dropped"}) == 1
