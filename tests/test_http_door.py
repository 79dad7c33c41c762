"""Does the HTTP door tell what a server did, whatever the server does, and stop when it is told to?"""

from __future__ import annotations

import errno
import gzip
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from exporter.world import http
from exporter.world.http import fetch
from exporter.world.token import Token
from probes.api import Aborted
from probes.world.http import Request, Response
from tests.nvml import compiler
from tests.servers import Answer, Server, ok, resets, says, serving

ROOT = Path(__file__).parent.parent
AT_ONCE = 0.5  # seconds; what is bounded by nothing else here takes 5 and more


def get(url: str, token: Token | None = None, **asked: object) -> Response:
    return fetch(Request(url, **{"timeout": 5.0, **asked}), token or Token(10))  # type: ignore[arg-type]


def asked_of(answer: Answer, **asked: object) -> Response:
    with serving(answer) as server:
        return get(server.url(), **asked)


def waits(connection: socket.socket, request: bytes) -> None:
    """Say nothing until the client leaves."""
    while connection.recv(1024):
        continue


def drips(connection: socket.socket, request: bytes) -> None:
    """A body that is about to arrive for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b".")
        time.sleep(0.02)


def test_an_answer_is_told_in_full() -> None:
    response = asked_of(ok(b"hello", "X-Twice: 1", "X-Twice:  2 ", "Content-Type: text/plain"))
    assert (response.status, response.body, response.version, response.error) == (200, b"hello", "1.1", None)
    assert response.headers == {"content-length": "5", "x-twice": "2", "content-type": "text/plain"}
    assert (response.verified, response.certificates, response.redirects) == (None, (), 0)


def test_phases_add_up_to_the_whole_and_name_the_slow_one() -> None:
    def slow(connection: socket.socket, request: bytes) -> None:
        time.sleep(0.2)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        time.sleep(0.1)
        connection.sendall(b"k")

    response = asked_of(slow)
    spent = response.phases
    assert sum((spent.resolve, spent.connect, spent.processing, spent.transfer)) == pytest.approx(response.seconds)
    assert 0.2 <= spent.processing < 0.29
    assert 0.1 <= spent.transfer < 0.2
    assert spent.tls == 0


def test_every_request_takes_a_connection_of_its_own() -> None:
    ports = []

    def answer(connection: socket.socket, request: bytes) -> None:
        ports.append(connection.getpeername()[1])
        ok()(connection, request)
        waits(connection, request)

    with serving(answer) as server:
        for _ in range(3):
            assert get(server.url()).body == b"ok"
    assert len(set(ports)) == 3


HEAD = b"HTTP/1.1 200 OK\r\n"
HOSTILE: dict[str, tuple[Answer, str, int]] = {
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol", 0),
    "a status line of garbage": (says(b"HTTP/1.1 \xff\xfe\x00\r\n\r\n"), "protocol", 0),
    "a status that is no number": (says(b"HTTP/1.1 OK 200\r\n\r\n"), "protocol", 0),
    "no word at all": (says(), "reset", 0),
    "a slammed door": (resets(), "reset", 0),
    "a reset in mid-body": (resets(HEAD, b"Content-Length: 10\r\n\r\n12345"), "reset", 200),
    "a body shorter than promised": (says(HEAD, b"Content-Length: 10\r\n\r\n12345"), "reset", 200),
    "a content length of garbage": (says(HEAD, b"Content-Length: minus one\r\n\r\nx"), "protocol", 200),
    "two content lengths": (says(HEAD, b"Content-Length: 1\r\nContent-Length: 5\r\n\r\nx"), "protocol", 200),
    "a chunk of garbage": (says(HEAD, b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n"), "reset", 200),
    "a chunked body cut short": (says(HEAD, b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), "reset", 200),
    "gzip that is none": (says(HEAD, b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"), "protocol", 200),
    "a NUL in a header": (says(HEAD, b"X: a\x00b\r\nContent-Length: 0\r\n\r\n"), "protocol", 200),
    "a header of a megabyte": (says(HEAD, b"X: " + b"y" * 1024**2 + b"\r\n\r\n"), "protocol", 200),
    "a hundred thousand headers": (says(HEAD, b"X: y\r\n" * 100_000, b"\r\n"), "protocol", 200),
    "provisional answers for ever": (says(*[b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"] * 20_000), "protocol", 0),
    "nothing but a provisional answer": (says(b"HTTP/1.1 100 Continue\r\n\r\n"), "reset", 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_rude_server_is_described(name: str) -> None:
    answer, error, status = HOSTILE[name]
    began = time.monotonic()
    response = asked_of(answer)
    assert time.monotonic() - began < 4
    assert (response.error, response.status) == (error, status), response.detail
    assert response.detail.isprintable()
    assert 20 < len(response.detail) < 500


def test_what_arrived_of_a_broken_body_is_kept() -> None:
    assert asked_of(resets(HEAD, b"Content-Length: 10\r\n\r\n12345")).body in (b"12345", b"")  # a reset may outrun it
    assert asked_of(says(HEAD, b"Content-Length: 10\r\n\r\n12345")).body == b"12345"


def test_bare_line_feeds_are_understood() -> None:
    response = asked_of(says(b"HTTP/1.0 200 OK\nX: y\n\nbody"))
    assert (response.version, response.headers, response.body) == ("1.0", {"x": "y"}, b"body")


def test_only_the_final_answer_counts() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
    chunked = b"Transfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n"
    response = asked_of(says(early, HEAD, chunked))
    assert (response.status, response.body, response.error) == (200, b"ok", None)
    assert "x-early" not in response.headers
    assert "x-late" not in response.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_a_method_is_sent_as_it_is(method: str) -> None:
    body = b"" if method in ("GET", "HEAD", "OPTIONS") else b"\x00raw\r\n"
    with serving(ok()) as server:
        headers = {"X-Empty": "", "Authorization": "Bearer x"}
        response = get(server.url("/a%20b?c=d#e"), method=method, body=body, headers=headers)
    assert (response.status, response.body) == (200, b"" if method == "HEAD" else b"ok")
    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"{method} /a%20b?c=d HTTP/1.1"
    assert {"Authorization: Bearer x", "X-Empty:", f"Host: 127.0.0.1:{server.port}"} <= set(lines)
    assert not [line for line in lines if line.startswith(("Expect", "Content-Type", "Cookie"))]
    assert sent == body
    assert (f"Content-Length: {len(body)}" in lines) == bool(body)


def test_a_large_body_is_sent_without_asking_first() -> None:
    with serving(ok()) as server:
        assert get(server.url(), method="POST", body=b"x" * 3_000_000).status == 200
    assert len(server.requests[0]) > 3_000_000


@pytest.mark.parametrize(("limit", "error"), [(5, None), (4, "too_large"), (0, "too_large")])
def test_a_body_over_the_limit_is_cut_there(limit: int, error: str | None) -> None:
    response = asked_of(ok(b"12345"), limit=limit)
    assert (response.error, response.body, response.status) == (error, b"12345"[:limit], 200)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_cut_at_the_limit_after_decompression(encoding: str) -> None:
    zeros = bytes(256 * 1024 * 1024)
    bomb = gzip.compress(zeros, 6) if encoding == "gzip" else zlib.compress(zeros, 6)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del zeros
    response = asked_of(ok(bomb, f"Content-Encoding: {encoding}"), limit=1024 * 1024)
    assert (response.error, len(response.body)) == ("too_large", 1024 * 1024)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_a_compressed_body_is_read_as_what_it_says() -> None:
    response = asked_of(ok(gzip.compress(b"hello"), "Content-Encoding: gzip"))
    assert response.body == b"hello"


def test_a_refused_connection_is_told_apart_from_a_name_that_does_not_resolve() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    refused = get(f"http://127.0.0.1:{port}/")
    assert (refused.error, refused.status, refused.verified) == ("refused", 0, None)
    assert f"127.0.0.1:{port}" in refused.detail
    unknown = get("http://host.invalid/")
    assert unknown.error == "resolve"
    assert "getent hosts host.invalid" in unknown.detail
    assert unknown.phases.resolve == pytest.approx(unknown.seconds)


@pytest.fixture
def unanswered() -> Iterator[str]:
    """A url whose connection is never made: the listener's queue is full, so Linux drops the SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        held = [socket.socket() for _ in range(4)]
        for each in held:
            each.setblocking(False)
            each.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/"
        for each in held:
            each.close()


