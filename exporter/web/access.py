"""Who may talk to us, and over which TLS? `--web.config.file`, in the format of Prometheus's exporter-toolkit.

https://prometheus.io/docs/prometheus/latest/configuration/https/ describes it. What we cannot honour is refused by name:
a limit or a cipher list that is silently ignored protects nobody. The file and the certificates are read again when they
change; a bad file leaves the old one in force.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, StringConstraints

from exporter.config.conversion import read
from exporter.config.document import ConfigError, Ledger, Node
from exporter.config.secret import located
from exporter.config.validation import validated

log = logging.getLogger("gpu_canary.web")

STRICT = ConfigDict(extra="forbid")
FILES = ("cert_file", "key_file", "client_ca_file")
# The work doubles with each step: 2^15 rounds already take seconds, and every wrong password costs them.
HASH = re.compile(r"\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}")
REFUSED = {
    "rate_limit": "is not supported here; limit requests in the proxy in front, and remove this key",
    "tls_server_config.cipher_suites": "is not supported; remove it: OpenSSL's own list is used",
    "tls_server_config.curve_preferences": "is not supported; remove it: OpenSSL's own list is used",
    "tls_server_config.client_allowed_sans": "is not supported; let client_ca_file be an authority of your own",
    "tls_server_config.cert": "is not supported; write the certificate to a file and name it in cert_file",
    "tls_server_config.key": "is not supported; write the key to a file and name it in key_file",
}
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
DEMANDS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
Version = Literal["TLS12", "TLS13"]
Header = Literal[
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
]


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate we show and what we ask of clients."""

    __pydantic_config__ = STRICT

    cert_file: str
    key_file: str
    client_ca_file: str = ""
    client_auth_type: Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = "NoClientCert"
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    prefer_server_cipher_suites: bool = True  # Go ignores it too


@dataclass(frozen=True, slots=True)
class Http:
    """`http2` is accepted and changes nothing: we speak HTTP/1.1."""

    __pydantic_config__ = STRICT

    http2: bool = True
    headers: Mapping[Header, Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$")]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the file says. `basic_auth_users` are names and their bcrypt hashes; none means that nobody is asked."""

    __pydantic_config__ = STRICT

    tls_server_config: Tls | None = None
    http_server_config: Http = field(default_factory=Http)
    basic_auth_users: Mapping[str, str] = field(default_factory=dict)


class Access:
    """The rules in force. `refresh` takes up changes; `context` is what the server listens with (None without TLS)."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen = self._stamps(())
        self.rules, self.context = _load(self._path)
        self._seen = self._stamps(self._files())

    def refresh(self) -> None:
        """Read everything again if a file changed since; what is bad is logged and leaves the old in force."""
        seen = self._stamps(self._files())
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._take(_load(self._path)[0])
        except (ConfigError, OSError) as error:
            log.error("the web config was not taken up, the old one goes on: %s", error)
            return
        self._seen = self._stamps(self._files())
        log.info("web config taken up", extra={"file": str(self._path), "users": len(self.rules.basic_auth_users)})

    def _take(self, rules: Rules) -> None:
        before, after = self.rules.tls_server_config, rules.tls_server_config
        if _terms(before) != _terms(after):
            log.warning("a change of tls_server_config needs a restart; one of certificates or users does not")
            rules = replace(rules, tls_server_config=before)
        elif self.context is not None and after is not None:
            self.context.load_cert_chain(after.cert_file, after.key_file)
        self.rules = rules

    def _files(self) -> tuple[str, ...]:
        tls = self.rules.tls_server_config
        return (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()

    def _stamps(self, files: tuple[str, ...]) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(Path(name)) for name in (str(self._path), *files) if name)


def _terms(tls: Tls | None) -> Tls | None:
    """What of the TLS rules holds for as long as we listen."""
    return tls and replace(tls, cert_file="", key_file="")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None


def _load(path: Path) -> tuple[Rules, ssl.SSLContext | None]:
    """The rules of a file and the TLS context they ask for. ConfigError holds everything that is wrong."""
    ledger = Ledger()
    root = _prepared(read(path, ledger), ledger)
    rules = validated(Rules, root, "", ledger)
    for name, hashed in (root.get("basic_auth_users") or Node({})).pairs().items():
        if ":" in name or not name:
            ledger.wrong(hashed, f"basic_auth_users.{name}", "a user's name is not empty and holds no colon")
        if not isinstance(hashed.value, str) or not HASH.fullmatch(hashed.value):
            hint = "expected a bcrypt hash of cost 4 to 15; `htpasswd -nBC 10 USER` makes one"
            ledger.wrong(hashed, f"basic_auth_users.{name}", hint)
    context = None
    if rules is not None and rules.tls_server_config is not None:
        context = _context(rules.tls_server_config, root.get("tls_server_config") or root, ledger)
    if ledger.problems or rules is None:
        raise ConfigError(ledger.problems)
    return rules, context


def _prepared(root: Node, ledger: Ledger) -> Node:
    """The file's nodes: what we cannot honour is a problem, paths start at the file, hashes are never shown."""
    sections = {name: node for name, node in root.pairs().items() if node.value is not None}
    for key, reason in REFUSED.items():
        section, _, name = key.rpartition(".")
        place = (sections.get(section) or Node({}) if section else root).get(name)
        if place is not None:
            ledger.wrong(place, key, reason)
    sections.pop("rate_limit", None)
    tls = dict(sections["tls_server_config"].pairs()) if "tls_server_config" in sections else {}
    if tls:
        kept = {name: node for name, node in tls.items() if f"tls_server_config.{name}" not in REFUSED}
        for name in kept.keys() & set(FILES):
            kept[name] = replace(kept[name], value=located(str(kept[name].value or ""), kept[name]))
        sections["tls_server_config"] = replace(sections["tls_server_config"], value=kept)
    elif sections.get("tls_server_config", Node("")).value == {}:
        del sections["tls_server_config"]  # the toolkit takes an empty section for none
    if "basic_auth_users" in sections:
        users = sections["basic_auth_users"]
        hidden = {name: replace(node, secret=True) for name, node in users.pairs().items()}
        sections["basic_auth_users"] = replace(users, value=hidden) if hidden else users
    return replace(root, value=sections)


def _context(tls: Tls, section: Node, ledger: Ledger) -> ssl.SSLContext | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = VERSIONS[tls.min_version], VERSIONS[tls.max_version]
    context.set_alpn_protocols(["http/1.1"])
    if bool(tls.client_ca_file) != (tls.client_auth_type != "NoClientCert"):
        ledger.wrong(section, "tls_server_config", "client_ca_file and client_auth_type go together: give both")
    try:
        key = "cert_file"
        context.load_cert_chain(tls.cert_file, tls.key_file, password="")
        key = "client_ca_file"
        if tls.client_ca_file:
            context.load_verify_locations(tls.client_ca_file)
        context.verify_mode = DEMANDS[tls.client_auth_type]
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = f"{tls.cert_file}, {tls.key_file}" if key == "cert_file" else tls.client_ca_file
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        ledger.wrong(section.get(key) or section, f"tls_server_config.{key}", f"{names}: {said}; look at `ls -l` of it")
    return context
