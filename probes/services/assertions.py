"""Is the answer what was expected? Patterns and assertions on JSON; what is missing or of another type never passes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, TypeGuard

from pydantic import AfterValidator, Field, JsonValue, model_validator

from probes.api import Params, PatientRegex

STEP = r"[^.\[\]]+|\[[0-9]+\]"
PATH = re.compile(rf"(?:{STEP})(?:\.[^.\[\]]+|\[[0-9]+\])*")
SHOWN = 100  # characters of a value in a finding
# `re` holds the interpreter's lock while it searches, so a search is cut into windows; a match may span OVERLAP characters.
WINDOW, OVERLAP = 32768, 2048


def checked_path(path: str) -> str:
    """The path itself. ValueError unless it reads like `models[0].name`."""
    if not PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a path; write it like status, gpu.memory or models[0].name")
    return path


def shown(text: str) -> str:
    """The beginning of what a server said, fit for a finding: no control character, no half of a surrogate pair."""
    return "".join(c if c.isprintable() else "?" for c in text[:SHOWN])


def found(pattern: str, text: str) -> bool:
    """Does the pattern match anywhere in the text?"""
    search = re.compile(pattern).search
    return any(search(text, at, at + WINDOW) for at in range(0, len(text) or 1, WINDOW - OVERLAP))


class JsonAssertion(Params):
    path: Annotated[str, AfterValidator(checked_path)] = Field(description="Where to look, like `models[0].name`.")
    equals: JsonValue = Field(None, description="The value is exactly this; `true` is not 1.")
    matches: PatientRegex | None = Field(None, description="The value is a string in which this pattern is found.")
    at_least: float | None = Field(None, description="The value is a number not below this.")
    at_most: float | None = Field(None, description="The value is a number not above this.")
    exists: bool | None = Field(None, description="The value is there, whatever it is; false: it is not there.")

    @model_validator(mode="after")
    def _has_a_condition(self) -> JsonAssertion:
        conditions = self.model_fields_set - {"path"}
        if not conditions or (self.exists is False and len(conditions) > 1):
            raise ValueError("give one of equals, matches, at_least, at_most, exists (`exists: false` alone)")
        return self

    def failure(self, document: JsonValue) -> str:
        """What was seen instead; "" when the assertion holds."""
        try:
            value = _value(document, self.path)
        except LookupError:
            return "" if self.exists is False else "there is no such value"
        seen = shown(json.dumps(value, ensure_ascii=False))
        if self.exists is False:
            return f"it is there: {seen}"
        if "equals" in self.model_fields_set and not _equal(value, self.equals):
            return f"{seen} is not {shown(json.dumps(self.equals, ensure_ascii=False))}"
        if self.matches is not None and not (isinstance(value, str) and found(self.matches, value)):
            return f"{seen} does not match {self.matches}"
        if self.at_least is not None and not (_is_number(value) and value >= self.at_least):
            return f"{seen} is not a number of at least {self.at_least:g}"
        if self.at_most is not None and not (_is_number(value) and value <= self.at_most):
            return f"{seen} is not a number of at most {self.at_most:g}"
        return ""


def failures(assertions: Iterable[JsonAssertion], body: bytes) -> Iterator[tuple[str, str]]:
    """Path and what was seen of every assertion that does not hold. NaN and bottomless nesting are not JSON."""
    try:
        document: JsonValue = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        yield from ((assertion.path, f"the body is not JSON: {str(error)[:SHOWN]}") for assertion in assertions)
    else:
        seen = ((assertion.path, assertion.failure(document)) for assertion in assertions)
        yield from ((path, failure) for path, failure in seen if failure)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _value(document: JsonValue, path: str) -> JsonValue:
    value = document
    for step in re.findall(STEP, path):
        if step.startswith("["):
            if not isinstance(value, list):
                raise LookupError(step)
            value = value[int(step[1:-1])]
        else:
            if not isinstance(value, dict):
                raise LookupError(step)
            value = value[step]
    return value


def _is_number(value: JsonValue) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _equal(value: JsonValue, expected: JsonValue) -> bool:
    """As JSON sees it: 1 is 1.0, and `true` is not 1 although Python says so."""
    if _is_number(value) and _is_number(expected):
        return value == expected
    return json.dumps(value, sort_keys=True) == json.dumps(expected, sort_keys=True)
