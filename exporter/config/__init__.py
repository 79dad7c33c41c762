"""What is the exporter told to do? YAML to a frozen Config; every error at once, each with file, line and key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from exporter.config.document import ConfigError, Ledger, Node, Problem, plant
from exporter.config.entries import INTERPRETERS, CheckEntry, Entry, Probes, checks
from exporter.config.fleet import FleetEntry
from exporter.config.gate import Gate
from exporter.config.overlay import gathered
from exporter.config.secret import located
from exporter.config.validation import validated
from exporter.result import Check
from probes.api import Bytes, Duration, Json

__all__ = [
    "DEFAULT_PORT",
    "Config",
    "ConfigError",
    "Log",
    "Problem",
    "Settings",
    "Storage",
    "Web",
    "configured",
    "load",
]

DEFAULT_PORT = 19835  # outside Prometheus's allocated 9100-9999 and below the ephemeral ports; see DECISIONS.md
STRICT = ConfigDict(extra="forbid")


def _address(value: str) -> str:
    """`HOST:PORT`, `:PORT` or `[IPV6]:PORT`; port 0 takes any free one."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]*):([0-9]{1,5})", value)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"{value!r} is not an address; write it like 127.0.0.1:{DEFAULT_PORT}, :9000 or [::1]:9000")
    return value


def _url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/?#]+[^\s]*", value):
        raise ValueError(f"{value!r} is not an http:// or https:// address")
    return value


def _prefix(value: str) -> str:
    if not re.fullmatch(r"/([A-Za-z0-9._~-]+/?)*", value):
        raise ValueError(f"{value!r} is not a path prefix; write it like / or /canary")
    return value


def _interpreter(value: str) -> str:
    if value in INTERPRETERS or not re.fullmatch(r"[^/\\]{1,255}", value):
        raise ValueError(f"{value!r} cannot name an interpreter; use a word other than {' and '.join(INTERPRETERS)}")
    return value


Url = Annotated[str, AfterValidator(_url)]
InterpreterName = Annotated[str, AfterValidator(_interpreter)]


@dataclass(frozen=True, slots=True)
class Web:
    """Where and how we are reached. `allowed_hosts` are Host header names beyond loopback and the listen address."""

    __pydantic_config__ = STRICT

    listen_address: Annotated[str, AfterValidator(_address)] = f"127.0.0.1:{DEFAULT_PORT}"
    config_file: Annotated[str, Field(description="TLS and users, in the format of Prometheus's exporter-toolkit.")] = (
        ""
    )
    external_url: Annotated[Url, Field(description="How people reach us from outside; links use it.")] = ""
    route_prefix: Annotated[str, AfterValidator(_prefix)] = "/"
    enable_lifecycle: Annotated[bool, Field(description="Allow POST /-/reload and run now.")] = False
    enable_inbox: Annotated[bool, Field(description="Show alerts that Alertmanager sends to /api/v1/inbox.")] = False
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Storage:
    """Where history lives and how much of it. `path` is a directory; retention in seconds and bytes."""

    __pydantic_config__ = STRICT

    path: str = ""
    retention_time: Annotated[Duration, Field(ge=60)] = 30 * 86400.0
    retention_size: Annotated[Bytes, Field(ge=1024**2)] = 1024**3


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged on stderr, and how."""

    __pydantic_config__ = STRICT

    level: Literal["debug", "info", "warn", "error"] = "info"
    format: Literal["logfmt", "json"] = "logfmt"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything, validated. `source` names the file, or "" when the config was built from what this machine has."""

    checks: tuple[Check, ...] = ()
    web: Web = Web()
    storage: Storage = Storage()
    log: Log = Log()
    interpreters: Mapping[str, str] = field(default_factory=dict)
    grafana_url: str = ""
    gate: Gate = field(default_factory=Gate)
    fleet: tuple[FleetEntry, ...] = ()
    source: str = ""
    secrets: frozenset[str] = frozenset()  # every secret value met while loading, to be redacted everywhere


class Settings(Entry):
    """The shape of a config file; `checks` are validated one by one, so that every error of each is told."""

    web: Web = Web()
    storage: Storage = Storage()
    log: Log = Log()
    grafana_url: Annotated[Url, Field(description="Grafana's address; alerts link to it.")] = ""
    gate: Gate = Field(Gate(), description="When benchmarks leave the machine alone, besides while its card works.")
    fleet: tuple[FleetEntry, ...] = Field((), description="Exporters that Prometheus finds at /sd beside this one.")
    interpreters: dict[InterpreterName, Annotated[str, Field(min_length=1)]] = Field(
        {}, description="Pythons with torch by name; without any, the exporter looks for them."
    )
    include: list[str] = Field([], description="Patterns of files with more checks and interpreters.")
    checks: list[CheckEntry] = Field([], description="What is asked, how often, and what is expected.")


def load(
    path: str | os.PathLike[str], registry: Probes, profile: str = "", environ: Mapping[str, str] = os.environ
) -> Config:
    """The config in a file, its includes and its profile's overlay. ConfigError holds everything that is wrong."""
    ledger = Ledger()
    root = gathered(Path(path), profile, environ, ledger)
    return _config(root, registry, os.fspath(path), ledger)


def configured(data: Mapping[str, Json], registry: Probes) -> Config:
    """The config that plain data describes, as a file would: what `discovery` found takes this way. `$` is plain."""
    return _config(plant(dict(data), "(discovered)"), registry, "", Ledger())


def _config(root: Node, registry: Probes, source: str, ledger: Ledger) -> Config:
    unread = bool(ledger.problems) and not root.pairs()  # the file's own problem says it all
    rest = replace(root, value={k: v for k, v in root.pairs().items() if k != "checks"})
    settings = validated(Settings, _with_places(rest), "", ledger)
    built = () if unread else checks(root, registry, ledger)
    if ledger.problems or settings is None:
        raise ConfigError(ledger.problems)
    return Config(
        built,
        settings.web,
        settings.storage,
        settings.log,
        settings.interpreters,
        settings.grafana_url,
        settings.gate,
        settings.fleet,
        source,
        frozenset(ledger.secrets),
    )


def _with_places(root: Node) -> Node:
    """Paths made absolute where they stand, because a relative one starts at its own file."""
    sections = dict(root.pairs())
    for section, keys in (
        ("web", ["config_file"]),
        ("storage", ["path"]),
        ("gate", ["lock_file"]),
        ("interpreters", None),
    ):
        if section in sections:
            values = dict(sections[section].pairs())
            for key in values.keys() & set(values if keys is None else keys):
                text = values[key].value
                # a bare word like `python3` is left for the search path
                if isinstance(text, str) and (keys or "/" in text or "\\" in text):
                    values[key] = replace(values[key], value=located(text, values[key]))
            sections[section] = replace(sections[section], value=values) if values else sections[section]
    return replace(root, value=sections)
