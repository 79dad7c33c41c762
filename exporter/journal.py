"""Where does every result go? `record(result)` is the one door: memory first, then the listeners, then disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from exporter.result import Latest, Result

log = logging.getLogger("gpu_canary.journal")

Listener = Callable[[Latest], None]


class Store(Protocol):
    """What the journal needs of history."""

    def append(self, latest: Latest) -> None: ...
    def forget(self, check: str) -> None: ...


class Journal:
    """The latest two records of every check. No view keeps its own truth; listeners are told and must not block."""

    def __init__(self, store: Store, boot: Mapping[str, Latest] | None = None) -> None:
        self._store = store
        self._latest: dict[str, Latest] = dict(boot or {})
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    def record(self, result: Result) -> Latest:
        """Remember a result and tell everybody. Only the append to disk may fail, and it fails inside the store."""
        with self._lock:
            before = self._latest.get(result.check)
            latest = before.after(result) if before else Latest.first(result)
            self._latest[result.check] = latest
            listeners = tuple(self._listeners)
        for listener in listeners:
            try:
                listener(latest)
            except Exception:  # one view that cannot show a result keeps it from nobody else, nor from the disk
                log.exception("a listener failed; please report this", extra={"check": result.check})
        self._store.append(latest)
        return latest

    def latest(self, check: str) -> Latest | None:
        return self._latest.get(check)

    def forget(self, check: str) -> None:
        """Drop a removed or changed check; its runs stay in history."""
        with self._lock:
            self._latest.pop(check, None)
        self._store.forget(check)

    def amend(self, latest: Latest) -> None:
        """Replace a check's records without a run: they are the same results, judged anew."""
        with self._lock:
            self._latest[latest.last.check] = latest

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(latest)` after every result, on the thread that ran it. Returns the function that ends it."""
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = [known for known in self._listeners if known is not listener]

        return unsubscribe
