"""Does the pager work? Findings that somebody made up to see it ring: a file in the storage directory; each ends by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "injected.json"
LONGEST = 600.0  # seconds; whoever forgets it pages nobody for longer
LIMIT = 20  # findings at a time
TEXT = 200  # characters of a label


@dataclass(frozen=True, slots=True)
class Injection:
    """A made-up finding, and when it ends (Unix time). It is a series and a banner, never a result."""

    check: str
    rule: str
    severity: str
    subject: str
    until: float

    @property
    def left(self) -> float:
        return max(0.0, self.until - time.time())


def read(storage: Path) -> tuple[Injection, ...]:
    """Those that have not ended, each once. A damaged file counts as none, as does an end later than `inject` allows."""
    try:
        rows = json.loads((storage / FILE).read_text(encoding="utf-8"))
        found = [Injection(**row) for row in rows[:LIMIT]]
        now = time.time()
        whole = (one for one in found if _whole(one) and now < one.until <= now + LONGEST)
        return tuple({(one.check, one.rule, one.severity, one.subject): one for one in whole}.values())
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return ()


def _whole(one: Injection) -> bool:
    texts = (one.check, one.rule, one.severity, one.subject)
    return all(isinstance(text, str) and text and len(text) <= TEXT and text.isprintable() for text in texts)


def begin(storage: Path, check: str, rule: str, severity: str, subject: str, seconds: float) -> Injection:
    """Inject a finding for `seconds`, instead of the same one from before. OSError when the directory takes no file."""
    made = Injection(check, rule, severity, subject, time.time() + min(seconds, LONGEST))
    others = (one for one in read(storage) if (one.check, one.rule, one.subject) != (check, rule, subject))
    _write(storage, [made, *others][:LIMIT])
    return made


def end(storage: Path, rule: str = "") -> None:
    """Take back every injected finding, or those of one rule; no error when there is none."""
    left = [one for one in read(storage) if rule and one.rule != rule]
    if left:
        _write(storage, left)
    else:
        (storage / FILE).unlink(missing_ok=True)


def _write(storage: Path, injections: Iterable[Injection]) -> None:
    storage.mkdir(parents=True, exist_ok=True)
    fresh = storage / f"{FILE}.new"
    fresh.write_text(json.dumps([asdict(one) for one in injections]), encoding="utf-8")
    fresh.replace(storage / FILE)
