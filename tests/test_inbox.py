"""Do alerts arrive in the inbox, is it bounded, and can whoever writes there do harm?"""

from __future__ import annotations

import gc
import json
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import inbox as inboxes
from exporter.inbox import DAY, LIMIT, UNHEARD, Inbox, Unreadable
from exporter.redaction import Redactor
from tests.checks import check, quiet, result
from tests.deliveries import NOW, alert, message, rfc3339
from tests.process import Exporter
from tests.scrape import value
from tests.stack.servers import alertmanager, until
from tests.web_service import Canary, answering

# -- what is kept ---------------------------------------------------------------------------------------------------


def test_a_firing_alert_is_replaced_when_it_is_resolved() -> None:
    inbox = Inbox()
    assert inbox.take(message(alert()), now=NOW) == 1
    (firing,) = inbox.notices(NOW)
    assert (firing.name, firing.state, firing.since, firing.ended) == ("GpuCanaryDiskLow", "firing", NOW - 60, None)
    inbox.take(message(alert(state="resolved")), now=NOW + 5)
    (ended,) = inbox.notices(NOW + 5)
    assert (ended.state, ended.ended) == ("resolved", NOW - 1)


def test_firing_ones_come_first_and_the_newest_of_each() -> None:
    inbox = Inbox()
    old, new = alert("A", since=NOW - 900), alert("B", since=NOW - 9)
    inbox.take(message(alert("C", "resolved"), old, new), now=NOW)
    assert [n.name for n in inbox.notices(NOW)] == ["B", "A", "C"]


def test_what_ended_is_forgotten_after_a_day_and_what_is_not_repeated_after_two() -> None:
    inbox = Inbox()
    inbox.take(message(alert("A"), alert("B", "resolved")), now=NOW)
    assert {n.name for n in inbox.notices(NOW + DAY - 1)} == {"A", "B"}
    assert {n.name for n in inbox.notices(NOW + DAY + 1)} == {"A"}
    assert inbox.notices(NOW + UNHEARD + 1) == ()


def test_it_keeps_a_bounded_number_and_drops_what_ended_first() -> None:
    inbox = Inbox()
    inbox.take(message(alert("ended", "resolved")), now=NOW)
    inbox.take(message(*(alert(f"A{i}") for i in range(LIMIT))), now=NOW)
    names = [n.name for n in inbox.notices(NOW)]
    assert len(names) == LIMIT
    assert "ended" not in names
    inbox.take(message(alert("newest")), now=NOW + 1)
    names = [n.name for n in inbox.notices(NOW + 1)]
    assert (len(names), "newest" in names, "A0" in names) == (LIMIT, True, False)


def test_long_texts_and_many_labels_are_cut() -> None:
    inbox = Inbox()
    many = {f"label_{i}": "x" * 5000 for i in range(500)}
    inbox.take(message(alert(labels=many, annotations={"summary": "s" * 50_000}, fingerprint="f" * 9999)), now=NOW)
    (notice,) = inbox.notices(NOW)
    assert len(json.dumps(notice.to_dict())) < 10_000


def test_what_says_who_and_where_is_kept_of_many_labels() -> None:
    inbox = Inbox()
    many = {f"a_{i}": "x" for i in range(50)}
    labels = {**many, "alertname": "GpuCanaryDiskLow", "severity": "critical", "subject": "/models"}
    row = {"status": "firing", "labels": labels, "annotations": {**many, "summary": "The disk is low."}}
    inbox.take(message(row), now=NOW)
    (notice,) = inbox.notices(NOW)
    assert (notice.name, notice.severity, notice.labels["subject"]) == ("GpuCanaryDiskLow", "critical", "/models")
    assert notice.annotations == {"summary": "The disk is low."}


