"""What does a YAML file say, and on which line? The only importer of PyYAML; hostile input ends in a ConfigError.

YAML 1.2's plain scalars, not 1.1's: `no`, `on`, `12:30` and `2026-01-01` are texts, as every reader takes them to be
(https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from probes.api import Json

MAX_BYTES = 1024 * 1024  # about 10,000 checks
MAX_NODES = 100_000  # after aliases are expanded: ten lines of aliases could make billions
MAX_DEPTH = 32
MAX_DIGITS = 20  # a 64-bit number has 20; int() itself refuses 4,300 (https://docs.python.org/3/library/stdtypes.html)
CORE = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a config. `line` 0: the file as a whole, or no file at all."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (where, self.key, self.message) if part)


class ConfigError(Exception):
    """Everything wrong with a config, at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands: for a mapping's value, the line of its key.

    `secret` values are never shown; `broken` ones stand for a value that could not be had, which a Problem tells already.
    """

    value: None | bool | int | float | str | tuple[Node, ...] | dict[str, Node]
    file: str = ""
    line: int = 0
    secret: bool = False
    broken: bool = False

    def plain(self) -> Json:
        """The same value without positions."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain() for child in self.value]
        return self.value

    def get(self, key: str) -> Node | None:
        """The value of `key`, None when this is no mapping or lacks it."""
        return self.pairs().get(key)

    def pairs(self) -> dict[str, Node]:
        """A mapping's keys and values; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def items(self) -> tuple[Node, ...]:
        """A list's items; empty for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    def child(self, step: str | int) -> Node | None:
        """What lies one step below: a mapping's value or a list's item."""
        if isinstance(step, int):
            return self.items()[step] if step < len(self.items()) else None
        return self.get(step)

    def guarded(self) -> bool:
        """Does any part of it come from a secret?"""
        return self.secret or any(child.guarded() for child in (*self.pairs().values(), *self.items()))


@dataclass(slots=True)
class Ledger:
    """What was met while one config was loaded: problems, and secret values."""

    problems: list[Problem] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    def wrong(self, node: Node, key: str, message: str) -> None:
        self.problems.append(Problem(node.file, node.line, key, message))


def plant(data: Json, source: str = "") -> Node:
    """Plain data as nodes, for a config that no file holds."""
    if isinstance(data, dict):
        return Node({key: plant(value, source) for key, value in data.items()}, source)
    if isinstance(data, list):
        return Node(tuple(plant(item, source) for item in data), source)
    return Node(data, source)


def read_bytes(path: Path, limit: int) -> bytes:
    """A regular file's content. OSError when it cannot be read, ValueError when it is a device or too large."""
    if path.exists() and not path.is_file():
        raise ValueError("expected a regular file; it is a directory, a device or a pipe")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"expected at most {limit // 1024} KiB; split the file, or look whether it is the right one")
    return data


def read(path: Path) -> Node:
    """The file as nodes. ConfigError with one Problem when it is no readable YAML mapping; an empty file is `{}`."""
    try:
        data = read_bytes(path, MAX_BYTES)
        return parse(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [
                Problem(
                    str(path), line, "", f"byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8"
                )
            ]
        ) from None
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError([Problem(str(path), 0, "", f"cannot be read: {said}")]) from None


