"""What did the checks find before? SQLite, written in batches by one thread; the only importer of sqlite3.

Table `latest` (one row a check) is what boot reads; table `runs` keeps every run of checks slower than a minute, and of
faster ones each change of outcome plus one row a minute. It is not a time-series store: Prometheus is.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from exporter.baseline import WINDOW
from exporter.result import Latest, Result
from exporter.statements import INSERT, MIGRATIONS, PRUNE, RUNS, SCHEMA, SCHEMA_VERSION

log = logging.getLogger("gpu_canary.history")

BATCH_SECONDS = 1.0
THIN_SECONDS = 60.0
QUEUE_ROWS = 10_000  # what a full disk may cost in memory: older runs are dropped first, the latest never
PRUNE_EVERY = 3600.0
NO_RECORD = (KeyError, TypeError, ValueError, AttributeError)  # what reading plain data that is none raises


class Unusable(Exception):
    """The file is no history of ours, is damaged, or is newer than this program."""


class History:
    """One file. `append` never blocks on the disk and never raises; what could not be written is counted.

    `patient`: where the file cannot be opened, begin without it and try again; otherwise that is an OSError.
    """

    def __init__(self, path: Path, retention_time: float, retention_size: int, patient: bool = False):
        self.path = path
        self.moved_aside: str = ""  # why and where the previous file went, for the finding
        self.write_failures, self.last_error = 0, ""
        self._retention, self._database_lock = (retention_time, retention_size), threading.Lock()
        self._fingerprints: dict[str, str] = {}
        self._thinned: dict[str, tuple[float, str]] = {}
        self._dirty: dict[str, Latest] = {}
        self._held: dict[str, Latest] = {}
        self._runs: deque[Result] = deque(maxlen=QUEUE_ROWS)
        self._forgotten: set[str] = set()
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._closing, self._pruned = False, 0.0
        self._database: sqlite3.Connection | None = None
        try:
            self._database = self._open()
        except OSError as error:
            if not patient:
                raise
            self._failed(error)
        self._writer = threading.Thread(target=self._write_forever, name="history", daemon=True)
        self._writer.start()

    # -- what the journal and the app call ------------------------------------------------------------------------

    def know(self, fingerprints: Mapping[str, str]) -> None:
        """The configured checks; a latest record of another fingerprint is not offered at boot."""
        self._fingerprints = dict(fingerprints)

    def append(self, latest: Latest) -> None:
        """Queue a record; committed within about a second.

        Of a check that runs more often than once a minute and says nothing new, only what a run remembers is, unless it is a
        benchmark: a canary that writes all day long wears the disk it watches. `close` writes the rest.
        """
        result = latest.last
        before, outcome = self._thinned.get(result.check, (0.0, ""))
        keep = result.outcome != outcome or not 0 <= result.started - before < THIN_SECONDS or bool(result.comparisons)
        with self._lock:
            self._forgotten.discard(result.check)
            self._held.pop(result.check, None)
            if not keep and result.remember is None:
                self._held[result.check] = latest
                return
            self._dirty[result.check] = latest
            if keep:
                self._thinned[result.check] = (result.started, result.outcome)
                self._runs.append(result)
        self._wake.set()

    def forget(self, check: str) -> None:
        """Drop the latest record of a removed check; its runs stay until retention takes them."""
        with self._lock:
            self._dirty.pop(check, None)
            self._held.pop(check, None)
            self._thinned.pop(check, None)
            self._forgotten.add(check)
        self._wake.set()

    def latest(self) -> dict[str, Latest]:
        """What boot reads: the records of every check whose fingerprint is still the configured one."""
        if self._database is None:  # a disk that is full at the start
            return {}
        with self._locked() as database:
            rows = database.execute("SELECT name, fingerprint, record FROM latest").fetchall()
        found: dict[str, Latest] = {}
        for name, print_, record in rows:
            if self._fingerprints.get(name) == print_:
                try:
                    found[name] = Latest.from_dict(json.loads(record))
                except NO_RECORD as error:
                    log.error("a check's latest record is no use: %r; measured again", error, extra={"check": name})
        return found

    def runs(self, check: str, since: float = 0.0, limit: int = 100, measured: bool = False) -> list[Result]:
        """The newest `limit` (measured) runs of a check that started after `since`, oldest first, the queued included."""
        self.flush()
        try:
            with self._locked() as database:
                return _runs(database, check, since, limit, measured)
        except sqlite3.Error:  # then what waits for the disk is all there is
            with self._lock:
                mine = [run for run in self._runs if run.check == check and run.started > since]
            return [run for run in mine if run.measured or not measured][-limit:]

    def size(self) -> int | None:
        """Bytes in use, None when the file cannot be read now."""
        try:
            with self._locked() as database:
                return self._bytes(database)
        except sqlite3.Error:
            return None

    def flush(self) -> None:
        """Write what is queued now. A failure is counted and the records stay queued."""
        with self._lock:
            dirty, forgotten = dict(self._dirty), set(self._forgotten)
            runs = list(self._runs)
            self._dirty.clear()
            self._runs.clear()
            self._forgotten.clear()
        if not (dirty or forgotten or runs):
            return
        try:
            self._write(dirty, forgotten, runs)
        except sqlite3.Error as error:
            self._keep(dirty, forgotten, runs, error)
        except Exception as error:  # a record that is no plain data: the batch is lost, the writer lives
            self._failed(error)

    def close(self) -> None:
        """Flush and let go of the file, within two seconds even on a stuck disk (the thread is a daemon)."""
        self._closing = True
        self._wake.set()
        self._writer.join(timeout=2.0)

    # -- the writer -----------------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while not self._closing:
            self._wake.wait(PRUNE_EVERY)
            self._wake.clear()
            if not self._closing:
                time.sleep(BATCH_SECONDS)  # let a batch gather: one commit costs 11 ms, a hundred rows in it the same
            self.flush()
            if time.monotonic() - self._pruned > PRUNE_EVERY or not self._pruned:
                self.prune()
        with self._lock:
            self._dirty.update(self._held)
        self.flush()
        if self._database is not None:
            with self._locked() as database:
                database.close()

    def _write(self, dirty: Mapping[str, Latest], forgotten: set[str], runs: list[Result]) -> None:
        rows = [(n, self._fingerprints.get(n, ""), _dump(latest)) for n, latest in dirty.items()]
        with self._locked() as database, database:
            database.executemany("DELETE FROM latest WHERE name = ?", [(name,) for name in forgotten])
            database.executemany("INSERT OR REPLACE INTO latest VALUES (?, ?, ?)", rows)
            database.executemany(INSERT, [(r.check, r.started, r.outcome, r.duration, _dump(r)) for r in runs])
        self.last_error = ""

    def _keep(self, dirty: Mapping[str, Latest], forgotten: set[str], runs: list[Result], error: sqlite3.Error) -> None:
        self._failed(error)
        with self._lock:
            self._dirty = {**dirty, **self._dirty}
            self._forgotten |= forgotten
            self._runs.extendleft(reversed(runs[-(QUEUE_ROWS - len(self._runs)) or len(runs) :]))

    def _failed(self, error: Exception) -> None:
        self.write_failures += 1
        known, self.last_error = self.last_error, str(error)
        if known != self.last_error:
            log.error("history is not written: %s; free space or fix permissions of %s", error, self.path)

    def prune(self) -> None:
        """Delete what retention no longer covers, by age and then by size, and give the space back."""
        self._pruned = time.monotonic()
        age, size = self._retention
        try:
            with self._locked() as database:
                with database:
                    database.execute("DELETE FROM runs WHERE started < ?", (time.time() - age,))
                deleted = 1
                while deleted > 0 and self._bytes(database) > size:
                    with database:
                        deleted = database.execute(PRUNE, (WINDOW,)).rowcount
                database.execute("PRAGMA incremental_vacuum").fetchall()
        except sqlite3.Error as error:
            self._failed(error)

    @staticmethod
    def _bytes(database: sqlite3.Connection) -> int:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        return int((pages - free) * size)

    # -- the file -------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._database_lock:
            if self._database is None:
                try:
                    self._database = self._open()
                except OSError as error:
                    raise sqlite3.OperationalError(str(error)) from None
            yield self._database

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(self.path)
        except (sqlite3.DatabaseError, Unusable) as error:
            # A full disk, a lock or a missing permission says nothing about the file: it stays where it is.
            if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
                raise OSError(f"{self.path} cannot be used ({error}); its folder must be ours to write") from None
            aside = self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%dT%H%M%S')}.aside")
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
            self.moved_aside = f"{error}; the file is now {aside}"
            log.error("history starts again: %s", self.moved_aside)
            return _connect(self.path)


def recall(path: Path, check: str, limit: int) -> list[Result]:
    """The newest measured runs of a check, oldest first, out of a file that an exporter may be writing; [] if we may not."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as database:
            return _runs(database, check, 0.0, limit, measured=True)
    except (sqlite3.Error, ValueError):
        return []


def _runs(database: sqlite3.Connection, check: str, since: float, limit: int, measured: bool) -> list[Result]:
    found = []
    for (record,) in database.execute(RUNS, (check, since, not measured, limit)):
        with suppress(*NO_RECORD):  # one damaged record is no reason to do without the others
            found.append(Result.from_dict(json.loads(record)))
    return found


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise Unusable(f"{path} has schema {version}, this program knows {SCHEMA_VERSION}")
        if version == 0 and database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise Unusable(f"{path} is a database of something else")
        if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise Unusable(f"{path} is damaged")
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        for step in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
            database.executescript(f"BEGIN; {MIGRATIONS[step]} PRAGMA user_version = {step + 1}; COMMIT;")
        database.execute("SELECT name, fingerprint, record FROM latest LIMIT 1").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _dump(record: Latest | Result) -> str:
    return json.dumps(record.to_dict(), separators=(",", ":"))
