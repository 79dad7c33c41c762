"""What does the web answer? The real server on loopback, with the real journal, history and exposition behind it."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from exporter.config.document import ConfigError, Problem
from exporter.result import Comparison
from exporter.schedule import Running
from exporter.web import events, listening
from exporter.web.view import REASONS
from probes.api import Evidence, Params, Probe, Secret
from probes.stops import SKIP_REASONS
from tests import web_scene
from tests.checks import DOWN, NOTE, SPEED, check, eventually, quiet, result
from tests.scrape import assert_well_formed, value
from tests.web_service import Canary, answering

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _quick_history(monkeypatch):
    monkeypatch.setattr("exporter.history.BATCH_SECONDS", 0.01)


@pytest.fixture
def canary(tmp_path):
    return Canary(tmp_path, check(quiet), check(quiet, "a/b"), check(quiet, "other"))


@pytest.fixture
def site(canary):
    with answering(canary) as site:
        yield site


# -- /metrics -------------------------------------------------------------------------------------------------------


def test_a_scrape_is_text_format_with_its_length(canary, site):
    canary.record(result(measurements=(SPEED(5.0, path="/a"),)))
    answer = site.ask("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert "content-encoding" not in answer.headers
    assert_well_formed(answer.text)
    assert value(answer.body, "gpucanary_toy_speed_bytes_per_second", {"path": "/a"}) == 5


@pytest.mark.parametrize("wanted", ["gzip", "gzip, deflate, br", "deflate;q=0.5, GZIP;q=1.0"])
def test_a_scraper_that_takes_gzip_gets_the_same_compressed(canary, site, wanted):
    canary.record(result())
    answer = site.ask("/metrics", accept_encoding=wanted)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "accept-encoding"
    assert gzip.decompress(answer.body) == site.ask("/metrics").body


@pytest.mark.parametrize("refused", ["identity", "gzip;q=0", "gzip; q=0.00, identity", "br"])
def test_a_scraper_that_refuses_gzip_gets_none(canary, site, refused):
    canary.record(result())
    assert "content-encoding" not in site.ask("/metrics", accept_encoding=refused).headers


def test_a_head_of_a_scrape_has_its_headers_and_no_body(canary, site):
    canary.record(result())
    answer = site.ask("/metrics", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == len(site.ask("/metrics").body)


def test_metrics_are_not_posted(site):
    answer = site.ask("/metrics", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


# -- health and life ------------------------------------------------------------------------------------------------


def test_healthy_is_one_word_and_ready_names_what_is_missing(canary, site):
    assert site.ask("/-/healthy").status == 200
    assert site.ask("/-/ready").status == 200
    canary.is_ready = False
    canary.record(result())
    answer = site.ask("/-/ready")
    assert answer.status == 503
    assert "other" in answer.text
    assert "toy" not in answer.text


def test_a_reload_is_off_unless_enabled(canary, site):
    canary.reloading = lambda: pytest.fail("it must not be called")
    answer = site.ask("/-/reload", "POST")
    assert answer.status == 403
    assert "--web.enable-lifecycle" in answer.json["error"]


def test_a_reload_says_what_needs_a_restart_and_what_is_wrong(tmp_path):
    canary = Canary(tmp_path, enable_lifecycle=True, redact=lambda text: text.replace("hunter2", "<redacted>"))
    canary.reloading = lambda: ["web"]
    with answering(canary) as site:
        answer = site.ask("/-/reload", "POST")
        assert (answer.status, answer.json) == (200, {"reloaded": True, "needs_restart": ["web"]})
        assert site.ask("/-/reload").status == 405

        def broken():
            raise ConfigError([Problem("canary.yml", 7, "checks[0].probe", "unknown probe 'hunter2'")])

        canary.reloading = broken
        answer = site.ask("/-/reload", "POST")
        assert answer.status == 500
        assert "canary.yml:7" in answer.json["error"]
        assert "<redacted>" in answer.json["error"]


# -- the API --------------------------------------------------------------------------------------------------------


def test_the_list_of_checks_says_how_each_is(canary, site):
    canary.record(result(outcome="failed", started=1000.0, findings=(DOWN("gone", "/a"),)))
    canary.running_now = {"other": Running(3.0, 0.5, 3.0)}
    canary.due = {"toy": 2000.0}
    answer = site.ask("/api/v1/checks")
    assert answer.headers["content-type"] == "application/json"
    toy, other = (next(c for c in answer.json["checks"] if c["name"] == name) for name in ("toy", "other"))
    assert (toy["outcome"], toy["since"], toy["failures"], toy["next_run"]) == ("failed", 1000.0, 1, 2000.0)
    assert (toy["family"], toy["every"], toy["running"]) == ("environment", 60.0, None)
    assert (other["outcome"], other["running"]) == (None, {"since": 3.0, "ratio": 0.5, "eta": 3.0})


def test_one_check_comes_with_its_results_and_a_skip_with_its_class(canary, site):
    measured = result("a/b", measurements=(SPEED(5.0, path="/a"),), evidence={"log": "tail"}, remember={"offset": 3})
    canary.record(measured, result("a/b", "skipped", skip=("deferred", "gpu_busy"), detail="pid 7"))
    for path in ("/api/v1/checks/a%2Fb", "/api/v1/checks/a/b"):
        answer = site.ask(path).json
        assert answer["last"]["skip"] == {"class": "deferred", "reason": "gpu_busy"}
        assert answer["measured"]["measurements"] == [
            {"metric": "speed_bytes_per_second", "value": 5.0, "labels": {"path": "/a"}}
        ]
        assert answer["measured"]["evidence"] == {"log": "tail"}
        assert "remember" not in answer["measured"], "a probe's own notes are nobody's business"


def test_an_unknown_check_is_told_with_the_nearest_name(site):
    answer = site.ask("/api/v1/checks/othr")
    assert answer.status == 404
    assert "did you mean other" in answer.json["error"]


def test_results_are_the_kept_runs_oldest_first(canary, site):
    now = time.time()
    canary.record(*(result(started=now - 600 + 61 * n, duration=n) for n in range(5)))
    answer = site.ask(f"/api/v1/results?check=toy&since={now - 500}&limit=2").json
    assert [run["duration"] for run in answer["results"]] == [3, 4]


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("", "check=NAME"),
        ("check=toy&limt=3", "did you mean limit"),
        ("check=toy&limit=0", "1 to 1000"),
        ("check=toy&limit=100000000000", "1 to 1000"),
        ("check=toy&limit=%D9%A3", "1 to 1000"),
        ("check=toy&since=yesterday", "Unix time"),
        ("check=toy&since=nan", "Unix time"),
        ("check=toy&since=-1", "Unix time"),
    ],
)
def test_a_wrong_question_for_results_is_answered_with_the_right_one(site, query, hint):
    answer = site.ask(f"/api/v1/results?{query}")
    assert answer.status == 400
    assert hint in answer.json["error"]


def test_running_a_check_now_is_off_unless_enabled_and_refused_while_it_runs(tmp_path):
    canary = Canary(tmp_path, check(quiet, "a/b"), enable_lifecycle=True)
    with answering(canary) as site:
        assert site.ask("/api/v1/checks/a%2Fb/run", "POST").status == 202
        assert canary.asked == ["a/b"]
        canary.busy.add("a/b")
        assert site.ask("/api/v1/checks/a/b/run", "POST").status == 409
        assert site.ask("/api/v1/checks/nope/run", "POST").status == 404


def test_running_a_check_from_a_read_only_page_is_forbidden(canary, site):
    answer = site.ask("/api/v1/checks/toy/run", "POST")
    assert answer.status == 403
    assert "gpu-canary run toy" in answer.json["error"]
    assert not canary.asked


def test_the_button_of_a_page_without_scripts_leads_back_to_its_check(tmp_path):
    canary = Canary(tmp_path, check(quiet, "a/b"), enable_lifecycle=True, route_prefix="/x/y/")
    with answering(canary) as site:
        answer = site.ask("/x/y/api/v1/checks/a%2Fb/run", "POST", accept="text/html,*/*")
        assert (answer.status, answer.headers["location"]) == (303, "../../../../checks/a%2Fb")


def test_every_error_is_an_object_that_says_what_to_do(site):
    for path, method, status in (
        ("/nope", "GET", 404),
        ("/api/v1/checks", "DELETE", 405),
        ("/static/../x", "GET", 404),
    ):
        answer = site.ask(path, method)
        assert answer.status == status
        assert answer.json["error"]


def test_a_disk_that_hangs_holds_up_neither_scrapes_nor_health(canary, site, monkeypatch):
    monkeypatch.setattr("exporter.web.aside.PATIENCE", 0.2)
    freed = threading.Event()
    canary.runs = lambda *_: freed.wait(20) and []
    waiting = threading.Thread(target=lambda: site.ask("/"))
    waiting.start()
    try:
        begun = time.monotonic()
        assert site.ask("/metrics").status == 200
        assert site.ask("/-/healthy").status == 200
        assert time.monotonic() - begun < 2
    finally:
        freed.set()
        waiting.join()


# -- prefixes -------------------------------------------------------------------------------------------------------


def test_every_path_lies_under_the_route_prefix(tmp_path):
    canary = Canary(tmp_path, check(quiet), route_prefix="/canary")
    with answering(canary) as site:
        assert site.ask("/canary/metrics").status == 200
        assert site.ask("/canary/-/healthy").status == 200
        assert 'href="./static/page.css' in site.ask("/canary/").text
        assert site.ask("/canary").headers["location"] == "canary/"
        assert "web.route_prefix" in site.ask("/metrics").json["error"]


def test_a_page_and_the_api_tell_the_verdict_against_the_past(canary, site):
    labels = (("path", "/a"),)
    compared = Comparison("speed_bytes_per_second", labels, "regressed", 60, 10.0, 0.1, -0.5, -0.5, "driver 1 -> 2")
    canary.record(result(measurements=(SPEED(5.0, path="/a"),), comparisons=(compared,)))
    assert "against its own past: regressed, 50.0% below the median of 60 runs before" in site.ask("/checks/toy").text
    (told,) = json.loads(site.ask("/api/v1/checks/toy").text)["measured"]["comparisons"]
    assert told == {**asdict(compared), "labels": {"path": "/a"}}


@pytest.mark.parametrize("path", ["/checks/a%2Fb", "/checks/a/b"])
def test_links_lead_to_the_top_whichever_way_a_name_is_written(site, path):
    depth = path.count("/") - 1
    assert f'href="{"../" * depth}static/page.css' in site.ask(path).text


# -- the page -------------------------------------------------------------------------------------------------------


def test_the_page_says_what_is_wrong_since_when_and_what_to_do(canary, site):
    canary.record(result(outcome="failed", started=time.time() - 3700, findings=(DOWN("it is gone", "/a"),)))
    text = site.ask("/").text
    assert "One check has found something wrong." in text
    assert "It is down." in text
    assert "it is gone" in text
    assert "for 1 h 1 min" in text
    assert "<code>true</code>" in text


def test_what_the_house_finds_names_the_check_in_its_commands(canary, site):
    canary.record(result(outcome="error", findings=(web_scene.Finding("check-error", "warning", "boom"),), detail="tb"))
    text = site.ask("/").text
    assert "gpu-canary itself has a fault" in text
    assert "<code>gpu-canary run toy</code>" in text


def test_without_a_gpu_the_page_is_calm(tmp_path):
    with answering(web_scene.calm(tmp_path)) as site:
        text = site.ask("/").text
    assert "All is well." in text
    assert "not applicable: no GPU" in text
    assert "What is wrong now" not in text
    assert 'class="icon failed"' not in text


def test_blind_is_told_apart_from_well(canary, site):
    canary.record(result(outcome="skipped", skip=("blind", "permission"), detail="log belongs to root"))
    text = site.ask("/").text
    assert "Nothing wrong was found, but one check could not look." in text
    assert "no permission to look" in text
    assert "log belongs to root" in text


def test_a_benchmark_that_was_put_off_keeps_its_values_and_says_how_old_they_are(canary, site):
    canary.record(
        result(started=time.time() - 7200, measurements=(SPEED(5e9, path="/a"),)),
        result(outcome="skipped", skip=("deferred", "gpu_busy")),
    )
    text = site.ask("/").text
    assert "5 GB/s" in text
    assert "the values are from" in text
    assert "waits for an idle GPU" in text


def test_a_long_run_shows_how_far_it_is(canary, site):
    canary.running_now = {"toy": Running(10.0, 0.25, 30.0)}
    text = site.ask("/").text
    assert 'value="0.250"' in text
    assert "25 %, about 30 s left" in text


def test_a_check_that_was_only_ever_put_off_is_not_called_well(canary, site):
    canary.record(result("other"), result("a/b", "skipped", skip=("deferred", "preparing")))
    assert "Nothing wrong so far, but 2 checks have not looked yet." in site.ask("/").text
    canary.record(result(), result("a/b"), result("a/b", "skipped", skip=("deferred", "gpu_busy")))
    assert "All is well." in site.ask("/").text


def test_maintenance_and_the_preparation_of_torch_are_on_top(tmp_path):
    with answering(web_scene.scene(tmp_path)) as site:
        text = site.ask("/").text
    assert "new riser cable" in text
    assert "1.1 of 2.9 GB" in text


def test_an_info_finding_is_a_note_and_no_trouble(canary, site):
    canary.record(result(findings=(NOTE("worth knowing"),)), result("a/b"), result("other"))
    assert "All is well." in site.ask("/").text
    assert "worth knowing" in site.ask("/checks/toy").text


def test_what_a_stranger_wrote_is_text_never_markup(canary, site):
    evil = "<script>alert(1)</script>"
    canary.record(
        result(outcome="failed", findings=(DOWN(evil, evil),), evidence={evil: evil}, conditions={"driver": evil})
    )
    for path in ("/", "/checks/toy", "/fragment/status", "/fragment/checks/toy"):
        answer = site.ask(path)
        assert answer.status == 200
        assert b"<script>alert" not in answer.body
        assert b"&lt;script&gt;alert" in answer.body


def test_the_check_page_shows_evidence_folded_and_the_target_of_each_metric(tmp_path):
    with answering(web_scene.scene(tmp_path)) as site:
        text = site.ask("/checks/comfyui").text
    assert "at most 250 ms" in text
    assert 'class="bound"' in text


class Login(Params):
    user: str = "me"
    password: Secret = Secret("hunter2-field")
    headers: dict[str, str] = {"Authorization": "Bearer hunter2-env"}  # noqa: RUF012  # pydantic copies it


def test_a_secret_param_is_on_no_page_and_in_no_answer(tmp_path):
    known = check(quiet)
    probe = Probe("toy", Login, known.probe.run, (SPEED,), (DOWN,), family="environment")  # type: ignore[arg-type]
    shown = type(known)("login", probe, Login(), 60.0, 5.0)
    canary = Canary(tmp_path, shown, redact=lambda text: text.replace("hunter2-env", "<redacted>"))
    canary.record(result("login"))
    with answering(canary) as site:
        for path in (
            "/",
            "/checks/login",
            "/api/v1/checks",
            "/api/v1/checks/login",
            "/metrics",
            "/api/v1/results?check=login",
        ):
            assert b"hunter2" not in site.ask(path).body
        assert "**********" in site.ask("/checks/login").text
        assert site.ask("/api/v1/checks/login").json["params"]["headers"] == {"Authorization": "Bearer <redacted>"}


def test_every_reason_for_a_skip_has_words():
    assert {reason for reasons in SKIP_REASONS.values() for reason in reasons} <= REASONS.keys()


def test_the_page_survives_a_history_that_cannot_be_read(canary, site):
    canary.record(result(outcome="failed", findings=(DOWN("gone"),)))

    def damaged(*_):
        raise OSError("the disk is gone")

    canary.runs = damaged
    assert "It is down." in site.ask("/").text
    answer = site.ask("/api/v1/results?check=" + next(iter(canary.checks)))
    assert (answer.status, "log" in answer.json["error"]) == (500, True)


def test_files_of_the_page_are_kept_for_ever_under_their_hash(site):
    text = site.ask("/").text
    path = text.split('rel="stylesheet" href=".')[1].split('"')[0]
    answer = site.ask(path)
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]
    assert "cache-control" not in site.ask("/static/page.css").headers


def test_evidence_of_a_result_reaches_its_page(canary, site):
    canary.record(result(evidence={Evidence("worker log", "").name: "line one\nline two"}))
    assert "line one\nline two" in site.ask("/checks/toy").text


# -- events ---------------------------------------------------------------------------------------------------------


class Stream:
    """An open event stream."""

    def __init__(self, site) -> None:
        self.socket = socket.create_connection(("127.0.0.1", site.port), timeout=10)
        self.socket.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])

    def until(self, beginning: bytes) -> bytes:
        while line := self.file.readline():
            if line.startswith(beginning):
                return line
        raise AssertionError(f"the stream ended before {beginning!r}")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def stream(site):
    opened = []

    def open_one():
        opened.append(Stream(site))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_every_result_is_an_event(canary, site, stream):
    one = stream()
    one.until(b"retry:")
    canary.record(result(outcome="degraded", started=1000.0))
    assert one.until(b"event:") == b"event: result\n"
    assert json.loads(one.until(b"data:")[5:]) == {"check": "toy", "outcome": "degraded", "started": 1000.0}


def test_a_reload_tells_every_page_to_fetch_everything(canary, site, stream):
    one = stream()
    one.until(b"retry:")
    site.application.events.refetch()
    assert one.until(b"event:") == b"event: refetch\n"


def test_a_silent_stream_beats(canary, site, stream, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT", 0.1)
    one = stream()
    one.until(b": still here")


def test_pages_are_bounded_and_a_closed_one_makes_room(canary, site, stream, monkeypatch):
    monkeypatch.setattr(events, "CLIENTS", 2)
    first, second = stream(), stream()
    second.until(b"retry:")
    assert stream().status == 503
    first.close()

    def room():
        one = Stream(site)
        one.close()
        return one.status == 200

    eventually(room)


def test_the_journal_is_not_listened_to_while_no_page_is_open(canary, site, stream):
    before = len(canary.journal._listeners)
    one = stream()
    one.until(b"retry:")
    assert len(canary.journal._listeners) == before + 1
    one.close()
    eventually(lambda: len(canary.journal._listeners) == before)


def test_a_page_that_reads_too_slowly_is_told_to_fetch_everything():
    client = events.Client()
    for _ in range(events.WAITING + 5):
        client.put(b"event")
    assert list(client._waiting) == [events.REFETCH, *[b"event"] * 4]


# -- starting and ending --------------------------------------------------------------------------------------------

SERVE = """
import sys, threading, time
from pathlib import Path
from exporter.web.server import serve
from tests.checks import check, quiet, result
from tests.web_service import Canary
import logging; logging.basicConfig(level="INFO", format="%(message)s %(metrics)s", stream=sys.stderr)
canary = Canary(Path(sys.argv[1]), check(quiet), listen_address=sys.argv[2])
canary.reloading = lambda: print("reloaded", flush=True) or []
def hang():
    print("stopping", flush=True)
    time.sleep(60)
