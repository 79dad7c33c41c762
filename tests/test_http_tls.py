"""Is TLS judged before anything is sent, and are the certificate's facts told even when it is refused?"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from exporter.world import tls
from exporter.world.http import fetch
from exporter.world.token import Token
from probes.api import Blind
from probes.world.http import Request, Response
from tests.certificates import Authority, Issued
from tests.servers import ok, serving

ROOT_CA = Authority("Test Root")
MIDDLE = Authority("Test Issuing", ROOT_CA)
NAMES = ("localhost", "127.0.0.1")


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    return ROOT_CA.write(tmp_path)


def get(url: str, **asked: object) -> Response:
    return fetch(Request(url, **{"timeout": 5.0, **asked}), Token(10))  # type: ignore[arg-type]


def test_a_private_authority_is_trusted_when_its_file_is_given(ca_file: str, tmp_path: Path) -> None:
    leaf = MIDDLE.issue(*NAMES)
    with serving(ok(b"hi"), leaf.context(tmp_path)) as server:
        response = get(server.url(host="localhost"), ca_file=ca_file)
    assert (response.status, response.body, response.verified, response.error) == (200, b"hi", True, None)
    assert response.phases.tls > 0
    shown, middle = response.certificates
    assert (shown.subject, shown.issuer) == ("CN = localhost", "CN = Test Issuing")
    assert (middle.subject, middle.issuer) == ("CN = Test Issuing", "CN = Test Root")
    assert shown.fingerprint_sha256 == leaf.fingerprint
    assert shown.not_before == leaf.certificate.not_valid_before_utc.timestamp()
    assert shown.not_after == leaf.certificate.not_valid_after_utc.timestamp()


def test_ssl_cert_file_names_the_authorities_of_every_check(
    ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ok(), MIDDLE.issue(*NAMES).context(tmp_path)) as server:
        assert get(server.url()).verified is False
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
        assert get(server.url()).verified is True


def stranger() -> Issued:
    return Authority("Nobody").issue(*NAMES)


def self_signed() -> Issued:
    alone = Authority("localhost", names=NAMES)
    return Issued(alone.certificate, alone.key)


UNTRUSTED = {
    "expired": (lambda: MIDDLE.issue(*NAMES, start=timedelta(-9), end=timedelta(-2)), "certificate has expired"),
    "not yet valid": (lambda: MIDDLE.issue(*NAMES, start=timedelta(2)), "not yet valid"),
    "for another host": (lambda: MIDDLE.issue("elsewhere.example"), "127.0.0.1"),
    "self-signed": (self_signed, "self-signed"),
    "of an unknown authority": (stranger, "unable to get local issuer"),
    "without its intermediate": (lambda: issued_alone(MIDDLE.issue(*NAMES)), "unable to get local issuer"),
}


def issued_alone(leaf: Issued) -> Issued:
    return Issued(leaf.certificate, leaf.key)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", UNTRUSTED)
def test_nothing_is_sent_over_a_connection_that_is_not_trusted_yet_its_certificate_is_told(
    name: str, version: ssl.TLSVersion, ca_file: str, tmp_path: Path
) -> None:
    make, why = UNTRUSTED[name]
    leaf = make()
    context = leaf.context(tmp_path)
    context.maximum_version = version
    with serving(ok(), context) as server:
        response = get(server.url(), ca_file=ca_file, headers={"Authorization": "Bearer secret"})
    assert server.requests == []
    assert (response.error, response.verified, response.status) == ("tls", False, 0)
    assert why in response.detail
    assert response.certificates[0].fingerprint_sha256 == leaf.fingerprint
    assert response.certificates[0].not_after == leaf.certificate.not_valid_after_utc.timestamp()
    assert response.phases.tls > 0


def test_verification_can_be_waived_and_that_is_told(tmp_path: Path) -> None:
    with serving(ok(b"hi"), self_signed().context(tmp_path)) as server:
        response = get(server.url(), verify=False)
    assert (response.body, response.verified, response.error) == (b"hi", False, None)
    assert response.certificates[0].subject == "CN = localhost"


def test_a_client_certificate_is_shown_where_one_is_given(ca_file: str, tmp_path: Path) -> None:
    context = MIDDLE.issue(*NAMES).context(tmp_path, client_ca=ca_file)
    cert, key = MIDDLE.issue("canary").write(tmp_path, "client")
    both = tmp_path / "both.pem"
    both.write_bytes(Path(cert).read_bytes() + Path(key).read_bytes())
    with serving(ok(b"hi"), context) as server:
        assert get(server.url(), ca_file=ca_file, cert_file=cert, key_file=key).body == b"hi"
        assert get(server.url(), ca_file=ca_file, cert_file=str(both)).body == b"hi"
        refused = get(server.url(), ca_file=ca_file)
    assert refused.error in ("tls", "reset")
    assert refused.status == 0
    assert len(server.requests) == 2


def test_a_certificate_file_of_ours_that_cannot_be_used_is_no_fault_of_the_server(
    ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("-----BEGIN CERTIFICATE-----\nnot quite\n")
    cert, locked = MIDDLE.issue("canary").write(tmp_path, "locked", password=b"hidden")
    with serving(ok(), MIDDLE.issue(*NAMES).context(tmp_path)) as server:
        for asked in (
            {"ca_file": str(junk)},
            {"ca_file": str(tmp_path / "absent.pem")},
            {"ca_file": ca_file, "cert_file": str(junk)},
            {"ca_file": ca_file, "cert_file": str(tmp_path / "absent.pem")},
            {"ca_file": ca_file, "cert_file": cert, "key_file": locked},  # and nobody is asked for the password
        ):
            with pytest.raises(Blind) as stop:
                get(server.url(), **asked)
            assert stop.value.reason == "no_source"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
        with pytest.raises(Blind, match=r"absent\.pem does not exist"):
            get(server.url())
        monkeypatch.setattr(tls.os, "access", lambda path, mode: False)
        with pytest.raises(Blind, match="permission"):
            get(server.url(), ca_file=ca_file)
    assert server.requests == []


def test_a_machine_without_authorities_is_blind_and_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(tls, "_system_authorities", lambda: "")
    with pytest.raises(Blind, match="ca-certificates"):
        get("https://127.0.0.1:1/")


@pytest.mark.parametrize("kind", ["bundle", "directory"])
def test_the_systems_authorities_are_found_as_a_bundle_or_as_a_hashed_directory(
    kind: str, tmp_path: Path, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "certs"
    directory.mkdir()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if kind == "directory":
        shutil.copy(ca_file, directory / "root.pem")
        (directory / f"{subject_hash(ca_file)}.0").symlink_to("root.pem")
    places = ssl.DefaultVerifyPaths(None, None, "", str(tmp_path / "absent.pem"), "", str(directory))
    monkeypatch.setattr(tls.ssl, "get_default_verify_paths", lambda: places)
    monkeypatch.setattr(tls, "BUNDLES", (ca_file,))
    tls._system_authorities.cache_clear()
    try:
        assert tls.authorities("") == (ca_file if kind == "bundle" else str(directory))
        with serving(ok(), MIDDLE.issue(*NAMES).context(tmp_path)) as server:
            assert get(server.url()).verified is True
    finally:
        tls._system_authorities.cache_clear()


def subject_hash(path: str) -> str:
    """The name under which OpenSSL looks an authority up."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to hash a certificate: apt-get install openssl")
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", path]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def test_a_replaced_ca_file_is_not_needed_again_for_another_check(ca_file: str, tmp_path: Path) -> None:
    """Idle handles keep what they parsed: a check with another authority must not meet it."""
    with serving(ok(), MIDDLE.issue(*NAMES).context(tmp_path)) as server:
        assert get(server.url(), ca_file=ca_file).verified is True
        assert get(server.url(), ca_file=Authority("Another").write(tmp_path)).verified is False
        assert get(server.url(), verify=False).verified is False
        assert get(server.url(), ca_file=ca_file).verified is True


