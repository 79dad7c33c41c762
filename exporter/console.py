"""How does an answer reach the person who asked? Coloured on a terminal, plain when piped, JSON when asked; no secret ever.

What is shown may come from a hostile server or log: control characters are written out, never obeyed.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from exporter.redaction import Redactor

if TYPE_CHECKING:
    from rich.console import Console as Rich

STYLES = {
    "ok": "green",
    "degraded": "yellow",
    "failed": "bold red",
    "error": "magenta",
    "skipped": "dim",
    "critical": "bold red",
    "warning": "yellow",
    "info": "cyan",
}
Row = Sequence[str]


class Mistake(Exception):
    """What the person at the keyboard can put right; the message ends with how."""


def escaped(text: str) -> str:
    """The text with every control character but newline and tab written out (`\\x1b`)."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class Console:
    """Where a command's answer goes. `redact` hides secrets in everything; loading a config teaches it."""

    def __init__(self, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self.redact = Redactor()
        self._out, self._err = out or sys.stdout, err or sys.stderr
        for stream in (self._out, self._err):
            getattr(stream, "reconfigure", lambda errors: None)(errors="backslashreplace")

    @functools.cached_property
    def _rich(self) -> Rich | None:
        return None if self.as_json else _rich(self._out)

    def line(self, text: str = "", style: str = "", indent: int = 0) -> None:
        """Some lines of text. `style` is a word of STYLES or a style of rich."""
        shown = "\n".join(" " * indent + part if part else "" for part in self._safe(text).split("\n"))
        if self._rich is None:
            self._out.write(f"{shown}\n")
        else:
            self._rich.print(shown, style=STYLES.get(style, style) or None)

    def table(self, heads: Row, rows: Sequence[Row], indent: int = 0) -> None:
        """Aligned columns, two spaces apart; a cell that is an outcome or a severity is coloured."""
        if not rows:
            return
        cells = [
            [self._safe(cell).replace("\n", " ") for cell in row] for row in ([heads] if heads else []) + list(rows)
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for number, row in enumerate(cells):
            padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            if self._rich is None:
                self._out.write(" " * indent + "  ".join(padded).rstrip() + "\n")
            else:
                self._coloured(padded, "bold" if heads and number == 0 else "", indent)

    def json(self, data: object) -> None:
        """The answer as JSON, indented, ASCII only."""
        self._out.write(json.dumps(self.hidden(data), indent=2) + "\n")

    def raw(self, text: str) -> None:
        """Text for a program or a file: as it is, but for secrets."""
        self._out.write(self.redact(text))

    def hidden(self, data: object) -> object:
        """The same data with secrets hidden before quoting could disguise them."""
        if isinstance(data, dict):
            return {self.redact(str(key)): self.hidden(value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.hidden(item) for item in data]
        return self.redact(data) if isinstance(data, str) else data

    def note(self, text: str) -> None:
        """A remark beside the answer, on stderr."""
        self._err.write(f"{self._safe(text)}\n")
        self._err.flush()

    def trouble(self, text: str) -> None:
        """Why there is no answer, on stderr."""
        self.note(f"gpu-canary: {text}")

    @contextmanager
    def progress(self, title: str, at_once: bool = False) -> Iterator[Callable[[float, float], None]]:
        """A bar with ETA on stderr while a run reports how far it is; silent where stderr is no terminal.

        at_once: also before the first report, for what takes its time to begin.
        """
        rich = _rich(self._err)
        if rich is None:
            yield lambda done, total: None
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        bar = Progress(*columns, console=rich, transient=True)
        task = bar.add_task(self._safe(title), total=None)
        if at_once:
            bar.start()

        def tell(done: float, total: float) -> None:
            bar.start()  # with the first report: a short run shows none
            bar.update(task, completed=done, total=total)

        try:
            yield tell
        finally:
            bar.stop()

    def _coloured(self, cells: Row, style: str, indent: int) -> None:
        from rich.text import Text

        line = Text(" " * indent, style=style)
        for number, cell in enumerate(cells):
            line.append(f"{'  ' if number else ''}{cell}", STYLES.get(cell.strip(), ""))
        line.rstrip()
        if self._rich is not None:
            self._rich.print(line)

    def _safe(self, text: str) -> str:
        return escaped(self.redact(text))


def _rich(stream: TextIO) -> Rich | None:
    """rich's console on a terminal, None elsewhere. NO_COLOR (https://no-color.org) is rich's own business."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console as Rich

    return Rich(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=True)