serve(canary, hang)
print("left", sorted({"jinja2", "bcrypt", "requests", "rich"} & sys.modules.keys()), flush=True)
import os; os._exit(0)
"""


def test_a_signal_ends_it_within_five_seconds_whatever_hangs(tmp_path):
    port = _free_port()
    child = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path), f"127.0.0.1:{port}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert f"http://127.0.0.1:{port}/metrics" in child.stderr.readline()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as page:
            page.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert page.recv(100).startswith(b"HTTP/1.1 200")
            child.send_signal(1)
            assert child.stdout.readline() == "reloaded\n"
            begun = time.monotonic()
            child.terminate()
            assert child.stdout.readline() == "stopping\n"
            assert child.stdout.readline() == "left []\n"
            assert child.wait(5) == 0
            assert time.monotonic() - begun < 5
    finally:
        child.kill()
        child.communicate()


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_busy_port_names_its_owner_and_what_to_type():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(listening.Unreachable) as told:
            listening.listen(f"127.0.0.1:{port}")
    assert f"(pid {__import__('os').getpid()})" in str(told.value)
    assert f"--web.listen-address=127.0.0.1:{port + 1}" in str(told.value)


def test_a_busy_port_whose_owner_nobody_may_see_still_says_what_to_type():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(listening.Unreachable, match=f"ss -ltnp 'sport = :{port}'"):
            listening.listen(f"127.0.0.1:{port}", owner=lambda _: "")


def test_an_address_of_another_machine_is_refused_with_the_way_to_find_ours():
    with pytest.raises(listening.Unreachable, match="ip -br address"):
        listening.listen("192.0.2.1:0")


@pytest.mark.parametrize("address", [":0", "[::]:0", "0.0.0.0:0", "localhost:0"])
def test_the_ways_to_write_an_address_all_answer_on_loopback(tmp_path, address):
    canary = Canary(tmp_path, listen_address=address)
    with answering(canary, address=address) as site:
        assert site.ask("/-/healthy").status == 200


def test_a_small_answer_does_not_wait_for_an_acknowledgement():
    (listener,) = listening.listen("127.0.0.1:0")
    with listener:
        assert listener.proto == socket.IPPROTO_TCP, "asyncio sets TCP_NODELAY only then: 44 ms a scrape"


def test_two_addresses_of_one_host_share_one_port():
    listeners = listening.listen("localhost:0")
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


def test_importing_the_web_costs_no_template_engine():
    code = "import sys, exporter.web.server; print({'jinja2','bcrypt','requests','rich'} & sys.modules.keys())"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "set()\n", ended.stderr
