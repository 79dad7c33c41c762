"""What is the exporter told to do? YAML to a frozen Config; every error at once, each with file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.result import Check

DEFAULT_PORT = 19835  # outside Prometheus's allocated 9100-9999 and below the ephemeral ports; see DECISIONS.md


@dataclass(frozen=True, slots=True)
class Web:
    """Where and how we are reached. `allowed_hosts` are Host header names beyond loopback and the listen address."""

    listen_address: str = f"127.0.0.1:{DEFAULT_PORT}"
    config_file: str = ""
    external_url: str = ""
    route_prefix: str = "/"
    enable_lifecycle: bool = False
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Storage:
    """Where history lives and how much of it. `path` is a directory; retention in seconds and bytes."""

    path: str = ""
    retention_time: float = 30 * 86400.0
    retention_size: int = 1024**3


@dataclass(frozen=True, slots=True)
class Log:
    level: str = "info"
    format: str = "logfmt"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything, validated. `source` names the file, or "" when the config was built from what this machine has."""

    checks: tuple[Check, ...] = ()
    web: Web = Web()
    storage: Storage = Storage()
    log: Log = Log()
    interpreters: Mapping[str, str] = field(default_factory=dict)
    grafana_url: str = ""
    source: str = ""
    secrets: frozenset[str] = frozenset()  # every secret value met while loading, to be redacted everywhere
