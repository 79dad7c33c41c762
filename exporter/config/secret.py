"""Which values come from the environment or from files, and must never be shown? `${NAME}`, `X_file:` and Secret fields."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from exporter.config.document import Ledger, Node, read_bytes
from exporter.config.validation import fields, models_below
from probes.api import Secret

MAX_SECRET_BYTES = 64 * 1024
SHORTEST = 4  # redacting every "on" or "1" would make the output unreadable and hide nothing
REFERENCE = re.compile(r"\$\$|\$\{([^}]*)\}?")
# `${HOME}/models` names a place. Were it redacted, every label that holds a path would be.
PUBLIC = frozenset({"HOME", "HOSTNAME", "LOGNAME", "PWD", "USER", "XDG_CACHE_HOME", "XDG_STATE_HOME"})


def expanded(node: Node, environ: Mapping[str, str], ledger: Ledger, key: str = "") -> Node:
    """Every text's `${NAME}` replaced by the environment's value, `$$` by `$`; a missing variable is a problem."""
    if isinstance(node.value, dict):
        children = {k: expanded(v, environ, ledger, f"{key}.{k}" if key else k) for k, v in node.value.items()}
        return replace(node, value=children)
    if isinstance(node.value, tuple):
        items = (expanded(v, environ, ledger, f"{key}[{i}]") for i, v in enumerate(node.value))
        return replace(node, value=tuple(items))
    if not isinstance(node.value, str) or "$" not in node.value:
        return node
    secret = broken = False

    def value(match: re.Match[str]) -> str:
        nonlocal secret, broken
        name = match[1]
        if name is None:
            return "$"
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not match[0].endswith("}"):
            broken = True
            ledger.wrong(node, key, f"{match[0]!r} is not ${{NAME}}; write $${{ for a literal ${{")
        elif name not in environ:
            broken = True
            ledger.wrong(node, key, f"the environment variable {name} is not set; export it or use `{_leaf(key)}_file`")
        elif name not in PUBLIC:
            secret = True
            noted(environ[name], ledger)
        return environ.get(name, "")

    text = REFERENCE.sub(value, node.value)
    return replace(node, value=text, secret=secret, broken=broken)


def revealed(node: Node, model: type, key: str, ledger: Ledger) -> Node:
    """The node with each `X_file` replaced by X, where X is a text field of `model`; Secret fields are marked and noted."""
    if not isinstance(node.value, dict):
        return node
    known, values = fields(model), dict(node.value)
    for name in list(values):
        field = name.removesuffix("_file")
        if field != name and name not in known and _holds(known.get(field), str, Secret):
            pointer = values.pop(name)
            if field in values:
                ledger.wrong(pointer, f"{key}.{name}", f"give either {field} or {name}, not both")
            else:
                values[field] = _from_file(pointer, f"{key}.{name}", ledger)
    for name, child in values.items():
        if _holds(known.get(name), Secret):
            values[name] = _marked(_opened(child, f"{key}.{name}", ledger), ledger)
        for below in models_below(known.get(name)):
            if issubclass(below, BaseModel):
                values[name] = _below(values[name], below, f"{key}.{name}", ledger)
    return replace(node, value=values)


def noted(value: str, ledger: Ledger) -> None:
    """Remember a secret value for redaction, and each of its lines: outputs are often cut into lines."""
    ledger.secrets.update(part for part in (value, *value.splitlines()) if len(part) >= SHORTEST)


def located(text: str, node: Node) -> str:
    """A path in a config: `~` is the home directory, a relative one starts at the file that holds it."""
    return os.path.join(os.path.dirname(os.path.abspath(node.file)), os.path.expanduser(text)) if text else ""


def _below(node: Node, model: type, key: str, ledger: Ledger) -> Node:
    if isinstance(node.value, tuple):
        items = (revealed(v, model, f"{key}[{i}]", ledger) for i, v in enumerate(node.value))
        return replace(node, value=tuple(items))
    return revealed(node, model, key, ledger)


def _from_file(pointer: Node, key: str, ledger: Ledger) -> Node:
    path = located(str(pointer.value or ""), pointer)
    try:
        text = read_bytes(Path(path), MAX_SECRET_BYTES).decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        ledger.wrong(
            pointer, key, f"{path or 'the empty path'} cannot be read as a secret: {said}; look at `ls -l` of it"
        )
        return replace(pointer, value="", broken=True)
    if not text:
        ledger.wrong(pointer, key, f"{path} is empty; write the secret into it")
    noted(text, ledger)
    return replace(pointer, value=text, secret=True)


def _opened(node: Node, key: str, ledger: Ledger) -> Node:
    """A mapping of secrets (headers) with each `X_file` replaced by X."""
    if not isinstance(node.value, dict):
        return node
    values: dict[str, Node] = {}
    for name, child in node.value.items():
        plain = name.removesuffix("_file")
        if plain != name and plain in node.value:
            ledger.wrong(child, f"{key}.{name}", f"give either {plain} or {name}, not both")
        else:
            values[plain] = child if plain == name else _from_file(child, f"{key}.{name}", ledger)
    return replace(node, value=values)


def _marked(node: Node, ledger: Ledger) -> Node:
    if isinstance(node.value, dict):
        return replace(node, value={k: _marked(v, ledger) for k, v in node.value.items()})
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(_marked(v, ledger) for v in node.value))
    if node.value is not None and not node.secret:
        noted(str(node.value), ledger)
    return replace(node, secret=True)


def _holds(annotation: object, *types: type) -> bool:
    return annotation in types or any(_holds(argument, *types) for argument in get_args(annotation))


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]
