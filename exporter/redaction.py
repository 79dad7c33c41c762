"""Which texts must never show a secret? All that leave the process: results, logs, pages, errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

MARK = "<redacted>"


class Redactor:
    """Replaces every known secret in a text. Secrets may be added later (a reload); none is ever forgotten."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Hide these from now on too."""
        self._secrets.update(secret for secret in secrets if secret)
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MARK, text) if self._pattern else text


class RedactingFormatter(logging.Formatter):
    """Any formatter's output, without secrets."""

    def __init__(self, inner: logging.Formatter, redact: Redactor) -> None:
        super().__init__()
        self._inner, self._redact = inner, redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(self._inner.format(record))
