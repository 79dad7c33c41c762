"""Which variables does the text of a .env file set, and what is wrong with one? The probe `dotenv` asks.

No answer ever contains a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_OPTION = r"[a-z][a-z0-9_]*:(?:\[[^\]]*\]|[^,\[\]=]+)"
# Variables that have the same shape everywhere; a check's own `shapes` overrule them.
SHAPES: Mapping[str, str] = MappingProxyType(
    {
        "HF_TOKEN": r"hf_[A-Za-z0-9]{30,}",  # https://huggingface.co/docs/hub/security-tokens
        "HUGGING_FACE_HUB_TOKEN": r"hf_[A-Za-z0-9]{30,}",
        "OPENAI_API_KEY": r"sk-[A-Za-z0-9_-]{20,}",  # https://platform.openai.com/docs/api-reference/authentication
        "ANTHROPIC_API_KEY": r"sk-ant-[A-Za-z0-9_-]{20,}",  # https://docs.anthropic.com/en/api/overview
        # https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf
        "PYTORCH_CUDA_ALLOC_CONF": rf"{_OPTION}(?:,{_OPTION})*",
        "PYTORCH_ALLOC_CONF": rf"{_OPTION}(?:,{_OPTION})*",
    }
)
PLACEHOLDER = re.compile(r"(?i)change[-_ ]?me|to-?do|your[-_ ].*|<.*>|\.{3,}|(?:\w+[-_])?x{3,}")
# https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#cuda-environment-variables
CARD = re.compile(r"[0-9]+|GPU-[0-9a-fA-F-]+|MIG-[0-9a-zA-Z/-]+")

BLANK = re.compile(r"[ \t]*+(?:#[^\n]*+)?(?:\n|\Z)")
ASSIGNMENT = re.compile(
    r"""[ \t]*+(?:export[ \t]++)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*+)[ \t]*+=
    (?: [ \t]*+ (?: '(?P<single>[^']*+)' | "(?P<double>[^"\\]*+(?:\\.[^"\\]*+)*+)" ) [ \t]*+(?:\#[^\n]*+)?
      | (?![ \t]*+['"]) (?P<bare>[^\n]*+)
    )(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Variables:
    """What a .env text sets (the last of equal names wins). Lines are counted from 1."""

    values: Mapping[str, str] = field(repr=False)
    unreadable: tuple[int, ...]
    repeated: tuple[int, ...]


def parse(text: str) -> Variables:
    """Every assignment, whatever stands around it: comments, quotes over several lines, CRLF, a BOM, garbage."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    values: dict[str, str] = {}
    unreadable, repeated = [], []
    position, line = 0, 1
    while position < len(text):
        match = BLANK.match(text, position) or ASSIGNMENT.match(text, position)
        end = match.end() if match else text.find("\n", position) + 1 or len(text)
        piece = text[position:end]
        if match is None or "\0" in piece:
            unreadable.append(line)
        elif match.re is ASSIGNMENT:
            if match["name"] in values:
                repeated.append(line)
            values[match["name"]] = _value(match)
        position, line = end, line + piece.count("\n")
    return Variables(values, tuple(unreadable), tuple(repeated))


def _value(match: re.Match[str]) -> str:
    if match["single"] is not None:
        return match["single"]
    if match["double"] is not None:
        return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), match["double"], flags=re.DOTALL)
    return re.split(r"(?:^|\s)#" if match["bare"][:1] != "#" else r"\s#", match["bare"], maxsplit=1)[0].strip()


def flaw(value: str, shape: str | None) -> str:
    """What is wrong with a value, in words that do not show it; "" when nothing is."""
    if PLACEHOLDER.fullmatch(value):
        return "still holds a placeholder"
    if shape is None or "${" in value:  # a reference to another variable is the application's to resolve
        return ""
    return "" if re.fullmatch(shape, value) else "does not have the shape it should have"


def hidden_cards(value: str) -> str:
    """Which cards does this CUDA_VISIBLE_DEVICES hide that nobody meant to hide? In words, "" when none."""
    entries = [entry.strip() for entry in value.split(",")]
    for number, entry in enumerate(entries, start=1):
        if not CARD.fullmatch(entry):
            return "hides every card" if number == 1 else f"hides every card from entry {number} on, which names none"
        if entry in entries[: number - 1]:
            return f"names a card again in entry {number}, and CUDA then shows none"
    return ""