def test_a_secret_is_hidden_even_where_a_text_is_cut_in_the_middle_of_it() -> None:
    inbox = Inbox(Redactor(["hunter2hunter2"]))
    inbox.take(message(alert(annotations={"summary": "x" * (inboxes.TEXT - 5) + "hunter2hunter2"})), now=NOW)
    inbox.take(message(alert("B", labels={"check": "hunter2hunter2"}), receiver="hunter2hunter2"), now=NOW)
    assert "hunter" not in json.dumps([n.to_dict() for n in inbox.notices(NOW)])


def test_the_watchdog_is_a_time_and_no_alert() -> None:
    inbox = Inbox()
    assert inbox.watchdog() is None
    inbox.take(message(alert("GpuCanaryWatchdog"), receiver="watchdog"), now=NOW)
    assert (inbox.watchdog(), inbox.notices(NOW), inbox.unpaged(NOW)) == (NOW, (), ())
    inbox.take(message(alert("GpuCanaryWatchdog", "resolved"), receiver="watchdog"), now=NOW + 9)
    assert inbox.watchdog() == NOW


def test_a_pager_counts_as_missing_while_its_alerts_end_here() -> None:
    inbox = Inbox()
    inbox.take(message(alert(), receiver="elsewhere"), now=NOW)
    assert inbox.unpaged(NOW) == ()
    inbox.take(message(alert(), receiver="page"), now=NOW)
    inbox.take(message(alert("B"), receiver="ticket"), now=NOW)
    assert inbox.unpaged(NOW) == ("page", "ticket")
    inbox.take(message(alert(), receiver="page"), pager_elsewhere=True, now=NOW + 1)
    assert inbox.unpaged(NOW + 2) == ("ticket",)
    assert inbox.unpaged(NOW + DAY + 1) == ()


# -- hostile input --------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["alerts", "status", "labels", "a"]), inner),
)


@given(st.binary() | JSON.map(lambda data: json.dumps(data).encode()))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    inbox = Inbox()
    with suppress(Unreadable):
        inbox.take(body)
    json.dumps([n.to_dict() for n in inbox.notices()], allow_nan=False)


@given(st.dictionaries(st.sampled_from(["labels", "annotations", "startsAt", "endsAt", "fingerprint", "x"]), JSON))
def test_fields_of_any_type_make_an_alert_or_none(fields: dict[str, Any]) -> None:
    inbox = Inbox()
    assert inbox.take(message({"status": "resolved", **fields})) == 1
    json.dumps([n.to_dict() for n in inbox.notices()], allow_nan=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"version": "4", "alerts": ' + b'{"a":' * 50_000,
        b'{"version": "3", "alerts": []}',
        b'{"version": 4, "alerts": []}',
        b'{"version": "4", "alerts": {}}',
        b'{"version": "4", "alerts": [null]}',
        b'{"version": "4", "alerts": [{"status": "burning"}]}',
        b'{"version": "4", "alerts": [{"status": ["firing"]}]}',
        b"9" * 10_000,
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
def test_what_is_no_message_changes_nothing(body: bytes) -> None:
    inbox = Inbox()
    inbox.take(message(alert()), now=NOW)
    with pytest.raises(Unreadable):
        inbox.take(body, now=NOW)
    assert len(inbox.notices(NOW)) == 1


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "yesterday", "", None, 12, [], {}])
def test_a_time_that_is_none_is_the_time_of_arrival(moment: Any) -> None:
    inbox = Inbox()
    inbox.take(message({**alert(), "startsAt": moment}), now=NOW)
    assert inbox.notices(NOW)[0].since == NOW


# -- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.fixture
def canary(tmp_path):
    return Canary(tmp_path, check(quiet), redact=Redactor(["hunter2hunter2"]), enable_inbox=True)


@pytest.fixture
def site(canary):
    canary.record(result())
    with answering(canary) as site:
        yield site


def test_without_the_flag_it_takes_nothing_and_says_how_to_enable_it(tmp_path):
    with answering(Canary(tmp_path, check(quiet))) as site:
        for method, body in (("POST", message(alert())), ("GET", None)):
            answer = site.ask("/api/v1/inbox", method, body)
            assert answer.status == 403
            assert "--web.enable-inbox" in answer.json["error"]
        assert "Alertmanager" not in site.ask("/").text


