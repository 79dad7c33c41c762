"""Who is let in? Names, logins, TLS, origins, sizes and headers, against the real server."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import bcrypt
import pytest

from exporter.config import Web
from exporter.config.document import ConfigError
from exporter.web import passwords
from exporter.web.access import Access, Http, Rules, Tls
from exporter.web.hosts import Hosts
from tests.checks import check, eventually, quiet
from tests.web_service import Canary, answering


@pytest.fixture(autouse=True)
def _quick_history(monkeypatch):
    monkeypatch.setattr("exporter.history.BATCH_SECONDS", 0.01)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    canary = Canary(tmp_path_factory.mktemp("canary"), check(quiet), enable_lifecycle=True)
    with answering(canary) as site:
        yield site


# -- names ----------------------------------------------------------------------------------------------------------

LOOPBACK = Web(listen_address="127.0.0.1:19835")
EVERYWHERE = Web(listen_address=":19835")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:19835",
        "localhost",
        "LOCALHOST:1",
        "[::1]:19835",
        "canary.localhost",
        "192.0.2.7",
        "localhost.",
        "host.docker.internal:1",
    ],
)
def test_a_loopback_listener_answers_to_loopback_names_and_to_addresses(host):
    assert Hosts(LOOPBACK).allow(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "printer",
        "box.local",
        "",
        ":80",
        "a@localhost",
        "localhost evil",
        "[::1",
        "localhost:80:80",
        "127.0.0.1@evil.example",
        "xn--lcalhost-56a.com",
    ],
)
def test_a_loopback_listener_answers_to_no_other_name(host):
    assert not Hosts(LOOPBACK).allow(host.encode())


@pytest.mark.parametrize(
    "host", ["exporter:19835", "box.local", "gpu.internal", "nas.home.arpa:9", "10.0.0.7:19835", "[fd00::1]"]
)
def test_a_listener_beyond_loopback_answers_to_names_no_stranger_can_register(host):
    assert Hosts(EVERYWHERE).allow(host.encode())


def test_a_listener_beyond_loopback_answers_to_the_machine_s_own_name():
    assert Hosts(EVERYWHERE).allow(socket.gethostname().encode())


@pytest.mark.parametrize("host", ["evil.example", "exporter.evil.example:19835", "local", "internal.evil.example"])
def test_a_listener_beyond_loopback_answers_to_no_registered_name(host):
    assert Hosts(EVERYWHERE).allow(host.encode()) == ("." not in host)


def test_names_from_the_config_are_answered_to():
    web = Web(external_url="https://canary.example.org/gpu", allowed_hosts=("a.example.com", "*.lab.example.com"))
    hosts = Hosts(web)
    for host in (b"canary.example.org", b"A.example.com:443", b"one.lab.example.com", b"two.three.lab.example.com"):
        assert hosts.allow(host)
    for host in (b"b.example.com", b"lab.example.com.evil.example", b"evillab.example.com"):
        assert not hosts.allow(host)


def test_names_that_are_tried_do_not_fill_the_memory():
    hosts = Hosts(LOOPBACK)
    for number in range(1000):
        hosts.allow(b"%d.example" % number)
    assert len(hosts._known) <= 257


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/api/v1/checks", "/static/page.js"])
def test_a_rebound_name_gets_nothing_and_is_told_which_key_to_set(site, path):
    answer = site.ask(path, host="evil.example")
    assert answer.status == 421
    assert "web.allowed_hosts" in answer.json["error"]


@pytest.mark.parametrize("head", [b"", b"Host: localhost\r\nHost: evil\r\n"])
def test_a_request_has_exactly_one_host(site, head):
    assert raw(site, b"GET / HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n").startswith(b"HTTP/1.1 400")


def raw(site, data: bytes) -> bytes:
    """What comes back until the server closes or falls silent."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=2) as connection:
        connection.sendall(data)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except (TimeoutError, ConnectionResetError):
            return received
        return received


# -- origins --------------------------------------------------------------------------------------------------------

FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:1"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site", "origin": "http://127.0.0.1:{port}"},
]


@pytest.mark.parametrize("path", ["/-/reload", "/api/v1/checks/toy/run"])
@pytest.mark.parametrize("headers", FOREIGN)
def test_no_other_site_s_page_can_post(site, path, headers):
    filled = {name: text.format(port=site.port) for name, text in headers.items()}
    answer = site.ask(path, "POST", **filled)
    assert answer.status == 403
    assert "another site" in answer.json["error"]


