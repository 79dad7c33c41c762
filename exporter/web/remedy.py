"""How is a remedy read? Its tiny Markdown, numbered steps and `code`, as data for a template that escapes."""

from __future__ import annotations

import re
from dataclasses import dataclass

STEP = re.compile(r"^\s*\d{1,2}\.\s+", re.MULTILINE)
CODE = re.compile(r"`([^`]*)`")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some words, or something to type."""

    text: str
    code: bool


Step = tuple[Piece, ...]


def steps(remedy: str, check: str = "CHECK", probe: str = "PROBE") -> tuple[Step, ...]:
    """The steps of a remedy; the words CHECK and PROBE in its commands become this check's."""
    named = re.sub(r"\bCHECK\b", lambda _: check, re.sub(r"\bPROBE\b", lambda _: probe, remedy))
    texts = (" ".join(text.split()) for text in STEP.split(named))
    return tuple(pieces(text) for text in texts if text)


def pieces(text: str) -> Step:
    """Words and `code` of one sentence."""
    parts = CODE.split(text)  # words and code take turns
    return tuple(Piece(part, bool(number % 2)) for number, part in enumerate(parts) if part)
