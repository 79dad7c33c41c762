"""How do the ready blocks become one scrape? Merged by family ahead of the scrape, plain and compressed."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from exporter.families import Blocks
from exporter.metrics import CheckSeries
from exporter.result import Check, Latest

CHEAP = 0.002  # seconds; a body that is pressed faster than this is pressed by the scrape that wants it
SHARE = 0.01  # of one core, at most, for pressing ahead
FRESH = 0.5  # seconds a body is good for, at least
PATIENCE = 2.0  # seconds a scrape may be late before it is no longer waited for


@dataclass(frozen=True, slots=True)
class Body:
    """One exposition, ready to send."""

    gzipped: bytes  # a stream that ends at a full flush; `stream` writes the rest of it
    stream: zlib._Compress
    made: float
    cost: float


class Exposition:
    """The blocks of every check and of the exporter itself. `update` renders; `body` copies.

    Merging and compressing ten thousand series takes longer than answering a scrape may take. A small exporter does it
    when asked; a large one does it ahead, in a thread, just before the next scrape is due, for at most one per cent of a
    core, and serves bytes that are at most as old as that allows (half a second at ten thousand series).
    """

    def __init__(self, own: Callable[[], Blocks], live: Callable[[], bytes]) -> None:
        self._own, self._live = own, live
        self._series: dict[str, CheckSeries] = {}
        self._families: dict[str, dict[str, bytes]] = {}
        self._headers: dict[str, bytes] = {}
        self._of_check: dict[str, tuple[str, ...]] = {}  # the families each check has samples in
        self._lock = threading.Lock()
        self._body = Body(*_compressed(b""), made=0.0, cost=0.0)
        self._dirty = True
        self._scraped = self._interval = 0.0
        self._seen = threading.Event()  # a scrape came
        self._closed = False
        threading.Thread(target=self._press_ahead, name="exposition", daemon=True).start()

    # -- what arrives ---------------------------------------------------------------------------------------------

    def update(self, check: Check, latest: Latest | None, counted: bool = True) -> None:
        """Render a check's block anew; `counted` when `latest.last` is a run of this process, not one of history."""
        with self._changed(check) as series:
            series.latest = latest
            if latest is not None and counted:
                series.counts.count(check, latest.last)

    def skip(self, check: Check, reason: str) -> None:
        """Count a run that was put off before it began."""
        with self._changed(check) as series:
            series.counts.skips["deferred", reason] += 1

    @contextmanager
    def _changed(self, check: Check) -> Iterator[CheckSeries]:
        """Change a check's series, then render them. Only that check waits meanwhile, not the scrape or other runs."""
        with self._lock:
            series = self._series.get(check.name)
            if series is None:
                series = self._series[check.name] = CheckSeries(check)
        with series.lock:
            if series.check is not check:
                series.change(check)
            yield series
            blocks = series.blocks()
            with self._lock:
                if self._series.get(check.name) is series:  # not forgotten meanwhile
                    self._replace(check.name, blocks)

    def forget(self, check: str) -> None:
        """Drop every series of a removed check."""
        with self._lock:
            self._series.pop(check, None)
            self._replace(check, {})
            self._of_check.pop(check, None)

    def _replace(self, check: str, blocks: Blocks) -> None:
        for family in set(self._of_check.get(check, ())) - blocks.keys():
            of_family = self._families[family]
            del of_family[check]
            if not of_family:
                del self._families[family], self._headers[family]
        for family, (header, samples) in blocks.items():
            self._headers[family] = header
            self._families.setdefault(family, {})[check] = samples
        self._of_check[check] = tuple(blocks)
        self._dirty = True

    # -- what is served -------------------------------------------------------------------------------------------

    def plain(self) -> bytes:
        """The exposition in text format 0.0.4. Few ask for it: it is unpacked, not kept."""
        return zlib.decompressobj(31).decompress(self._current().gzipped) + self._live()

    def gzipped(self) -> bytes:
        """The same, compressed: ready bytes, and the end of the stream with what is made at scrape time."""
        body = self._current()
        rest = body.stream.copy()
        return body.gzipped + rest.compress(self._live()) + rest.flush()

    def _current(self) -> Body:
        now = time.monotonic()
        self._interval, self._scraped = now - self._scraped, now
        body = self._body
        small = body.cost <= CHEAP and (self._dirty or now - body.made > FRESH)
        if not body.made or small or now - body.made > self._good_for(body):
            body = self._press()
        self._seen.set()
        return body

    @staticmethod
    def _good_for(body: Body) -> float:
        return max(FRESH, body.cost / SHARE)

    def _press(self) -> Body:
        begun = time.monotonic()
        own = self._own()
        with self._lock:
            self._dirty = False
            plain = merge(self._headers, self._families, own)
        body = _compressed(plain)
        now = time.monotonic()
        self._body = Body(*body, made=now, cost=now - begun)
        return self._body

    def _press_ahead(self) -> None:
        """Scrapes come at a steady rhythm: be ready just before the next one is due, and stay so until it comes."""
        while not self._closed:
            came = self._seen.wait(self._until_due())
            self._seen.clear()
            if self._dirty and not came:
                self._press()

    def _until_due(self) -> float | None:
        """Seconds until a body should be pressed; None while no scrape is expected, or while pressing is cheap."""
        now, body, expected = time.monotonic(), self._body, self._scraped + self._interval
        if body.cost <= CHEAP or now > expected + PATIENCE:
            return None
        return max(FRESH / 5, expected - FRESH / 2 - now, body.made + self._good_for(body) - now)

    def close(self) -> None:
        self._closed = True
        self._seen.set()


def merge(headers: Mapping[str, bytes], families: Mapping[str, Mapping[str, bytes]], own: Blocks) -> bytes:
    """One HELP and TYPE per family, its samples contiguous, families and checks in order of name."""
    parts: list[bytes] = []
    for name in sorted({*families, *own}):
        if name in own:
            parts.extend(own[name])
        if name in families:
            if name not in own:
                parts.append(headers[name])
            of_family = families[name]
            parts.extend(of_family[check] for check in sorted(of_family))
    return b"".join(parts)


def _compressed(plain: bytes) -> tuple[bytes, zlib._Compress]:
    stream = zlib.compressobj(1, zlib.DEFLATED, 31)  # 31: gzip header and trailer, largest window
    return stream.compress(plain) + stream.flush(zlib.Z_FULL_FLUSH), stream
