"""Who may wait for the disk? A few threads beside the event loop; a request waits only so long for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

THREADS = 4
PATIENCE = 10.0


class Stuck(Exception):
    """The threads do not come back: a disk or a mount hangs."""


class Aside:
    """Calls that may block, made off the event loop. `Stuck` when one takes longer than `seconds`."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "web")

    async def __call__(self, call: Callable[..., T], *args: object, seconds: float = PATIENCE) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        try:
            return await asyncio.wait_for(running, seconds)
        except TimeoutError:
            raise Stuck from None
