"""Whom do we trust, and which certificates did the server show?"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from probes.api import Blind
from probes.world.http import Certificate

# Where systems keep their authorities: Debian, Fedora, SUSE, Alpine and macOS (https://go.dev/src/crypto/x509/root_linux.go).
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
HASHED = re.compile(r"[0-9a-f]{8}\.0")  # https://docs.openssl.org/3.0/man1/openssl-rehash/
NATIVE = "native"  # no file: Windows keeps its authorities in a store that libcurl asks itself
CHAIN_LIMIT, NAME_LIMIT = 10, 256  # a server may send what it likes; facts stay small


def authorities(ca_file: str, environ: Mapping[str, str] = os.environ) -> str:
    """The authorities to verify with: the check's own file, else SSL_CERT_FILE, else the system's. Blind without any.

    The system's may be a directory: OpenSSL then reads the one certificate it needs instead of all (5 ms, 1 MiB).
    """
    chosen = ca_file or environ.get("SSL_CERT_FILE", "")
    if chosen:
        return readable(chosen)
    found = _system_authorities() or (NATIVE if os.name == "nt" else "")
    if not found:
        raise Blind("no_source", "no CA certificates here; `apt install ca-certificates`, or set SSL_CERT_FILE")
    return found


def readable(path: str) -> str:
    """The path itself. Blind when a file that the config names is not there for us."""
    if not os.path.exists(path):
        raise Blind("no_source", f"{path} does not exist")
    if not os.access(path, os.R_OK):
        raise Blind("permission", f"{path} is not readable by our user")
    return path


@cache
def _system_authorities() -> str:
    paths = ssl.get_default_verify_paths()
    if os.path.isdir(paths.openssl_capath) and any(map(HASHED.fullmatch, os.listdir(paths.openssl_capath))):
        return paths.openssl_capath
    return next((path for path in (paths.openssl_cafile, *BUNDLES) if os.access(path, os.R_OK)), "")


def certificates(chain: Iterable[Sequence[tuple[bytes, bytes]]]) -> tuple[Certificate, ...]:
    """libcurl's certificate fields as facts, leaf first. A certificate that cannot be read ends the chain."""
    facts: list[Certificate] = []
    for fields, _ in zip(chain, range(CHAIN_LIMIT), strict=False):
        certificate = _certificate({k.decode("latin-1"): v.decode("utf-8", "replace") for k, v in fields})
        if certificate is None:
            break
        facts.append(certificate)
    return tuple(facts)


def _certificate(fields: Mapping[str, str]) -> Certificate | None:
    try:
        return Certificate(
            fields["Subject"][:NAME_LIMIT],
            fields["Issuer"][:NAME_LIMIT],
            float(ssl.cert_time_to_seconds(fields["Start date"])),
            float(ssl.cert_time_to_seconds(fields["Expire date"])),
            hashlib.sha256(ssl.PEM_cert_to_DER_cert(fields["Cert"])).hexdigest(),
        )
    except (KeyError, ValueError):
        return None