def test_plain_http_on_a_tls_port_and_the_other_way_round_are_told(tmp_path: Path) -> None:
    with serving(ok()) as server:
        response = get(server.url().replace("http:", "https:"), verify=False, timeout=0.3)
        assert (response.error, response.verified) in (("timeout", None), ("tls", None))


def certinfo(**changed: bytes) -> list[tuple[bytes, bytes]]:
    pem = issued_alone(MIDDLE.issue("localhost")).chain
    fields = {b"Subject": b"CN = a", b"Issuer": b"CN = b", b"Cert": pem}
    fields |= {b"Start date": b"Jan  5 09:34:43 2018 GMT", b"Expire date": b"Nov 21 07:31:41 2026 GMT"}
    return [*(fields | {name.replace("_", " ").encode(): value for name, value in changed.items()}).items()]


def test_certificates_that_cannot_be_read_end_the_chain() -> None:
    good = certinfo()
    assert len(tls.certificates([good, good])) == 2
    assert tls.certificates([good, certinfo(Expire_date=b"(bad time)"), good])[1:] == ()
    assert tls.certificates([good, [], good])[1:] == ()
    assert tls.certificates([certinfo(Cert=b"\xff")]) == ()
    assert len(tls.certificates([good] * 1000)) == tls.CHAIN_LIMIT
    (long,) = tls.certificates([certinfo(Subject=b"CN = \xff" + b"x" * 10_000)])
    assert long.subject.startswith("CN = \ufffdxxx")
    assert len(long.subject) == tls.NAME_LIMIT


def listens(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    """A real nginx that offers HTTP/2 over TLS."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("no nginx: apt-get install nginx-light")
    chain, key = MIDDLE.issue(*NAMES).write(tmp_path, "nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    temporary = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} http {{ access_log off; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {chain}; ssl_certificate_key {key};\n"
        "location / { return 200 $server_protocol; } } }\n"
    )
    server = subprocess.Popen([program, "-p", str(tmp_path), "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not listens(port) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def test_http_2_is_spoken_where_it_is_offered(nginx: int, ca_file: str) -> None:
    for _ in range(3):
        response = get(f"https://localhost:{nginx}/", ca_file=ca_file, method="POST", body=b"x" * 100_000)
        assert (response.version, response.body, response.error, response.verified) == ("2", b"HTTP/2.0", None, True)