def test_the_page_says_that_nobody_was_called_until_somebody_is(site):
    assert "Nobody was called" not in site.ask("/").text
    site.ask("/api/v1/inbox", "POST", message(alert(), receiver="page"))
    page = site.ask("/").text
    assert "Nobody was called" in page
    assert "/runbooks/pager-not-configured" in page
    site.ask("/api/v1/inbox?pager=configured", "POST", message(alert(), receiver="page"))
    assert "Nobody was called" not in site.ask("/").text


def test_no_page_calls_all_well_while_an_alert_fires_that_is_no_test(site):
    site.ask("/api/v1/inbox", "POST", message(alert(labels={"injected": "true"})))
    assert "All is well." in site.ask("/").text
    assert "a test, injected" in site.ask("/").text
    site.ask("/api/v1/inbox", "POST", message(alert("B", annotations={"description": "Page of `gpu` <b>."})))
    page = site.ask("/").text
    assert "Every check here is well, but alerts fire." in page
    assert "Page of <code>gpu</code> &lt;b&gt;." in page
    site.ask("/api/v1/inbox", "POST", message(alert("B", "resolved")))
    assert "All is well." in site.ask("/").text


def test_what_arrives_is_on_the_page_in_the_api_and_asked_for_in_the_metrics(canary, site):
    now = time.time()
    fresh = alert(since=now - 30, annotations={"dashboard_url": "javascript:alert(1)"})
    over = {**alert("GpuCanaryGpuHot", annotations={"summary": "The card is hot."}), "status": "resolved"}
    answer = site.ask("/api/v1/inbox", "POST", message(fresh, over, alert("GpuCanaryWatchdog")))
    assert (answer.status, answer.json) == (200, {"alerts": 3})
    told = site.ask("/api/v1/inbox").json
    assert [(a["name"], a["state"]) for a in told["alerts"]] == [
        ("GpuCanaryDiskLow", "firing"),
        ("GpuCanaryGpuHot", "resolved"),
    ]
    assert told["watchdog"] == pytest.approx(now, abs=10)
    assert canary.asked == ["inbox"]
    for path in ("/", "/fragment/status"):
        text = site.ask(path).text
        assert text.index("The disk is low.") < text.index("The card is hot.")
        assert "3 GiB are left." in text
        assert "<code>du -sh /models</code>" in text
        assert 'href="http://ws:19835/runbooks/GpuCanaryDiskLow"' in text
        assert "javascript:" not in text
        assert "last seen" in text
        assert "GpuCanaryWatchdog" not in text


def test_what_an_alert_says_is_text_without_secrets(site):
    evil = "<script>alert(1)</script> hunter2hunter2 \ud800"
    own = dict.fromkeys(("summary", "description", "remedy", "runbook_url"), evil)
    labels = {"check": evil, "instance": evil, "severity": '"><script>alert(1)</script>'}
    assert site.ask("/api/v1/inbox", "POST", message(alert(evil, labels=labels, annotations=own))).status == 200
    page, told = site.ask("/"), site.ask("/api/v1/inbox")
    assert (page.status, told.status) == (200, 200)
    assert b"<script>alert" not in page.body
    assert b"&lt;script&gt;alert(1)" in page.body
    assert b"hunter2" not in page.body + told.body


@pytest.mark.parametrize("body", [b"{", b"null", b"[" * 100_000, b'{"version":"4","alerts":[1]}'])
def test_what_is_no_message_is_refused_in_plain_words(site, body):
    answer = site.ask("/api/v1/inbox", "POST", body)
    assert answer.status == 400
    assert "Alertmanager" in answer.json["error"] or "alerts" in answer.json["error"]