def test_curl_and_our_own_page_can_post(site):
    assert site.ask("/-/reload", "POST").status == 200
    own = {"origin": f"http://127.0.0.1:{site.port}", "sec_fetch_site": "same-origin"}
    assert site.ask("/-/reload", "POST", **own).status == 200


def test_behind_a_proxy_the_external_origin_is_ours(tmp_path):
    canary = Canary(tmp_path, enable_lifecycle=True, external_url="https://canary.example.org/gpu/")
    with answering(canary) as site:
        assert site.ask("/-/reload", "POST", origin="https://canary.example.org").status == 200
        assert site.ask("/-/reload", "POST", origin="https://canary.example.org.evil.example").status == 403


# -- headers and sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/nope", "/checks/nope", "/api/v1/checks", "/-/healthy", "/static/page.js"]
)
def test_every_answer_forbids_what_a_browser_might_do_with_it(site, path):
    headers = site.ask(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "server" not in headers


def test_the_page_has_no_inline_script_style_or_handler(site):
    for path in ("/", "/checks/toy"):
        text = site.ask(path).text
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick" not in text
        assert text.count("<script") == text.count("<script src=")


def test_a_body_is_refused_before_it_is_read(site):
    assert site.ask("/-/reload", "POST", content_length=str(1 << 40)).status == 413
    assert site.ask("/-/reload", "POST", content_length="9" * 5000).status in (400, 413)
    chunked = b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(site, chunked).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(10_000)) + b"\r\n",
    ],
)
def test_a_head_that_is_too_large_is_refused(site, head):
    assert raw(site, head)[:12] in (b"HTTP/1.1 431", b""), "answered, or closed while it was still sending"
    assert site.ask("/-/healthy").status == 200


def test_a_head_that_never_ends_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("exporter.web.wire.HEAD_SECONDS", 0.2)
    with answering(Canary(tmp_path)) as site, socket.create_connection(("127.0.0.1", site.port), timeout=5) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert slow.recv(1) == b""


def test_a_kept_connection_serves_many_requests_and_waits_for_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("exporter.web.wire.HEAD_SECONDS", 0.2)
    with answering(Canary(tmp_path)) as site:
        connection = site.connection()
        for _ in range(20):
            connection.request("GET", "/-/healthy", headers={"X": "a" * 5000})
            assert connection.getresponse().read() == b"gpu-canary is healthy.\n"
        time.sleep(0.4)  # longer than a head may take: none has begun
        connection.request("GET", "/-/healthy")
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize("path", ["/%ff%fe", "/static/..%2f..%2fapp.py", "/static/../../app.py", "//evil/", "/a%00b"])
def test_no_path_leads_out(site, path):
    assert site.ask(path).status == 404


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 1000]
)
def test_junk_is_refused_and_harms_nobody(site, junk):
    assert raw(site, junk).startswith(b"HTTP/1.1 400")
    assert site.ask("/-/healthy").status == 200


# -- the web config -------------------------------------------------------------------------------------------------


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def login(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def web_config(folder: Path, text: str) -> Access:
    path = folder / "web.yml"
    path.write_text(text)
    return Access(str(path))


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("rate_limit: {interval: 1s, burst: 5}\n", 1, "limit requests in the proxy"),
        ("basic_auth_users:\n  me: secret-as-plain-text\n", 2, "htpasswd -nBC 10"),
        ("basic_auth_users:\n  me: $2y$31$" + "a" * 53 + "\n", 2, "cost 4 to 15"),
        ("basic_auth_users:\n  'a:b': $2y$10$" + "a" * 53 + "\n", 2, "no colon"),
        ("basic_auth_user:\n  me: x\n", 1, "did you mean basic_auth_users"),
        ("tls_server_config:\n  cert_file: a.pem\n", 1, "required"),
        ("tls_server_config:\n  cert_file: a.pem\n  key_file: b.pem\n", 2, "ls -l"),
        ("tls_server_config:\n  cert_file: a\n  key_file: b\n  cipher_suites: [x]\n", 4, "OpenSSL's own list"),
        ("tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS10\n", 4, "TLS12, TLS13"),
        ("tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: RequireAnyClientCert\n", 4, "expected one of"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: \"DENY\\r\\nSet-Cookie: a\"\n", 3, ""),
        ("http_server_config:\n  headers:\n    Set-Cookie: a\n", 3, ""),
        ("- a\n", 1, "expected keys"),
        ("basic_auth_users: {a: &x [*x]}\n", 1, ""),
    ],
)  # fmt: skip
def test_a_wrong_web_config_is_told_with_its_line(tmp_path, text, line, hint):
    with pytest.raises(ConfigError) as told:
        web_config(tmp_path, text)
    assert f"web.yml:{line}:" in str(told.value)
    assert hint in str(told.value)
    assert "secret-as-plain-text" not in str(told.value)