@pytest.fixture(params=["connect", "tls", "processing", "transfer"])
def stuck(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A url that hangs in one phase, and that phase."""
    if request.param == "connect":
        yield request.getfixturevalue("unanswered"), "connect"
        return
    with serving(drips if request.param == "transfer" else waits) as server:
        # A server that does not speak TLS and waits for a request line leaves the handshake hanging.
        url = server.url()
        yield url.replace("http:", "https:") if request.param == "tls" else url, request.param


def test_a_timeout_is_the_servers_and_is_charged_to_the_phase_it_hung_in(stuck: tuple[str, str]) -> None:
    url, phase = stuck
    began = time.monotonic()
    response = get(url, timeout=0.3)
    assert 0.29 < time.monotonic() - began < 0.3 + AT_ONCE
    assert response.error == "timeout"
    assert response.detail == f"no complete answer within 0.3 s; the time went to {phase}"
    assert getattr(response.phases, phase) > 0.25
    assert response.status == (200 if phase == "transfer" else 0)


def test_a_cancelled_run_leaves_at_once_wherever_it_waits(stuck: tuple[str, str]) -> None:
    token = Token(30)
    timer = threading.Timer(0.1, token.cancel, ["shutdown"])
    timer.start()
    began = time.monotonic()
    with pytest.raises(Aborted) as stop:
        get(stuck[0], token)
    assert stop.value.reason == "shutdown"
    assert time.monotonic() - began < 0.1 + AT_ONCE
    timer.join()


def test_the_runs_deadline_is_not_the_servers_fault() -> None:
    with serving(waits) as server, pytest.raises(Aborted) as stop:
        get(server.url(), Token(0.2))
    assert stop.value.reason == "deadline"
    with pytest.raises(Aborted):
        get("http://127.0.0.1:1/", Token(0))


@pytest.fixture(scope="module")
def slow_resolver(tmp_path_factory: pytest.TempPathFactory) -> str:
    cc = compiler()
    if cc is None or sys.platform != "linux":
        pytest.skip("no C compiler for the slow resolver: apt-get install gcc libc6-dev")
    library = tmp_path_factory.mktemp("resolver") / "slow_resolver.so"
    source = Path(__file__).with_name("slow_resolver.c")
    subprocess.run([*cc, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, timeout=120)
    return str(library)


def test_a_resolver_that_hangs_holds_up_neither_the_check_nor_the_exit(slow_resolver: str) -> None:
    code = """
import time
from exporter.world.http import fetch
from exporter.world.token import Token
from probes.world.http import Request
for _ in range(3):
    began = time.monotonic()
    response = fetch(Request("http://model.slow.test/", timeout=0.3), Token(10))
    print(response.error, time.monotonic() - began < 5, 0.25 < response.phases.resolve < 5, flush=True)
"""
    began = time.monotonic()
    environment = {**os.environ, "LD_PRELOAD": slow_resolver}
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=30, capture_output=True, text=True
    )
    assert child.stdout.split("\n")[:3] == ["timeout True True"] * 3, child.stderr
    assert child.returncode == 0
    assert time.monotonic() - began < 25  # it sleeps for a minute


def redirects(server: Callable[[], Server], location: str, status: int = 302) -> Answer:
    """Redirect everything but /end to `location`."""

    def answer(connection: socket.socket, request: bytes) -> None:
        if request.split(b" ")[1].startswith(b"/end"):
            ok(b"end")(connection, request)
        else:
            to = location.format(port=server().port)
            ok(b"moved", f"Location: {to}", "Set-Cookie: a=b", status=f"{status} Moved")(connection, request)

    return answer


def moved(location: str, status: int = 302, **asked: object) -> tuple[Response, list[bytes]]:
    """What comes of a redirect, and all requests the server saw."""
    servers: list[Server] = []
    with serving(redirects(lambda: servers[0], location, status)) as server:
        servers.append(server)
        return get(server.url("/start/here"), **{"follow_redirects": 3, **asked}), server.requests


def test_a_redirect_is_an_answer_unless_it_is_to_be_followed() -> None:
    response, _ = moved("/end", follow_redirects=0)
    assert (response.status, response.body, response.error) == (302, b"moved", None)


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/end", b"/end"),
        ("../end?a=b#part", b"/end?a=b"),
        ("http://127.0.0.1:{port}/end", b"/end"),
        ("//127.0.0.1:{port}/end", b"/end"),
        ("/end with space/ü", b"/end%20with%20space/%C3%BC"),
    ],
)
def test_a_redirect_is_followed_where_it_leads(location: str, path: bytes) -> None:
    response, requests = moved(location)
    assert (response.body, response.redirects, response.error) == (b"end", 1, None)
    assert requests[1].split(b" ")[1] == path
    assert response.url.endswith(path.decode())
    assert b"Cookie" not in requests[1]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (302, "PUT", "PUT"),
        (302, "GET", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ],
)
def test_a_redirect_changes_the_method_as_browsers_do(status: int, method: str, then: str) -> None:
    body = b"" if method in ("GET", "HEAD") else b"{}"
    _, requests = moved("/end", status, method=method, body=body, headers={"Content-Type": "application/json"})
    assert requests[1].startswith(then.encode() + b" /end ")
    kept = method == then
    assert requests[1].endswith(body if kept else b"\r\n\r\n")
    assert (b"Content-Type" in requests[1]) == kept


def test_redirects_without_end_are_counted_and_stopped() -> None:
    response, requests = moved("/again")
    assert (response.error, response.redirects, response.status, len(requests)) == ("redirects", 3, 302, 4)
    assert "after 3 redirects" in response.detail


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://x/", "http://u:p@127.0.0.1/", "http://[::1"]
)
def test_a_redirect_leads_nowhere_but_to_another_web_address(location: str) -> None:
    response, requests = moved(location)
    assert (response.error, len(requests)) == ("redirects", 1)


def test_credentials_do_not_follow_to_another_host() -> None:
    secrets = {"Authorization": "Bearer x", "X-Api-Key": "y", "Accept": "application/json"}
    _, same = moved("/end", headers=secrets)
    assert b"Bearer x" in same[1]
    response, other = moved("http://localhost:{port}/end", headers=secrets)
    assert response.body == b"end"
    assert b"Accept: application/json" in other[1]
    assert not [secret for secret in (b"Bearer", b"Api-Key") if secret in other[1]]


def test_a_body_is_not_handed_to_another_host() -> None:
    response, requests = moved("http://localhost:{port}/end", 307, method="POST", body=b"password=x")
    assert (response.error, len(requests)) == ("redirects", 1)
    assert "hand the body" in response.detail


def test_a_slow_chain_of_redirects_shares_one_timeout() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        time.sleep(0.15)
        ok(b"", "Location: /", status="302 Found")(connection, request)

    with serving(answer) as server:
        began = time.monotonic()
        assert get(server.url(), timeout=0.4, follow_redirects=20).error == "timeout"
        assert time.monotonic() - began < 0.4 + AT_ONCE


def test_neither_a_proxy_nor_a_netrc_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(ok()) as server:
        assert get(server.url()).status == 200
    assert b"Authorization" not in server.requests[0]


def test_many_threads_get_their_own_answers() -> None:
    def echo(connection: socket.socket, request: bytes) -> None:
        ok(request.split(b" ")[1])(connection, request)

    with serving(echo) as server, ThreadPoolExecutor(20) as pool:
        paths = [f"/{n}" for n in range(200)]
        bodies = list(pool.map(lambda path: get(server.url(path)).body.decode(), paths))
    assert bodies == paths


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="counts /proc/self/fd")
def test_no_file_stays_open_whatever_happened() -> None:
    with serving(ok()) as good, serving(resets(HEAD)) as bad, serving(waits) as silent:
        urls = [good.url(), bad.url(), silent.url(), "http://127.0.0.1:1/"]
        urls.append(silent.url().replace("http:", "https:"))

        def everything() -> int:
            for url in urls:
                get(url, timeout=0.1)
            return open_files()

        everything()
        first = everything()
        for _ in range(5):
            everything()
        # The servers run in this process: a connection they have yet to close counts too.
        deadline = time.monotonic() + 5
        while (last := open_files()) > first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert last <= first


def sockets_are_made_by(make: Callable[..., socket.socket], patch: pytest.MonkeyPatch) -> None:
    """In the door only: the test's own server goes on."""
    patch.setattr(http, "socket", SimpleNamespace(socket=make, SHUT_RDWR=socket.SHUT_RDWR))


def test_running_out_of_sockets_is_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*address: int) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    sockets_are_made_by(none_left, monkeypatch)
    with pytest.raises(OSError, match="Too many open files"):
        get("http://127.0.0.1:1/")


def test_a_host_without_ipv6_still_reaches_the_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_v4(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return socket.socket(family, *rest)

    sockets_are_made_by(only_v4, monkeypatch)
    with serving(ok()) as server:
        assert get(server.url(host="localhost")).status == 200
