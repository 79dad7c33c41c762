"""Does `status --prometheus` tell the truth about a real Prometheus, and stay plain in front of a hostile one?"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from exporter.wiring import Answer, wiring
from exporter.world.control import Access, Alertmanager, ControlError, Prometheus, Sample
from tests.certificates import Authority
from tests.process import free_port
from tests.servers import ok, says, serving
from tests.stack.servers import alertmanager, host, prometheus, until

ROOT = Path(__file__).parent.parent
SECRET = "planted-7d1c"
SCRAPE = b'gpucanary_build_info{version="0"} 1\ngpucanary_finding{rule="disk-low",subject="/models"} 1\n'
RULE = """
groups:
  - name: gpu-canary
    rules:
      - alert: CanaryFinding
        expr: gpucanary_finding == 1
        labels: {severity: critical}
        annotations: {summary: The disk is nearly full., remedy: Run `du`.}
"""
TALKS = "route: {receiver: pager}\nreceivers: [{name: pager, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}]\n"
MUTE = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


def rule_file(folder: Path, text: str) -> Path:
    path = folder / "rules.yml"
    path.write_text(text)
    return path


def states(answers: tuple[Answer, ...]) -> dict[str, str]:
    return {answer.question: answer.state for answer in answers}


@pytest.mark.prometheus
def test_a_whole_chain_from_exporter_to_pager_is_seen_and_so_is_what_fires(tmp_path: Path) -> None:
    with (
        serving(ok(SCRAPE, "Content-Type: text/plain; version=0.0.4")) as exporter,
        alertmanager(tmp_path, TALKS) as pager,
        prometheus(
            tmp_path, [f"127.0.0.1:{exporter.port}"], [host(pager)], rules=[rule_file(tmp_path, RULE)]
        ) as server,
    ):
        door = Prometheus(server.url)
        until(lambda: any(alert.state == "firing" for alert in door.alerts()), "the alert fires")
        until(lambda: bool(door.alertmanagers()), "the pager is discovered")
        answers = wiring(door)
        assert states(answers) == {
            "Are we scraped?": "ok",
            "Are our rules loaded?": "ok",
            "Is there a pager?": "ok",
            "What fires?": "bad",
        }
        assert (
            answers[-1].detail
            == f"CanaryFinding (127.0.0.1:{exporter.port}, disk-low, /models): The disk is nearly full."
        )
        assert answers[-1].todo == "Run `du`."
        assert door.query("1 + 1") == (Sample({}, 2.0),)
        with pytest.raises(ControlError, match="parse error"):
            door.query("this is not PromQL {")


@pytest.mark.prometheus
def test_a_prometheus_that_knows_nothing_of_us_says_so_three_times_with_what_to_do(tmp_path: Path) -> None:
    with prometheus(tmp_path) as server:
        answers = wiring(Prometheus(server.url))
    assert states(answers) == {
        "Are we scraped?": "bad",
        "Are our rules loaded?": "bad",
        "Is there a pager?": "bad",
        "What fires?": "ok",
    }
    assert all("`" in answer.todo for answer in answers if answer.state == "bad")


@pytest.mark.prometheus
def test_a_dead_target_a_broken_rule_and_a_mute_pager_are_each_told(tmp_path: Path) -> None:
    twice = SCRAPE + b'gpucanary_finding{rule="disk-low",subject="/b"} 1\n'
    ambiguous = RULE.replace("gpucanary_finding == 1", "gpucanary_build_info * gpucanary_finding")
    with (
        serving(ok(twice, "Content-Type: text/plain; version=0.0.4")) as exporter,
        alertmanager(tmp_path, MUTE) as pager,
    ):
        targets = [f"127.0.0.1:{exporter.port}", f"127.0.0.1:{free_port()}"]
        broken = ambiguous.replace("* gpucanary_finding", "* on(job) gpucanary_finding")
        with prometheus(tmp_path, targets, [host(pager)], rules=[rule_file(tmp_path, broken)]) as server:
            door = Prometheus(server.url)
            until(lambda: any(rule.health == "err" for rule in door.rules()), "the rule is broken")
            until(lambda: {target.health for target in door.targets()} == {"up", "down"}, "one target is down")
            until(lambda: bool(door.alertmanagers()), "the pager is discovered")
            answers = wiring(door)
    assert [answer.state for answer in answers if answer.question == "Are we scraped?"].count("bad") == 1
    assert "refused" in next(
        answer.detail for answer in answers if answer.question == "Are we scraped?" and answer.state == "bad"
    )
    assert states(answers)["Are our rules loaded?"] == "bad"
    assert "promtool" in next(answer.todo for answer in answers if answer.question == "Are our rules loaded?")
    assert states(answers)["Is there a pager?"] == "bad"


def told(answer: Any, **access: str) -> str:
    """What the door says of a server that answers like that."""
    with serving(answer) as server, pytest.raises(ControlError) as error:
        Prometheus(server.url(), Access(**access), timeout=3).targets()
    return str(error.value)


@pytest.mark.parametrize(
    ("answer", "says_so"),
    [
        (ok(b"<html>login</html>"), "not in JSON"),
        (ok(b""), "not in JSON"),
        (ok(b"[1, 2]"), "not in JSON"),
        (ok(b"[" * 200_000), "not in JSON"),
        (ok(b"\xff\xfe\x00{}"), "not in JSON"),
        (ok(b"{}"), "not as Prometheus does"),
        (ok(b'{"data": []}'), "not as Prometheus does"),
        (ok(b'{"data": {"activeTargets": "many"}}'), "not as Prometheus does"),
        (ok(b'{"data": {"activeTargets": [1, null]}}'), "not as Prometheus does"),
        (ok(b'{"status": "error", "error": "too busy"}', status="503 Unavailable"), "refused: too busy"),
        (ok(b"oops", status="500 Internal Server Error"), "HTTP 500"),
        (ok(b"who?", status="401 Unauthorized"), "a user with password file"),
        (ok(b"no such page", status="404 Not Found"), "route prefix"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not answer"),
        (says(b""), "does not answer"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "does not answer"),
    ],
)
def test_whatever_answers_instead_of_a_prometheus_is_told_in_plain_words(answer: Any, says_so: str) -> None:
    assert says_so in told(answer)


def test_targets_and_rules_of_odd_shapes_lose_what_is_odd_and_nothing_else() -> None:
    body = json.dumps(
        {"data": {"activeTargets": [{"labels": {"job": 7}, "health": ["up"], "lastError": None}]}}
    ).encode()
    with serving(ok(body)) as server:
        (target,) = Prometheus(server.url()).targets()
    assert (target.labels, target.health, target.error) == ({"job": "7"}, "", "")


@pytest.mark.parametrize("value", [b'"x"', b'[1, "x"]', b"[1]", b"null", b"{}"])
def test_a_value_that_is_no_number_is_no_sample(value: bytes) -> None:
    body = b'{"data": {"resultType": "vector", "result": [{"metric": {}, "value": %s}]}}' % value
    with serving(ok(body)) as server, pytest.raises(ControlError, match="no number"):
        Prometheus(server.url()).query("up")


def test_a_server_that_trickles_for_ever_is_left_at_the_deadline() -> None:
    def trickle(connection: Any, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(30):
            connection.sendall(b" ")
            time.sleep(0.05)

    started = time.monotonic()
    with serving(trickle) as server:
        with pytest.raises(ControlError, match=r"did not answer within 0\.5 s"):
            Prometheus(server.url(), timeout=0.5).alerts()
        assert time.monotonic() - started < 3


def test_nobody_there_is_told_with_the_reason() -> None:
    with pytest.raises(ControlError, match="Connection refused"):
        Prometheus(f"http://127.0.0.1:{free_port()}").rules()


@pytest.mark.parametrize(
    "url", ["", "prometheus:9090", "ftp://x", "http://", "http://[::1", "http://x:99999", "file:///etc"]
)
def test_what_is_no_url_is_refused_before_anybody_is_asked(url: str) -> None:
    with pytest.raises(ControlError, match="write it like"):
        Prometheus(url)


def test_no_proxy_is_asked_for_our_own_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with serving(ok(b'{"data": {"alerts": []}}')) as server:
        assert Prometheus(server.url()).alerts() == ()


def test_a_password_and_a_bearer_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    with serving(ok(b'{"data": {"alerts": []}}')) as server:
        Prometheus(server.url(), Access(bearer_file=str(secret))).alerts()
        Prometheus(server.url(), Access(user="me", password_file=str(secret))).alerts()
    assert f"Authorization: Bearer {SECRET}".encode() in server.requests[0]
    assert b"Authorization: Basic " in server.requests[1]
    assert SECRET not in told(ok(b"", status="403 Forbidden"), bearer_file=str(secret))
    assert SECRET not in repr(Access(bearer_file=str(secret)))


@pytest.mark.parametrize("content", [f"{SECRET}\nX-Other: {SECRET}", f"{SECRET}\u20ac", f"{SECRET}\0"])
def test_a_secret_that_cannot_be_a_header_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    message = told(ok(), bearer_file=str(tmp_path / "secret"))
    assert "secret in" in message
    assert SECRET not in message


def test_a_missing_secret_and_a_missing_ca_are_told(tmp_path: Path) -> None:
    assert "cannot be read" in told(ok(), user="me", password_file=str(tmp_path / "none"))
    with pytest.raises(ControlError, match="none"):
        Prometheus(f"https://127.0.0.1:{free_port()}", Access(ca_file=str(tmp_path / "none")), timeout=3).alerts()


def test_a_password_in_the_url_is_not_repeated() -> None:
    with pytest.raises(ControlError) as error:
        Prometheus(f"http://me:{SECRET}@127.0.0.1:{free_port()}").alerts()
    assert SECRET not in str(error.value)


def test_a_certificate_is_believed_only_with_its_ca_and_ours_is_shown_when_it_is_asked_for(tmp_path: Path) -> None:
    root = Authority("Test Root")
    ca_file = root.write(tmp_path)
    chain, key = root.issue("us").write(tmp_path)
    ours = {"ca_file": ca_file, "client_cert_file": chain, "client_key_file": key}
    with serving(
        ok(b'{"data": {"alerts": []}}'), root.issue("127.0.0.1").context(tmp_path, client_ca=ca_file)
    ) as server:
        assert Prometheus(server.url(), Access(**ours)).alerts() == ()
        with pytest.raises(ControlError, match="TLS failed"):
            Prometheus(server.url()).alerts()


class Asked(Alertmanager):
    """An Alertmanager that answers with this config."""

    text = ""

    def config(self) -> str:
        return self.text


def shipped_config(url: str) -> str:
    """Our file as Alertmanager tells it; newer ones hide the URLs of webhooks."""
    lines = (ROOT / "alerts" / "alertmanager.yml").read_text().splitlines()
    return "\n".join(re.sub(r"url: \S+", f"url: {url}", line) for line in lines if not line.lstrip().startswith("#"))


@pytest.mark.parametrize(
    ("config", "unpaged", "state"),
    [
        (shipped_config("http://exporter:19835/api/v1/inbox"), False, "warn"),
        (shipped_config("http://exporter:19835/api/v1/inbox?pager=configured"), False, "warn"),
        (shipped_config("<secret>"), True, "warn"),
        (shipped_config("<secret>"), False, "ok"),
        (shipped_config("https://hooks.example.org/api/v1/inbox/mine"), True, "ok"),
        (
            shipped_config("http://exporter:19835/api/v1/inbox") + "\n    email_configs: [{to: a@example.org}]",
            True,
            "ok",
        ),
    ],
)
def test_an_inbox_is_no_pager(config: str, unpaged: bool, state: str) -> None:
    finding = [{"metric": {"rule": "pager-not-configured"}, "value": [0, "1"]}] if unpaged else []
    answers = {
        "/api/v1/query": {"result": finding, "resultType": "vector"},
        "/api/v1/targets": {"activeTargets": []},
        "/api/v1/rules": {"groups": []},
        "/api/v1/alertmanagers": {"activeAlertmanagers": [{"url": "http://127.0.0.1:9/api/v2/alerts"}]},
    }
    with serving(by_path(answers)) as server:
        found = wiring(Prometheus(server.url()), type("Told", (Asked,), {"text": config}))
    assert states(found)["Is there a pager?"] == state


def test_a_test_of_the_pager_is_told_as_one() -> None:
    labels = {"alertname": "GpuCanaryDiskLow", "injected": "true", "severity": "critical"}
    alert = {"labels": labels, "annotations": {}, "state": "firing", "value": "1", "activeAt": "2026-11-21T11:00:00Z"}
    rule = {
        "name": "GpuCanaryDiskLow",
        "type": "alerting",
        "query": "gpucanary_finding",
        "health": "ok",
        "alerts": [alert],
    }
    answers = {
        "/api/v1/query": {"result": [], "resultType": "vector"},
        "/api/v1/targets": {"activeTargets": []},
        "/api/v1/rules": {"groups": [{"name": "disks", "file": "environment.yml", "rules": [rule]}]},
        "/api/v1/alertmanagers": {"activeAlertmanagers": []},
    }
    with serving(by_path(answers)) as server:
        found = wiring(Prometheus(server.url()))
    assert found[-1].detail.startswith("a test, injected: GpuCanaryDiskLow")


def by_path(answers: dict[str, Any]) -> Any:
    """A Prometheus that says this."""

    def answer(connection: Any, request: bytes) -> None:
        path = request.split()[1].decode().partition("?")[0]
        ok(json.dumps({"status": "success", "data": answers[path]}).encode())(connection, request)

    return answer


def test_an_alertmanager_that_cannot_be_asked_is_a_warning_not_a_verdict() -> None:
    answers = {
        "/api/v1/query": {"result": [], "resultType": "vector"},
        "/api/v1/targets": {"activeTargets": []},
        "/api/v1/rules": {"groups": []},
        "/api/v1/alertmanagers": {"activeAlertmanagers": [{"url": f"http://127.0.0.1:{free_port()}/api/v2/alerts"}]},
    }

    with serving(by_path(answers)) as server:
        found = wiring(Prometheus(server.url()))
    assert states(found)["Is there a pager?"] == "warn"


def test_a_prometheus_that_does_not_answer_is_the_one_answer() -> None:
    (answer,) = wiring(Prometheus(f"http://127.0.0.1:{free_port()}"))
    assert (answer.question, answer.state) == ("Does Prometheus answer?", "bad")


def test_another_program_is_not_taken_for_an_alertmanager() -> None:
    with (
        serving(ok(b'{"config": {"original": 7}}')) as server,
        pytest.raises(ControlError, match="not as Alertmanager"),
    ):
        Alertmanager(server.url()).config()