def test_a_missing_web_config_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Access(str(tmp_path / "absent.yml"))


@pytest.mark.parametrize(
    "text", ["", "tls_server_config:\n", "tls_server_config: {}\n", "http_server_config: {http2: true}\n"]
)
def test_a_web_config_that_asks_for_nothing_changes_nothing(tmp_path, text):
    access = web_config(tmp_path, text)
    assert access.context is None
    assert not access.rules.basic_auth_users


@pytest.fixture
def locked(tmp_path):
    access = web_config(tmp_path, f"basic_auth_users:\n  me: {hashed('right')}\n  you: {hashed('ü')}\n")
    with answering(Canary(tmp_path, check(quiet), enable_lifecycle=True), access) as site:
        yield site


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/checks", "/api/v1/events", "/static/page.js", "/nope"])
def test_nobody_gets_in_without_a_login(locked, path):
    answer = locked.ask(path)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_users_get_in_and_others_do_not(locked):
    assert locked.ask("/metrics", authorization=login("me", "right")).status == 200
    assert locked.ask("/metrics", authorization=login("you", "ü")).status == 200
    for wrong in (login("me", "wrong"), login("me", ""), login("nobody", "right"), login("me", "right\0"), login("", ""),
                  "Basic !!!", "Basic", "Bearer right", "Basic " + base64.b64encode(b"no-colon").decode(),
                  "Basic " + base64.b64encode(b"\xff:\xff").decode()):  # fmt: skip
        assert locked.ask("/metrics", authorization=wrong).status == 401, wrong


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_health_asks_for_no_login(locked, path):
    assert locked.ask(path).status == 200


def test_a_login_is_no_pass_for_another_site_s_page(locked):
    answer = locked.ask("/-/reload", "POST", authorization=login("me", "right"), origin="http://evil.example")
    assert answer.status == 403


def test_a_right_password_is_compared_once_and_a_wrong_one_each_time(locked, monkeypatch):
    compared = []
    real = passwords._compare
    monkeypatch.setattr(passwords, "_compare", lambda *given: compared.append(given) or real(*given))
    for _ in range(5):
        assert locked.ask("/metrics", authorization=login("me", "right")).status == 200
    assert len(compared) == 1
    for _ in range(3):
        assert locked.ask("/metrics", authorization=login("me", "wrong")).status == 401
    assert len(compared) == 4


def test_an_unknown_user_costs_what_a_known_one_does():
    users = {"me": "$2b$08$" + hashed("right")[7:]}
    assert passwords._nobody(users)[:7] == "$2b$08$"
    assert not passwords._compare(b"anything", passwords._nobody(users))


def test_what_is_remembered_is_bounded_and_no_password(monkeypatch, locked):
    monkeypatch.setattr(passwords, "REMEMBERED", 1)
    for user, password in (("me", "right"), ("you", "ü"), ("me", "right")):
        assert locked.ask("/metrics", authorization=login(user, password)).status == 200
    kept = locked.application._guarded._passwords._right
    assert len(kept) == 1
    assert all(b"right" not in digest for digest in kept)


def test_a_flood_of_guesses_is_turned_away_and_health_still_answers(locked, monkeypatch):
    monkeypatch.setattr(passwords, "IN_LINE", 2)
    freed = threading.Event()
    monkeypatch.setattr(passwords, "_compare", lambda *_: freed.wait(10) and False)
    statuses = []
    guesses = [
        threading.Thread(target=lambda: statuses.append(locked.ask("/", authorization=login("me", "x")).status))
        for _ in range(6)
    ]
    for guess in guesses:
        guess.start()
    try:
        eventually(lambda: statuses.count(503) == 4)
        assert locked.ask("/-/healthy").status == 200
    finally:
        freed.set()
        for guess in guesses:
            guess.join()
    assert sorted(statuses) == [401, 401, 503, 503, 503, 503]


