"""Where do tests get certificates? From authorities made in the session; nothing is stored, so nothing expires.

root = Authority("Test Root")
leaf = Authority("Test Issuing", root).issue("localhost")         # leaf.chain: leaf and intermediates, as servers send it
served_over = leaf.context(tmp_path)                              # an ssl.SSLContext for a server
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
PEM = serialization.Encoding.PEM


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key. `issuers` are the intermediates a server should send along."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> bytes:
        return b"".join(each.public_bytes(PEM) for each in (self.certificate, *self.issuers))

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, directory: Path, name: str = "leaf", password: bytes = b"") -> tuple[str, str]:
        """Paths of the chain and of the key."""
        chain, key = directory / f"{name}.pem", directory / f"{name}.key"
        how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        chain.write_bytes(self.chain)
        key.write_bytes(self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))
        return str(chain), str(key)

    def context(self, directory: Path, client_ca: str = "") -> ssl.SSLContext:
        """What a server presents; with `client_ca` it demands a certificate in return."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.write(directory, f"server-{self.fingerprint[:8]}"))
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        return context


class Authority:
    """A root, or an intermediate when it has an issuer. With `names` it can pose as a server itself."""

    def __init__(self, name: str, issuer: Authority | None = None, names: tuple[str, ...] = ()) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = issuer
        above = issuer or self
        self.name = named(name)
        self.certificate = self._sign(
            above, self.name, self.key, NOW - timedelta(1), NOW + timedelta(90), names, ca=True
        )

    def issue(self, *names: str, start: timedelta = timedelta(-1), end: timedelta = timedelta(30)) -> Issued:
        """A leaf for these host names and addresses, valid from `start` to `end` as seen from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(self, named(names[0]), key, NOW + start, NOW + end, names)
        return Issued(certificate, key, (self.certificate,) if self.issuer else ())

    def write(self, directory: Path) -> str:
        """Path of the authority's own certificate: what a `ca_file` holds."""
        path = directory / f"{self.certificate.serial_number:x}.pem"
        path.write_bytes(self.certificate.public_bytes(PEM))
        return str(path)

    @staticmethod
    def _sign(
        signer: Authority,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        start: datetime,
        end: datetime,
        names: tuple[str, ...],
        *,
        ca: bool = False,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(alternative, names))), critical=False)
        return builder.sign(signer.key, hashes.SHA256())
