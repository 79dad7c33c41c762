"""Which XID errors did the driver report since we started, by NVML event and in the kernel log?"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from exporter.world.pci import slot
from probes.world.gpus import Xid

Source = Literal["nvml", "kernel"]

# /dev/kmsg needs CAP_SYSLOG where kernel.dmesg_restrict is set (Debian); the group `adm` may read syslog's copy.
KERNEL_LOGS = ("/dev/kmsg", "/var/log/kern.log")
CHUNK, LONGEST_LINE, AT_ONCE = 65536, 8192, 4 * 1024 * 1024
# https://docs.nvidia.com/deploy/xid-errors/ for the message;
# https://www.kernel.org/doc/Documentation/ABI/testing/dev-kmsg for the record it travels in. A priority of one digit is
# facility 0, the kernel itself: user space can write to /dev/kmsg, but not under that number.
LINE = re.compile(
    r"(?:[0-7],[^;\s]{0,80};|[^\0]{1,80}? kernel: (?:\[[ 0-9.]{1,20}\] )?)"
    r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})[^)]{0,40}\): (\d{1,3})(?=[,\s]|$)"
)


def parse(line: str) -> tuple[str, int] | None:
    """(slot, XID) of a line of /dev/kmsg or kern.log; None when the kernel says something else, or it is not the kernel."""
    match = LINE.match(line)
    return (slot(match[1]), int(match[2])) if match else None


class KernelLog:
    """Follows the first readable of `paths` from its present end, never waiting. A log that was rotated is opened again."""

    def __init__(self, paths: Sequence[str] = KERNEL_LOGS) -> None:
        self._paths = paths
        self._path = ""
        self._fd: int | None = None
        self._rest = b""
        self._open(at_end=True)

    @property
    def readable(self) -> bool:
        return self._fd is not None

    def xids(self) -> Iterator[tuple[str, int]]:
        """(slot, XID) of what was logged since the last call."""
        yield from filter(None, map(parse, self._lines()))

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._rest = None, b""

    def _open(self, at_end: bool) -> None:
        for path in (self._path,) if self._path else self._paths:
            with contextlib.suppress(OSError):
                self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
                os.lseek(self._fd, 0, os.SEEK_END if at_end else os.SEEK_SET)
                self._path = path
                return

    def _lines(self) -> Iterator[str]:
        yield from self._read()
        if self._rotated():
            self.close()
            self._open(at_end=False)
            yield from self._read()

    def _read(self) -> Iterator[str]:
        read = 0
        while self._fd is not None and read < AT_ONCE:  # a log that grows faster than this must not hold the caller
            try:
                data = os.read(self._fd, CHUNK)
            except (
                BrokenPipeError
            ):  # the kernel overwrote records we had not read; the next read gives the oldest it has
                data = b"\n"
            except OSError:  # BlockingIOError: nothing new. Anything else: the next call tries again.
                return
            if not data:
                return
            read += max(len(data), 1024)  # /dev/kmsg gives one record a read
            *whole, rest = (self._rest + data).split(b"\n")
            self._rest = rest[-LONGEST_LINE:]
            yield from (line.decode("utf-8", "replace") for line in whole)

    def _rotated(self) -> bool:
        if self._fd is None:
            return bool(self._path)
        ours = os.fstat(self._fd)
        if not stat.S_ISREG(ours.st_mode):
            return False
        try:
            there = os.stat(self._path)
        except OSError:  # moved away, and its successor is not there yet
            return False
        return there.st_ino != ours.st_ino or there.st_size < os.lseek(self._fd, 0, os.SEEK_CUR)


class Tally:
    """XIDs by card (`slot`) and code. Both sources see the same events, so the larger count of the two is the count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int], dict[Source, int]] = defaultdict(lambda: {"nvml": 0, "kernel": 0})
        self._last: dict[tuple[str, int], float] = {}

    def add(self, source: Source, card: str, xid: int, at: float) -> None:
        """One event, seen at Unix time `at`."""
        with self._lock:
            self._counts[card, xid][source] += 1
            self._last[card, xid] = max(at, self._last.get((card, xid), 0.0))

    def of(self, card: str) -> Mapping[int, Xid]:
        """The card's XIDs, by code."""
        with self._lock:
            return {
                xid: Xid(max(counts.values()), self._last[where, xid])
                for (where, xid), counts in sorted(self._counts.items())
                if where == card
            }

    def last(self, since: float) -> str:
        """The most recent XID in words, when there was one after Unix time `since`."""
        with self._lock:
            recent = [(at, card, xid) for (card, xid), at in self._last.items() if at >= since]
        return f"XID {max(recent)[2]} on {max(recent)[1]}" if recent else ""