def test_users_are_taken_up_when_the_file_changes_and_a_bad_file_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("exporter.web.server.LOOK", 0.05)
    access = web_config(tmp_path, f"basic_auth_users:\n  me: {hashed('old')}\n")
    with answering(Canary(tmp_path), access) as site:
        assert site.ask("/", authorization=login("me", "old")).status == 200
        (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  me: {hashed('new')}\n")
        eventually(lambda: site.ask("/", authorization=login("me", "new")).status == 200)
        assert site.ask("/", authorization=login("me", "old")).status == 401
        rules = access.rules
        (tmp_path / "web.yml").write_text("basic_auth_users: {me: nonsense}\n")
        eventually(lambda: access._seen[0][1] == (tmp_path / "web.yml").stat().st_size)
        assert access.rules is rules
        assert site.ask("/", authorization=login("me", "new")).status == 200


def test_headers_of_the_web_config_are_sent(tmp_path):
    text = (
        "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=600\n    X-Frame-Options: SAMEORIGIN\n"
    )
    with answering(Canary(tmp_path), web_config(tmp_path, text)) as site:
        headers = site.ask("/metrics").headers
    assert headers["strict-transport-security"] == "max-age=600"
    assert headers["x-frame-options"] == "SAMEORIGIN"


# -- TLS ------------------------------------------------------------------------------------------------------------


class Authority:
    """A private CA made by openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                      "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip

    def issue(self, name: str, common: str = "localhost") -> tuple[str, str]:
        """Certificate and key files for 127.0.0.1."""
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={common}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", "2", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / "ca.pem")

    def _openssl(self, *args: str) -> None:
        subprocess.run(["openssl", *args], cwd=self.folder, check=True, capture_output=True, timeout=30)


@pytest.fixture
def authority(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl: apt-get install openssl")
    return Authority(tmp_path)


TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"


def test_tls_is_spoken_and_paths_start_at_the_file(tmp_path, authority):
    authority.issue("server")
    with answering(Canary(tmp_path), web_config(tmp_path, TLS), authority.trusting()) as site:
        assert site.ask("/-/healthy").status == 200
        assert raw(site, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b"", "no plain answer on a TLS port"


@pytest.mark.prometheus
def test_promtool_takes_the_web_config_that_we_take(tmp_path, authority):
    """One file for Prometheus, Alertmanager and us. Every key that we know is in it."""
    authority.issue("server")
    text = TLS + "  client_ca_file: ca.pem\n  client_auth_type: VerifyClientCertIfGiven\n  min_version: TLS12\n"
    text += "  max_version: TLS13\n  prefer_server_cipher_suites: true\n"
    text += "http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n"
    text += f"basic_auth_users:\n  me: {hashed('right')}\n"
    assert web_config(tmp_path, text).context is not None
    named = {key for kind in (Rules, Tls, Http) for key in kind.__dataclass_fields__}
    assert named == set(re.findall(r"^ *(\w+):", text, re.MULTILINE)) - {"me"}
    ended = subprocess.run(["promtool", "check", "web-config", tmp_path / "web.yml"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_minimum_version_is_kept(tmp_path, authority):
    authority.issue("server")
    trusting = authority.trusting()
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    with answering(Canary(tmp_path), web_config(tmp_path, TLS + "  min_version: TLS13\n"), trusting) as site:
        with pytest.raises(ssl.SSLError):
            site.ask("/-/healthy")
        assert trusting.maximum_version != ssl.TLSVersion.TLSv1_3


def test_a_client_without_a_certificate_is_turned_away(tmp_path, authority):
    authority.issue("server")
    demand = TLS + "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
    known = authority.trusting()
    known.load_cert_chain(*authority.issue("client", "me"))
    with answering(Canary(tmp_path), web_config(tmp_path, demand), known) as site:
        assert site.ask("/metrics").status == 200
        site.tls = authority.trusting()
        with pytest.raises(OSError, match=r"(?i)certificate|reset|eof|closed"):
            site.ask("/metrics")


def test_a_renewed_certificate_is_taken_up_without_a_restart(tmp_path, authority, monkeypatch):
    monkeypatch.setattr("exporter.web.server.LOOK", 0.05)
    authority.issue("server", "old")
    with answering(Canary(tmp_path), web_config(tmp_path, TLS), authority.trusting()) as site:
        assert shown_name(site) == "old"
        authority.issue("next", "new")
        os.replace(tmp_path / "next.key", tmp_path / "server.key")
        os.replace(tmp_path / "next.pem", tmp_path / "server.pem")
        eventually(lambda: shown_name(site) == "new")


def shown_name(site) -> str:
    connection = site.connection()
    try:
        connection.connect()
        subject = connection.sock.getpeercert()["subject"]
        return dict(pair for part in subject for pair in part)["commonName"]
    finally:
        connection.close()
