"""Which value is wrong, and what was expected? Pydantic's errors as Problems, each at its line, with the nearest spelling."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from exporter.config.document import Ledger, Node

T = TypeVar("T")
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
SHOWN = 60  # characters of a wrong value that a message repeats


def validated(model: type[T], node: Node, key: str, ledger: Ledger) -> T | None:
    """The node as a `model`; None when it does not fit, and the ledger then says why. `key` is the node's own path."""
    try:
        value: T = adapter(model).validate_python(node.plain())
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place, path = _place(node, detail["loc"])
            if detail["type"] in UNKNOWN:  # that is wrong with the key, whatever its value
                place = replace(place, broken=False)
            ledger.wrong(place, ".".join(filter(None, (key, path))), _message(model, node, place, detail))
    except Exception as error:  # a stranger's validator may raise anything, and a reload must survive it
        ledger.wrong(node, key, f"{model.__name__} failed with {type(error).__name__}: {error}; tell its author")
    else:
        return value
    return None


def adapter(model: type[T]) -> TypeAdapter[T]:
    """Pydantic's validator of a model, kept: building one takes a thousand times longer than using it."""
    if model not in _ADAPTERS:
        _ADAPTERS[model] = TypeAdapter(model)
    return _ADAPTERS[model]


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing when no word is near."""
    import difflib  # only those pay for it who misspell

    near = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def shown(node: Node) -> str:
    """` (got X)`, or nothing where the value may be a secret."""
    if node.guarded():
        return " (its value is hidden: it comes from a secret)"
    text = repr(node.plain())
    return f" (got {text if len(text) <= SHOWN else text[:SHOWN] + '...'})"


def models_below(annotation: object) -> Iterator[type]:
    """The pydantic models and dataclasses that an annotation holds: `list[Target] | None` holds Target."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)):
        yield annotation
    for argument in get_args(annotation):
        yield from models_below(argument)


def fields(model: type) -> dict[str, Any]:
    """Field names and annotations of a pydantic model or a dataclass."""
    if issubclass(model, BaseModel):
        return {name: info.annotation for name, info in model.model_fields.items()}
    return {f.name: f.type for f in dataclasses.fields(model)} if dataclasses.is_dataclass(model) else {}


def _place(node: Node, loc: tuple[int | str, ...]) -> tuple[Node, str]:
    """The deepest node on pydantic's path and that path; steps that name a union's branch are left out."""
    path = ""
    for number, step in enumerate(loc, start=1):
        child = node.child(step)
        if child is not None:
            node = child
        if child is not None or (number == len(loc) and step != "[key]"):
            path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return node, path.removeprefix(".")


def _message(model: type, root: Node, place: Node, detail: ErrorDetails) -> str:
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    match detail["type"]:
        case "missing":
            return "this key is required"
        case unknown if unknown in UNKNOWN:
            known = sorted(_keys_at(model, detail["loc"][:-1]))
            return f"unknown key; expected one of {', '.join(known)}{nearest(last, known)}"
        case _ if place.guarded():
            return f"does not fit ({detail['type']}){shown(place)}"
        case "string_type" if isinstance(detail["input"], int | float):
            return f"expected a text{shown(place)}; put it in quotes"
        case "dict_type" | "model_type" | "dataclass_type" | "model_attributes_type":
            return f"expected a mapping, like `{{key: value}}`{shown(place)}"
        case "literal_error":
            choices = re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))
            return f"expected one of {', '.join(choices)}{shown(place)}{nearest(str(detail['input']), choices)}"
    said = detail["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ")
    said = said.replace("Input should ", "it should ")
    return said if repr(detail["input"]) in said else said + shown(place)


def _keys_at(model: type, loc: tuple[int | str, ...]) -> set[str]:
    found: list[type] = [model]
    for step in loc:
        below = [m for model in found for m in models_below(fields(model).get(str(step)))]
        found = below or found
    return {name for model in found for name in fields(model)}
