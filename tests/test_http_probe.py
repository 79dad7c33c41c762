"""Do the http probe's assertions fail closed, and does it keep its secrets?"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.world.http import fetch
from exporter.world.token import Token
from probes.api import Evidence, Finding, Measurement
from probes.services.assertions import WINDOW, JsonAssertion, failures, found
from probes.services.http import PROBE
from probes.services.http_params import HttpParams
from probes.testing import RecordedWorld, run_recorded, verify
from probes.world.http import Request, Response
from tests.servers import ok, resets, serving

URL = "http://api.example/health"
SECRET = "hf_PlantedPlantedPlantedPlanted"
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def judged(params: Mapping[str, Any], **response: Any) -> list[str]:
    """Rule and subject of every finding of one run against a recorded answer."""
    world = RecordedWorld({"http": {f"GET {URL}": {"status": 200, "seconds": 0.1, **response}}})
    facts, end = run_recorded(PROBE, {"url": URL, **params}, world)
    assert end == ""
    return [f"{fact.rule}:{fact.subject}" for fact in facts if isinstance(fact, Finding)]


def test_the_contract_holds() -> None:
    assert verify(PROBE) == []


@pytest.mark.parametrize(
    ("statuses", "status", "right"),
    [
        (["2xx"], 204, True),
        (["2xx"], 301, False),
        ([200, "3xx"], 307, True),
        ([200], 201, False),
        (["401"], 401, True),
        (["2xx"], 999, False),
    ],
)
def test_a_status_is_right_when_it_is_listed(statuses: list[Any], status: int, right: bool) -> None:
    assert judged({"statuses": statuses}, status=status) == ([] if right else ["http-status-wrong:api.example"])


DOCUMENT: Any = {
    "status": "healthy",
    "gpu": {"available": True, "free": 12.5},
    "models": [{"name": "flux"}],
    "none": None,
}
HOLDS: list[dict[str, Any]] = [
    {"path": "status", "equals": "healthy"},
    {"path": "status", "matches": "^heal"},
    {"path": "gpu.available", "equals": True},
    {"path": "gpu.free", "at_least": 12.5, "at_most": 12.5},
    {"path": "gpu", "equals": {"free": 12.5, "available": True}},
    {"path": "models[0].name", "equals": "flux"},
    {"path": "models[0]", "exists": True},
    {"path": "models[1]", "exists": False},
    {"path": "none", "equals": None},
    {"path": "none", "exists": True},
    {"path": "gpu.used", "exists": False},
]
FAILS: list[dict[str, Any]] = [
    {"path": "absent", "equals": None},
    {"path": "absent", "matches": ".*"},
    {"path": "absent", "at_most": 1e9},
    {"path": "absent", "exists": True},
    {"path": "status.deeper", "exists": True},
    {"path": "models.name", "equals": "flux"},
    {"path": "models[1].name", "equals": "flux"},
    {"path": "models[9999999999999999999]", "exists": True},
    {"path": "gpu[0]", "equals": True},
    {"path": "status[0]", "equals": "h"},
    {"path": "gpu.available", "equals": 1},
    {"path": "gpu.available", "equals": "true"},
    {"path": "gpu.available", "at_least": 0},
    {"path": "gpu.free", "matches": "12"},
    {"path": "gpu.free", "at_least": 12.6},
    {"path": "gpu.free", "at_least": 1, "at_most": 12.4},
    {"path": "status", "at_least": 0},
    {"path": "none", "equals": False},
    {"path": "none", "matches": ""},
    {"path": "status", "exists": False},
]


@pytest.mark.parametrize("assertion", HOLDS, ids=json.dumps)
def test_an_assertion_holds_when_the_value_is_what_was_said(assertion: dict[str, Any]) -> None:
    assert judged({"json_values": [assertion]}, body=json.dumps(DOCUMENT)) == []


@pytest.mark.parametrize("assertion", FAILS, ids=json.dumps)
def test_an_assertion_fails_on_what_is_missing_or_of_another_type(assertion: dict[str, Any]) -> None:
    seen = judged({"json_values": [assertion]}, body=json.dumps(DOCUMENT))
    assert seen == [f"http-assertion-failed:json {assertion['path']}"]


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "{", '{"a": NaN}', '{"a": Infinity}', "[" * 100_000, "1" * 10_000, '{"a": 1e999}', '"\udcff'],
    ids=lambda body: body[:8],
)
@pytest.mark.parametrize("condition", [{"at_least": 0}, {"at_most": 1e300, "at_least": -1e300}])
def test_what_is_not_json_passes_no_assertion(body: str, condition: dict[str, Any]) -> None:
    (finding,) = judged({"json_values": [{"path": "a", **condition}]}, body=body)
    assert finding == "http-assertion-failed:json a"


def test_what_a_server_says_cannot_spoil_a_finding() -> None:
    world = RecordedWorld(
        {"http": {f"GET {URL}": {"status": 200, "headers": {"x": "\x1b[2J"}, "body": '{"a": "\\ud800\\u001b\\u202e"}'}}}
    )
    asked = {"url": URL, "header_matches": {"X": "^a"}, "json_values": [{"path": "a", "equals": 1}]}
    details = [fact.detail for fact in run_recorded(PROBE, asked, world)[0] if isinstance(fact, Finding)]
    assert len(details) == 2
    assert all(detail.isprintable() for detail in details)


def test_even_the_absence_of_a_value_must_be_seen_in_json() -> None:
    assert judged({"json_values": [{"path": "a", "exists": False}]}, body="<html>") == ["http-assertion-failed:json a"]


@settings(deadline=None)
@given(st.binary())
def test_no_bytes_break_an_assertion_or_satisfy_it_by_chance(body: bytes) -> None:
    assertion = JsonAssertion(path="status", equals="healthy")
    assert [path for path, _ in failures([assertion], body)] == ["status"]


@settings(deadline=None)
@given(ANY_JSON)
def test_every_value_equals_itself_and_nothing_else(value: Any) -> None:
    body = json.dumps({"a": value}).encode()
    assert list(failures([JsonAssertion(path="a", equals=json.loads(json.dumps(value)))], body)) == []
    assert len(list(failures([JsonAssertion(path="a", equals={"not": value})], body))) == 1


@pytest.mark.parametrize(
    "assertion",
    [
        {"path": "a"},
        {"path": "", "equals": 1},
        {"path": "a..b", "equals": 1},
        {"path": "a[x]", "equals": 1},
        {"path": "a[-1]", "equals": 1},
        {"path": ".a", "equals": 1},
        {"path": "a", "exists": False, "equals": 1},
        {"path": "a", "equal": 1},
        {"path": "a", "matches": "("},
    ],
    ids=json.dumps,
)
def test_an_assertion_that_says_nothing_is_refused(assertion: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HttpParams(url=URL, json_values=[assertion])  # type: ignore[list-item]


def test_headers_and_bodies_are_searched_and_what_is_missing_fails() -> None:
    params = {"header_matches": {"Content-Type": "json$", "X-None": ""}, "body_matches": ["ok", "^y"]}
    assert judged(params, headers={"content-type": "text/json"}, body="it is ok") == [
        "http-assertion-failed:header X-None",
        "http-assertion-failed:body_matches[1]",
    ]
    assert judged({"body_not_matches": ["(?i)ERROR"]}, body="an error") == ["http-assertion-failed:body_not_matches[0]"]


@pytest.mark.parametrize("at", [0, WINDOW - 3, WINDOW, 3 * WINDOW + 7])
def test_a_pattern_is_found_wherever_it_is(at: int) -> None:
    text = "x" * at + "needle" + "x" * (5 * WINDOW - at)
    assert found("needle", text)
    assert not found("needles", text)
    assert found("^", "")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a*)*", "((a+)b?)*", r"(\w+\s?)+$", "(?:x+y*){2,}", "([a-z]+)*", "((a+))+", "(a|a)+$"]
)
def test_a_pattern_that_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match="for ever"):
        HttpParams(url=URL, body_matches=(pattern,))
    with pytest.raises(ValidationError, match="for ever"):
        JsonAssertion(path="a", matches=pattern)


@pytest.mark.parametrize("pattern", ["(", "[", "*a", "(?P<n>a)(?P<n>b)", "a{2,1}"])
def test_a_pattern_that_does_not_compile_is_named(pattern: str) -> None:
    with pytest.raises(ValidationError, match="not a regular expression"):
        HttpParams(url=URL, body_matches=(pattern,))


@pytest.mark.parametrize(
    "pattern", [r"[ab]+", r"(a|b)?", r"\(a+\)+", r"[(a+)]+", r"(abc)?d+", r"^\d+(\.\d{1,3}){3}$", r"(ab){2,}"]
)
def test_an_honest_pattern_is_taken(pattern: str) -> None:
    assert HttpParams(url=URL, body_matches=(pattern,)).body_matches == (pattern,)


def test_a_greedy_pattern_over_a_large_body_ends() -> None:
    began = time.monotonic()
    assert not found(r'"loss": .*nan', '"loss": 1, ' * 100_000)
    assert time.monotonic() - began < 60  # backtracking over all of it would take days


def test_sizes_and_times_are_bounds() -> None:
    bounds = {"min_bytes": 5, "max_seconds": "50ms"}
    assert judged(bounds, body="four") == ["http-body-size:api.example", "http-slow:api.example"]
    assert judged(bounds, body="12345", seconds=0.05) == []
    cut = judged(
        {"statuses": [200]}, status=500, error="too_large", detail="the body is larger than 5 bytes", body="12345"
    )
    assert cut == ["http-body-size:api.example", "http-status-wrong:api.example"]


@pytest.mark.parametrize(
    ("error", "rule"),
    [(e, "http-unreachable") for e in ("resolve", "refused", "unreachable", "timeout", "reset", "protocol")]
    + [("tls", "http-tls-invalid"), ("redirects", "http-status-wrong")],
)
def test_every_error_of_the_door_is_a_finding(error: str, rule: str) -> None:
    assert judged({}, error=error, status=0) == [f"{rule}:api.example"]


def test_an_answer_that_was_cut_short_has_no_duration_to_compare() -> None:
    world = RecordedWorld({"http": {f"GET {URL}": {"status": 200, "error": "reset", "seconds": 9.0}}})
    facts, _ = run_recorded(PROBE, {"url": URL}, world)
    assert [fact.metric for fact in facts if isinstance(fact, Measurement)] == ["status_code"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example",
        "ftp://api.example/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://me:password@api.example/",
        "http://me@api.example/",
        "http://api.example/a b",
        "http://api.example/\r\nX-Injected: 1",
        "http://api.example/\x00",
        "http://api.example\\@other.example/",
        "http://api.example:0/",
        "http://api.example:99999/",
        "http://api.example:http/",
        "http://[::1/",
        "http://[::g]/",
        "http://a..b/",
        f"http://{'a' * 64}.example/",
        "http://api.example/ü",
        "http://api.example%2f/",
        "http://<script>/",
    ],
)
def test_a_url_that_would_make_a_strange_request_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpParams(url=url)
    with pytest.raises(ValueError):  # noqa: PT011  # each says something else
        Request(url)


@pytest.mark.parametrize(
    ("url", "wire"),
    [
        ("http://bücher.example/?q=1", "http://xn--bcher-kva.example/?q=1"),
        ("https://bücher.example:8443", "https://xn--bcher-kva.example:8443"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("http://[fe80::1%25eth0]/", "http://[fe80::1%25eth0]/"),
        ("http://127.0.0.1/?query=up{job='x'}", "http://127.0.0.1/?query=up{job='x'}"),
        ("http://host_with_underscore/", "http://host_with_underscore/"),
    ],
)
def test_a_url_goes_over_the_wire_in_ascii(url: str, wire: str) -> None:
    assert Request(url).url == HttpParams(url=url).url == wire


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nX-Injected: 1"},
        {"X": "a\nb"},
        {"X": "a\x00"},
        {"X": "ü"},
        {"X: y": "z"},
        {"X\r\nY": "z"},
        {"": "x"},
        {"Content-Length": "5"},
        {"transfer-encoding": "chunked"},
    ],
)
def test_a_header_that_would_become_another_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HttpParams(url=URL, headers=headers)
    with pytest.raises(ValidationError) as refused:
        HttpParams(url=URL, secret_headers={k: v + "\n" for k, v in headers.items()})  # type: ignore[misc]
    assert "Injected" not in str(refused.value).replace("X-Injected: 1' is no header name", "")


@pytest.mark.parametrize(
    "params",
    [
        {"method": "GET\r\n"},
        {"method": "CONNECT"},
        {"statuses": []},
        {"statuses": ["2x"]},
        {"statuses": [True]},
        {"statuses": [99]},
        {"timeout": "0s"},
        {"follow_redirects": 21},
        {"max_bytes": "1TB"},
        {"headers": {"A": "1"}, "secret_headers": {"a": "2"}},
    ],
)
def test_params_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HttpParams(url=URL, **params)


def test_a_secret_is_sent_and_shown_nowhere() -> None:
    params = {"url": "", "secret_headers": {"Authorization": f"Bearer {SECRET}"}}
    with pytest.raises(ValidationError) as refused:
        HttpParams(**params)  # type: ignore[arg-type]
    assert SECRET not in str(refused.value)
    with serving(resets()) as server:
        checked = HttpParams(**{**params, "url": server.url("/?page=1")})  # type: ignore[arg-type]
        assert SECRET not in repr(checked)
        assert SECRET not in checked.model_dump_json()

        class Door(RecordedWorld):
            def http(self, request: Request) -> Response:
                return fetch(request, Token(5))

        facts = list(PROBE.run(checked, Door()))
    assert SECRET.encode() in server.requests[0]
    (finding,) = [fact for fact in facts if isinstance(fact, Finding)]
    assert finding.subject == f"127.0.0.1:{server.port}"
    assert SECRET not in repr(facts)
    assert "page" not in repr(facts)


def test_the_body_joins_a_result_with_findings_only() -> None:
    world = RecordedWorld({"http": {f"GET {URL}": {"status": 500, "body": "x" * 10_000}}})
    facts, _ = run_recorded(PROBE, {"url": URL}, world)
    (evidence,) = [fact for fact in facts if isinstance(fact, Evidence)]
    assert 0 < len(evidence.text) <= 2000


def test_a_real_server_is_ok_from_end_to_end() -> None:
    with serving(ok(b'{"status": "healthy"}')) as server:
        params = HttpParams(url=server.url("/health"), json_values=({"path": "status", "equals": "healthy"},))  # type: ignore[arg-type]
        response = fetch(params.request(), Token(5))
        world = RecordedWorld()
        world.http = lambda request: response  # type: ignore[method-assign]
        facts = list(PROBE.run(params, world))
    assert not [fact for fact in facts if isinstance(fact, Finding)]
    assert {fact.metric for fact in facts if isinstance(fact, Measurement)} >= {"duration_seconds", "status_code"}
