"""Does a made-up finding reach the scrape and the page, and nothing else, and does it end?"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from exporter import injection, shipped
from exporter.about import Own
from exporter.cli import main
from exporter.exposition import Exposition
from exporter.injection import LIMIT, LONGEST, begin, end, read
from exporter.metrics import QUIET
from exporter.result import Latest
from tests.checks import DOWN, check, eventually, quiet, result
from tests.process import Exporter
from tests.scrape import assert_well_formed, value
from tests.stack.servers import alertmanager, host, prometheus, until
from tests.web_service import Canary, answering

MADE_UP = {"check": "disk", "rule": "disk-low", "severity": "warning", "subject": "injected", "injected": "true"}


# -- the file -------------------------------------------------------------------------------------------------------


def test_it_ends_by_itself_and_at_the_latest_after_ten_minutes(tmp_path: Path) -> None:
    begin(tmp_path, "disk", "disk-low", "warning", "/", 0.2)
    assert [one.rule for one in read(tmp_path)] == ["disk-low"]
    eventually(lambda: read(tmp_path) == ())
    assert begin(tmp_path, "disk", "disk-low", "warning", "/", 1e9).left <= LONGEST


def test_the_same_one_is_renewed_and_others_stay(tmp_path: Path) -> None:
    for subject, severity in (("/", "warning"), ("/models", "warning"), ("/", "critical")):
        begin(tmp_path, "disk", "disk-low", severity, subject, 60)
    assert {(one.subject, one.severity) for one in read(tmp_path)} == {("/", "critical"), ("/models", "warning")}
    begin(tmp_path, "gpu", "gpu-hot", "critical", "injected", 60)
    end(tmp_path, "disk-low")
    assert [one.rule for one in read(tmp_path)] == ["gpu-hot"]
    end(tmp_path)
    end(tmp_path)
    assert read(tmp_path) == ()
    assert not (tmp_path / injection.FILE).exists()


def test_there_are_never_many(tmp_path: Path) -> None:
    for number in range(LIMIT + 5):
        begin(tmp_path, "disk", "disk-low", "warning", f"/{number}", 60)
    assert len(read(tmp_path)) == LIMIT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "[null]",
        "[{}]",
        "[" * 100_000,
        '[{"check": 1, "rule": [], "severity": "x", "subject": "x", "until": 1e12}]',
        json.dumps([{"check": "a", "rule": "b", "severity": "c", "subject": "d", "until": "soon"}]),
        json.dumps([{"check": "a", "rule": "b", "severity": "c", "subject": "d", "until": 1e12}]),
        json.dumps([{"check": "a", "rule": "b", "severity": "c", "subject": "d", "until": math.nan}]),
        json.dumps([{"check": "a" * 9999, "rule": "b", "severity": "c", "subject": "d", "until": time.time() + 99}]),
        json.dumps([{"check": "a", "rule": "b", "severity": "c", "subject": "d", "until": 1, "more": 1}]),
        json.dumps([{"check": "a", "rule": "b", "severity": "c", "subject": "\ud800", "until": time.time() + 99}]),
    ],
    ids=lambda text: text[:40],
)
def test_a_damaged_file_injects_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / injection.FILE).write_text(text)
    assert read(tmp_path) == ()


def test_what_stands_twice_in_the_file_is_one_series(tmp_path: Path) -> None:
    begin(tmp_path, "disk", "disk-low", "warning", "/", 60)
    (row,) = json.loads((tmp_path / injection.FILE).read_text())
    (tmp_path / injection.FILE).write_text(json.dumps([row, {**row, "until": row["until"] - 9}]))
    assert len(read(tmp_path)) == 1


# -- the scrape and the page ----------------------------------------------------------------------------------------


def test_it_stands_beside_a_finding_of_the_same_rule_in_one_family(tmp_path: Path) -> None:
    own = Own((), "", "")
    exposition = Exposition(own.blocks, lambda: b"")
    try:
        own.about.injected = (begin(tmp_path, "toy", DOWN.name, "critical", "/a", 60),)
        failed = result(outcome="failed", findings=(DOWN("it is gone", "/a"),))
        exposition.update(check(quiet), Latest.first(failed))
        text = exposition.plain().decode()
    finally:
        exposition.close()
    assert_well_formed(text)
    assert text.count(f"# HELP gpucanary_finding {QUIET}\n") == 1
    lines = [line for line in text.splitlines() if line.startswith("gpucanary_finding{") and '"/a"' in line]
    assert len(lines) == 2
    assert sum('injected="true"' in line for line in lines) == 1


def test_the_page_says_that_it_is_a_test_and_nothing_is_wrong_by_it(tmp_path: Path) -> None:
    canary = Canary(tmp_path, check(quiet))
    canary.record(result())
    begin(tmp_path, "<b>", "disk-low", "critical", "<script>alert(1)</script>", 60)
    with answering(canary) as site:
        text = site.ask("/").text
    assert "Injected, a test" in text
    assert "All is well." in text
    assert "<script>alert" not in text
    assert "gpu-canary inject --off" in text


# -- the command and the whole program ------------------------------------------------------------------------------


def gpu_canary(*words: str) -> int:
    return main(list(words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inject"], "say which rule fires"),
        (["inject", "disk-lo"], "did you mean disk-low?"),
        (["inject", "GpuCanaryDiskLow"], "is an alert"),
        (["inject", "disk-low", "--for", "11m"], "at most 10 min"),
        (["inject", "disk-low", "--for", "0s"], "more than nothing"),
        (["inject", "disk-low", "--for", "5"], "write it with a unit"),
        (["inject", "disk-low", "--check", 'a"b'], "no name of a check"),
        (["inject", "disk-low", "--subject", "a\nb"], "printable"),
        (["inject", "disk-low", "--subject", "x" * 999], "printable"),
    ],
)
def test_a_mistake_says_what_to_do_and_injects_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert gpu_canary(*words, f"--storage.path={tmp_path}") == 2
    assert said in capsys.readouterr().err
    assert read(tmp_path) == ()


def test_without_an_exporter_it_counts_for_the_next_one_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_canary("inject", "target-missed", "--json", f"--storage.path={tmp_path}") == 0
    out, err = capsys.readouterr()
    (told,) = json.loads(out)["injected"]
    assert told == asdict(read(tmp_path)[0])
    assert (told["check"], told["severity"], told["subject"]) == ("injected", "warning", "injected")
    assert "no exporter runs" in err


def test_who_may_not_write_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert gpu_canary("inject", "disk-low", f"--storage.path={tmp_path / 'file' / 'below'}") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_it_reaches_the_scrape_of_the_running_exporter_and_never_its_results(tmp_path: Path) -> None:
    config = tmp_path / "canary.yml"
    config.write_text("checks: [{probe: disk, every: 1s, timeout: 500ms, params: {path: /, minimum_free: 1B}}]\n")
    exporter = Exporter(tmp_path, f"--config.file={config}")
    where = f"--storage.path={tmp_path / 'state'}"
    try:
        exporter.until(lambda s: value(s, "gpucanary_check_outcome", {"check": "disk", "outcome": "ok"}) == 1)
        assert gpu_canary("inject", "disk-low", "--for", "1m", where) == 0
        found = exporter.until(lambda s: value(s, "gpucanary_finding", MADE_UP) == 1)
        quiet_one = {"check": "disk", "rule": "disk-low", "subject": ""}
        assert value(found, "gpucanary_finding", quiet_one) == 0, "the real rule is quiet as before"
        assert_well_formed(exporter.text())
        assert "Injected, a test" in exporter.get("/")[1]
        runs = value(found, "gpucanary_check_runs_total", {"check": "disk", "outcome": "ok"})
        again = exporter.until(
            lambda s: value(s, "gpucanary_check_runs_total", {"check": "disk", "outcome": "ok"}) > runs
        )
        assert value(again, "gpucanary_check_outcome", {"check": "disk", "outcome": "ok"}) == 1
        assert exporter.check("disk")["last"]["findings"] == []
        assert "injected" not in exporter.get("/api/v1/results?check=disk")[1]
        assert gpu_canary("inject", "--off", where) == 0
        exporter.until(lambda s: not any("injected" in dict(labels) for _, labels in s))
    finally:
        exporter.end()


@pytest.mark.prometheus
def test_it_comes_back_through_our_rules_and_alertmanager_with_its_remedy(tmp_path: Path) -> None:
    config = tmp_path / "canary.yml"
    config.write_text("checks: [{probe: disk, params: {path: /, minimum_free: 1B}}]\n")
    exporter = Exporter(tmp_path, f"--config.file={config}", "--web.enable-inbox")
    routes = (shipped.ALERTS / "alertmanager.yml").read_text().replace("exporter:19835", f"127.0.0.1:{exporter.port}")
    rules = [
        path for name, path in shipped.rules().items() if path.read_text().find("\ngroups:") >= 0 and "/" not in name
    ]
    try:
        exporter.until(lambda s: value(s, "gpucanary_check_outcome", {"check": "disk", "outcome": "ok"}) == 1)
        with (
            alertmanager(tmp_path, routes) as pager,
            prometheus(tmp_path, [f"127.0.0.1:{exporter.port}"], [host(pager)], rules) as asked,
        ):
            until(lambda: asked.query("gpucanary_links_info"), "the exporter is scraped")
            begun = time.monotonic()
            assert gpu_canary("inject", "disk-low", "--severity=critical", f"--storage.path={tmp_path / 'state'}") == 0
            until(lambda: "GpuCanaryDiskLow" in exporter.get("/api/v1/inbox")[1], "it arrives")
            print(f"{time.monotonic() - begun:.1f} s from `inject` to the inbox, scraped every second")
            told = json.loads(exporter.get("/api/v1/inbox")[1])
            until(lambda: json.loads(exporter.get("/api/v1/inbox")[1])["watchdog"], "the Watchdog arrives")
        (alert,) = (a for a in told["alerts"] if a["name"] == "GpuCanaryDiskLow" and a["state"] == "firing")
        assert (alert["severity"], alert["receiver"], alert["labels"]["injected"]) == ("critical", "page", "true")
        notes = alert["annotations"]
        assert "`" in notes["remedy"]
        path = notes["runbook_url"].removeprefix(f"http://127.0.0.1:{exporter.port}")
        assert path == "/runbooks/GpuCanaryDiskLow"
        assert exporter.get(path)[0] == 200, "its runbook is there, without a network"
        assert "pager-not-configured" in exporter.get("/checks/inbox")[1]
    finally:
        exporter.end()
