"""How is a probe told what to look at? Params are frozen pydantic models; these are the field types they share."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

UNITS: dict[str, int] = {"": 1, "B": 1, "kB": 1000, "KiB": 1024}
UNITS |= {f"{p}B": 1000**n for n, p in enumerate("MGT", start=2)} | {
    f"{p}iB": 1024**n for n, p in enumerate("MGT", start=2)
}
UNITS["KB"] = 1000
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,\}|.", re.DOTALL)  # of a pattern
MAX_DIGITS = 30  # more is no size or time that exists, and 400 digits are infinite as a float
SIZE_PATTERN = r"[0-9]+(\.[0-9]+)? ?([kKMGT]i?B|B)?"
DURATION_PATTERN = r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+"


def parse_bytes(value: object) -> int:
    """`12GiB` (binary), `12GB` (decimal) or a number of bytes. ValueError says what was expected."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", str(value).strip())
    if match is None or match[2] not in UNITS or len(match[1]) > MAX_DIGITS:
        raise ValueError(f"{value!r} is not a size; write it like 12GiB, 500MB or 1024")
    return round(float(match[1]) * UNITS[match[2]])


def parse_duration(value: object) -> float:
    """`5s`, `1h30m`, `250ms` to seconds. ValueError says what was expected; a bare number is refused (which unit?)."""
    text = str(value).strip()
    if not re.fullmatch(DURATION_PATTERN, text) or len(text) > MAX_DIGITS:
        raise ValueError(f"{value!r} is not a duration; write it with a unit, like 5s, 9m, 6h or 1h30m")
    return sum(float(n) * SECONDS[unit] for n, unit in re.findall(r"([0-9.]+)(ms|[smhdw])", text))


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, float) else parse_duration(value)


def _patient(pattern: str) -> str:
    """Refuse what takes exponential time: a group repeated without bound around a repetition or a choice.

    A match cannot be interrupted, and holds up every other thread. https://www.regular-expressions.info/catastrophic.html
    """
    groups, closed = [False], False
    for piece in PIECE.findall(pattern):
        endless = piece in ("*", "+") or piece.endswith(",}")
        if endless and closed:
            raise ValueError("a repeated group holds a repetition or a choice, and could take for ever; write it flat")
        closed = piece == ")" and len(groups) > 1 and groups.pop()
        if piece == "(":
            groups.append(False)
        elif endless or closed or piece == "|":
            groups[-1] = True
    return pattern


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    Field(ge=0),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^{SIZE_PATTERN}$"}),
]
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0),
    WithJsonSchema({"type": "string", "pattern": f"^{DURATION_PATTERN}$"}),
]
Regex = Annotated[str, AfterValidator(_compiles), WithJsonSchema({"type": "string", "format": "regex"})]
PatientRegex = Annotated[Regex, AfterValidator(_patient)]  # for what is searched in the exporter itself
Secret = SecretStr


class Params(BaseModel):
    """Base of every probe's params: frozen, unknown keys refused, every field described."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)


P = TypeVar("P", bound=Params)
