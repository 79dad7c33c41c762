"""What did the disk say last? For those who cannot wait for it: an answer may be old, never late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE = 0.05  # seconds; a disk that is well needs a thousandth of it


class Lately(Generic[T]):
    """`ask` anew at each call, on a thread. While that hangs nobody asks again, and what it said before is the answer."""

    def __init__(self, ask: Callable[[], T], first: T) -> None:
        self._ask, self._last = ask, first
        self._asking = threading.Thread()

    def __call__(self) -> T:
        if not self._asking.is_alive():
            self._asking = threading.Thread(target=self._look, name="lately", daemon=True)
            self._asking.start()
            self._asking.join(PATIENCE)
        return self._last

    def _look(self) -> None:
        self._last = self._ask()
