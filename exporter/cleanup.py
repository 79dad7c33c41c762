"""What did killed workers and exporters leave behind? Every five minutes, and never while a benchmark runs.

A worker's folder is locked by whoever runs it, in any process; the kernel lets go of the lock when that process ends. So
a folder of ours that can be locked belongs to nobody.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from exporter.world import posix
from exporter.world.child import PREFIX

log = logging.getLogger("gpu_canary")

EVERY = 300.0  # seconds
FRESH = 60.0  # seconds within which a folder may have been made and not locked yet


class Cleanup:
    """Looks into `scratch` every `every` seconds, unless `busy()`; `runs` and `removed_bytes` are totals since the start."""

    def __init__(self, scratch: Path, busy: Callable[[], bool], every: float = EVERY) -> None:
        self._scratch, self._busy, self._every = scratch, busy, every
        self._over = threading.Event()
        self.runs = self.removed_bytes = 0

    def start(self) -> None:
        threading.Thread(target=self._work, name="cleanup", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _work(self) -> None:
        while not self._over.wait(self._every):
            if not self._busy():
                self.look()

    def look(self) -> None:
        """Remove what belongs to nobody."""
        with suppress(OSError):  # no such folder, or not ours to list
            for folder in self._scratch.glob(f"{PREFIX}*"):
                self._remove(folder)
        self.runs += 1

    def _remove(self, folder: Path) -> None:
        try:
            told = folder.lstat()
        except OSError:  # it went meanwhile
            return
        if told.st_uid != os.geteuid() or time.time() - told.st_mtime < FRESH:
            return
        held = posix.hold(folder)  # no link, no file: only a folder can be held
        if held is None:
            return
        try:
            size = sum(_size(path) for path in folder.rglob("*"))
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)
        self.removed_bytes += size
        log.info("removed what a killed worker left behind", extra={"folder": str(folder), "bytes": size})


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
