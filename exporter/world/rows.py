"""What did the worker write, and is it what a worker may write? A row file is hostile input: bounded and checked.

A bad row is our own fault (the worker is ours, or a plugin's): ValueError, with the start of the line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from probes.api import Row

LINE_LIMIT = 256 * 1024
FILE_LIMIT = 1024 * 1024
FIELDS: Mapping[str, frozenset[str]] = {
    "start": frozenset({"data"}),
    "fact": frozenset({"metric", "value", "labels"}),
    "data": frozenset({"data"}),
    "progress": frozenset({"done", "total"}),
    "end": frozenset({"data"}),
    "error": frozenset({"type", "message", "traceback", "missing"}),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """The exception that ended a worker. `missing` names the module of a ModuleNotFoundError."""

    type: str
    message: str
    traceback: str
    missing: str


class RowFile:
    """The rows of one worker, read while it writes. The file is opened once: what replaces it is never read.

    `end` is the end row, which is held back (the parent adds to it); `failure` the error row; None until they come.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self._read = 0
        self._started = False
        self.end: Row | None = None
        self.failure: Failure | None = None

    def new(self) -> Iterator[Row]:
        """The rows that were completed since the last call, except end and error."""
        while chunk := self._file.read(LINE_LIMIT):
            self._read += len(chunk)
            if self._read > FILE_LIMIT:
                raise ValueError(f"the worker wrote more than {FILE_LIMIT} bytes of rows")
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                yield from self._take(line)
            if len(self._rest) > LINE_LIMIT:
                self._take(self._rest)

    def finish(self) -> Row:
        """The end row of a worker that ended well. ValueError when there is none."""
        if self._rest or self.end is None:
            raise ValueError(f"the worker ended well without an end row; its last line was {self._rest[:200]!r}")
        return self.end

    def close(self) -> None:
        self._file.close()

    def _take(self, line: bytes) -> tuple[Row, ...]:
        try:
            row = parse(line)
            if self.end or self.failure:
                raise ValueError("a row after the last one")
            if not self._started and getattr(row, "kind", "") != "start":
                raise ValueError("the first row is not a start row")
            if self._started and getattr(row, "kind", "") == "start":
                raise ValueError("a second start row")
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"bad worker row: {error}: {line[:200]!r}") from error
        self._started = True
        if isinstance(row, Failure):
            self.failure = row
        elif row.kind == "end":
            self.end = row
        else:
            return (row,)
        return ()


def parse(line: bytes) -> Row | Failure:
    """One line as a row. ValueError, TypeError or RecursionError say what is wrong with it."""
    if len(line) > LINE_LIMIT:
        raise ValueError(f"longer than {LINE_LIMIT} bytes")
    entry = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str) or entry["kind"] not in FIELDS:
        raise ValueError(f"not an object with a kind of {', '.join(FIELDS)}")
    json.dumps(entry, ensure_ascii=False).encode("utf-8")  # refuses half characters, which nothing later could write
    kind = entry.pop("kind")
    if entry.keys() != FIELDS[kind]:
        raise ValueError(f"a {kind} row has the fields {', '.join(sorted(FIELDS[kind]))}")
    if kind == "error":
        return Failure(**{key: _text(value) for key, value in entry.items()})
    for key, value in entry.items():
        entry[key] = CHECKS[key](value)
    if kind == "fact" and not entry["metric"]:
        raise ValueError("a fact without a metric")
    return Row(kind, **entry)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is not a text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.80} is not a number")
    if not abs(value) < 1e300 or not math.isfinite(value):  # an int of a thousand digits has no float
        raise ValueError("a number out of range")
    return float(value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.80} is not an object")
    return value


def _labels(value: Any) -> dict[str, str]:
    return {key: _text(item) for key, item in _object(value).items()}


CHECKS = {
    "metric": _text,
    "value": _number,
    "labels": _labels,
    "data": _object,
    "done": _number,
    "total": _number,
}