def parse(text: str, file: str = "") -> Node:
    """YAML text as nodes; the top level must be a mapping."""
    try:
        root = yaml.load(text, Loader=_Composer)  # noqa: S506  # it builds nodes and calls no constructor
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            [Problem(file, line, "", f"the character {error.character:#x} is not allowed here")]
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError([Problem(file, mark.line + 1 if mark else 0, "", _yaml_message(error))]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML lets chr() and int() of bad escapes through
        raise ConfigError([Problem(file, 0, "", f"not YAML: {error}")]) from None
    node = Node(None, file, 1) if root is None else _Converter(file).node(root, root.start_mark.line + 1, 0)
    if node.value is None:
        return replace(node, value={})
    if not isinstance(node.value, dict):
        raise ConfigError([Problem(file, node.line, "", "expected keys like `checks:` at the top level")])
    return node


def dump(data: Json) -> str:
    """Plain data as YAML that `parse` reads back as equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=MAX_BYTES)


class _Composer(yaml.SafeLoader):
    """PyYAML's own composer with limits, which resolves plain scalars by YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own hook
    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.nodes += 1
        self.depth += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            limit = f"{MAX_DEPTH} levels deep" if self.depth > MAX_DEPTH else f"{MAX_NODES} values"
            raise yaml.composer.ComposerError(None, None, f"more than {limit}", self._mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _mark(self) -> yaml.Mark | None:
        mark = getattr(self.peek_event(), "start_mark", None)  # type: ignore[no-untyped-call]
        return mark if isinstance(mark, yaml.Mark) else None

    def get_single_data(self) -> yaml.Node | None:
        node: yaml.Node | None = self.get_single_node()
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Composer` would take for something else; never writes aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own hook

    def ignore_aliases(self, data: object) -> bool:
        return True


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    for _class in (_Composer, _Dumper):
        _class.add_implicit_resolver(CORE + _tag, re.compile(f"(?:{_pattern})$"), _first)


def _yaml_message(error: yaml.MarkedYAMLError) -> str:
    said = " ".join(part for part in (error.context, error.problem) if part)
    return f"{said}; indent with spaces" if "\\t" in said or "\t" in said else said


class _Converter:
    """PyYAML's nodes to ours: aliases expanded within a budget, duplicate keys and foreign tags refused."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.budget = MAX_NODES

    def node(self, node: yaml.Node, line: int, depth: int) -> Node:
        self.budget -= 1
        if depth > MAX_DEPTH:
            raise self._error(node, f"aliases nest deeper than {MAX_DEPTH} levels; a value cannot contain itself")
        if self.budget < 0:
            raise self._error(node, f"aliases expand to more than {MAX_NODES} values")
        if isinstance(node, yaml.MappingNode) and node.tag == CORE + "map":
            return Node(self._mapping(node, depth), self.file, line)
        if isinstance(node, yaml.SequenceNode) and node.tag == CORE + "seq":
            return Node(tuple(self.node(n, n.start_mark.line + 1, depth + 1) for n in node.value), self.file, line)
        if isinstance(node, yaml.ScalarNode):
            return Node(self._scalar(node), self.file, line)
        raise self._error(node, f"the tag {node.tag!r} is not supported")

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be a word, not a list or mapping (a template's `{{...}}`? Quote it)")
            if key.value == "<<" and key.style is None:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    base = self.node(source, key.start_mark.line + 1, depth + 1).value
                    if not isinstance(base, dict):
                        raise self._error(value, "`<<` takes an alias of a mapping, or a list of them")
                    merged = {**base, **merged}
                continue
            if key.value in own:
                raise self._error(key, f"the key {key.value!r} is given twice, first on line {own[key.value].line}")
            own[key.value] = self.node(value, key.start_mark.line + 1, depth + 1)
        return {**merged, **own}

    def _scalar(self, node: yaml.ScalarNode) -> None | bool | int | float | str:
        text, kind = str(node.value), node.tag.removeprefix(CORE)
        try:
            if kind == "str":
                return self._text(node, text)
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int" and len(text) <= MAX_DIGITS:
                return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
            if kind == "float":
                number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
                if math.isfinite(number):
                    return number
        except (ValueError, KeyError):
            pass  # the sentence below says it
        if kind in ("bool", "int", "float"):
            raise self._error(
                node, f"{text[:40]!r} is not a finite {kind} of at most {MAX_DIGITS} digits; quote a text"
            )
        raise self._error(node, f"the tag {node.tag!r} is not supported")

    def _text(self, node: yaml.ScalarNode, text: str) -> str:
        bad = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
        if bad is not None:
            raise self._error(node, f"the character {ord(bad):#x} is not allowed in a text")
        return text

    def _error(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError([Problem(self.file, node.start_mark.line + 1, "", message)])
