"""What do the page and the API need of the exporter? App is one; tests may bring another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from exporter.config import Config
from exporter.maintenance import Maintenance
from exporter.result import Check, Latest, Result
from exporter.schedule import Running


@dataclass(frozen=True, slots=True)
class Preparation:
    """The torch environment that is made in the background: `ratio` 0 to 1, `detail` for people."""

    state: str  # off, found, preparing, ready, failed
    ratio: float = 0.0
    detail: str = ""


class Service(Protocol):
    """The exporter as the web sees it. Every call returns at once (`runs` reads history: call it off the event loop)."""

    config: Config
    started: float
    checks: Mapping[str, Check]

    @property
    def url(self) -> str: ...
    def metrics(self, compressed: bool) -> bytes: ...
    def latest(self, check: str) -> Latest | None: ...
    def runs(self, check: str, since: float = 0.0, limit: int = 100) -> list[Result]: ...
    def next_runs(self) -> Mapping[str, float]: ...
    def running(self) -> Mapping[str, Running]: ...
    def run_now(self, check: str) -> bool: ...
    def subscribe(self, listener: Callable[[Latest], None]) -> Callable[[], None]: ...
    def reload(self) -> list[str]: ...
    def maintenance(self) -> Maintenance | None: ...
    def preparation(self) -> Preparation: ...
    def ready(self) -> bool: ...