def test_a_message_may_have_a_mebibyte_and_not_more(site):
    whole = message(alert(annotations={"description": "x" * 900_000}))
    assert site.ask("/api/v1/inbox", "POST", whole).status == 200
    assert site.ask("/api/v1/inbox", "POST", content_length=str((1 << 20) + 1)).status == 413
    assert site.ask("/-/reload", "POST", content_length="70000").status == 413, "that is for the inbox alone"
    assert site.ask("/api/v1/inbox", "PUT", b"x").status == 405


def test_a_message_that_does_not_arrive_holds_nobody_up(site, monkeypatch):
    monkeypatch.setattr("exporter.web.inbox.SECONDS", 0.2)
    connections = [site.connection() for _ in range(5)]
    for connection in connections:
        connection.putrequest("POST", "/api/v1/inbox")
        connection.putheader("content-length", "1000")
        connection.endheaders(b"{")
    assert site.ask("/api/v1/checks").status == 200
    assert [connection.getresponse().status for connection in connections] == [408] * 5
    for connection in connections:
        connection.close()
    assert site.ask("/api/v1/inbox", "POST", message(alert())).status == 200


def test_nothing_of_a_refused_message_is_kept(site):
    body = b'{"version":"4","alerts":[' + b"[]," * 50_000 + b"[]]}"
    gc.collect()
    gc.disable()  # what is left over must need no collector: it comes too late for those who send much
    try:
        before = len(gc.get_objects())
        for _ in range(4):
            assert site.ask("/api/v1/inbox", "POST", body).status == 400
        assert len(gc.get_objects()) - before < 50_000
    finally:
        gc.enable()


def test_a_page_from_elsewhere_cannot_write_here(site):
    answer = site.ask("/api/v1/inbox", "POST", message(alert()), origin="https://evil.example")
    assert answer.status == 403
    assert site.ask("/api/v1/inbox").json["alerts"] == []


# -- the whole program ----------------------------------------------------------------------------------------------

CONFIG = """
route: {{receiver: page, group_wait: 1s, group_interval: 1s}}
receivers: [{{name: page, webhook_configs: [{{url: "http://127.0.0.1:{port}/api/v1/inbox", send_resolved: true}}]}}]
"""


def test_the_check_of_the_house_is_there_only_with_the_inbox(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path)
    try:
        exporter.until(lambda s: value(s, "gpucanary_check_outcome", {"check": "history", "outcome": "ok"}) == 1)
        assert not any(name.startswith("gpucanary_inbox") for name, _ in exporter.scrape())
    finally:
        exporter.end()


@pytest.mark.prometheus
def test_a_real_alertmanager_is_heard_and_the_missing_pager_told(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, "--web.enable-inbox")
    try:
        exporter.until(lambda s: value(s, "gpucanary_inbox_alerts", {"state": "firing"}) == 0)
        with alertmanager(tmp_path, CONFIG.format(port=exporter.port)) as pager:
            _send(pager, rfc3339(time.time() + 3600))
            missing = {"check": "inbox", "rule": "pager-not-configured", "subject": "page"}
            exporter.until(
                lambda s: (
                    value(s, "gpucanary_inbox_alerts", {"state": "firing"}) == 1
                    and value(s, "gpucanary_finding", missing) == 1
                )
            )
            _send(pager, rfc3339(time.time()))
            exporter.until(lambda s: value(s, "gpucanary_inbox_alerts", {"state": "resolved"}) == 1)
        assert exporter.check("inbox")["outcome"] == "ok", "an info finding pages nobody"
        page = exporter.get("/checks/inbox")[1]
        assert re.search(r"docs/paging\.md", page)
        assert "gpu-canary inject" in page
    finally:
        exporter.end()


def _send(pager: str, ends: str) -> None:
    from urllib.request import Request, urlopen

    alerts = [{"labels": {"alertname": "GpuCanaryDiskLow", "severity": "warning"}, "endsAt": ends}]
    request = Request(f"{pager}/api/v2/alerts", json.dumps(alerts).encode(), {"content-type": "application/json"})
    until(lambda: urlopen(request, timeout=5).status == 200, "alertmanager takes the alert")
