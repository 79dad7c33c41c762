"""What did killed workers and exporters leave behind? At the start, every five minutes, and never while a benchmark runs.

A worker's folder is locked by whoever runs it, in any process; the kernel lets go of the lock when that process ends. So
a folder of ours that can be locked belongs to nobody, and neither does what was started to work in it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from exporter.world import posix
from exporter.world.child import MARKER, PREFIX, remove

log = logging.getLogger("gpu_canary")

EVERY = 300.0  # seconds
OURS = re.compile(f"{PREFIX}[a-z0-9_]{{8}}")  # tempfile.mkdtemp adds these; whatever is named otherwise is not ours
FRESH = 60.0  # seconds within which a folder may have been made and not locked yet


class Cleanup:
    """Looks into `scratch` at once and every `every` seconds, unless `busy()`; `runs` and `removed_bytes` are totals since the start."""

    def __init__(self, scratch: Path, busy: Callable[[], bool], every: float = EVERY) -> None:
        self._scratch, self._busy, self._every = scratch, busy, every
        self._over = threading.Event()
        self.runs = self.removed_bytes = 0

    def start(self) -> None:
        threading.Thread(target=self._work, name="cleanup", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _work(self) -> None:
        while not self._over.is_set():
            if not self._busy():
                self.look()
            self._over.wait(self._every)

    def look(self) -> None:
        """Remove what belongs to nobody."""
        with suppress(OSError):  # no such folder, or not ours to list
            for folder in self._scratch.iterdir():
                if OURS.fullmatch(folder.name):
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
            posix.kill_marked(f"{MARKER}={folder.name}")  # it may hold a card
            size = _size(folder)
            remove(folder)
        finally:
            os.close(held)
        if not folder.exists():
            self.removed_bytes += size
            log.info("removed what a killed worker left behind", extra={"folder": str(folder), "bytes": size})


def _size(folder: Path) -> int:
    """The bytes of the files below it, as far as they can be seen."""
    found = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                found += os.lstat(os.path.join(path, name)).st_size
    return found
