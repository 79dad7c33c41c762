"""What goes to stderr? logfmt or JSON, one line per change of outcome, never one per run, never a secret."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from exporter.redaction import RedactingFormatter, Redactor

PLAIN_KEYS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(level: str, form: str, redact: Redactor) -> None:
    """Send every log record to stderr in `logfmt` or `json`. Extra fields of a record become keys."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(_Lines(form == "json", redact), redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("apscheduler", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class _Lines(logging.Formatter):
    def __init__(self, json_lines: bool, redact: Redactor) -> None:
        super().__init__()
        self._json, self._redact = json_lines, redact

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix("gpu_canary."),
            "msg": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in PLAIN_KEYS}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        # before they are quoted: a secret with a quote or a newline in it is another text afterwards
        fields = {
            key: value if isinstance(value, int | float | None) else self._redact(str(value))
            for key, value in fields.items()
        }
        if self._json:
            return json.dumps(fields, ensure_ascii=False, default=str)
        return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and all(c.isprintable() and c not in ' "=\\' for c in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
