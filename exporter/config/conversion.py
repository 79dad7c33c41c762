"""How does YAML text become nodes, and plain data YAML text? The only importer of PyYAML; hostile input ends in Problems.

YAML 1.2's plain scalars, not 1.1's: `no`, `on`, `12:30` and `2026-01-01` are texts, as every reader takes them to be
(https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import EllipsisType

import yaml

from exporter.config.document import ConfigError, Ledger, Node, Problem, read_bytes
from probes.api import Json

MAX_BYTES = 1024 * 1024  # about 10,000 checks
MAX_NODES = 100_000  # after aliases are expanded: ten lines of aliases could make billions
MAX_DEPTH = 32
MAX_DIGITS = 20  # a 64-bit number has 20; int() itself refuses 4,300 (https://docs.python.org/3/library/stdtypes.html)
CORE = "tag:yaml.org,2002:"
TAGS: dict[type[yaml.Node], set[str]] = {
    yaml.MappingNode: {CORE + "map"},
    yaml.SequenceNode: {CORE + "seq"},
    yaml.ScalarNode: {CORE + kind for kind in ("null", "bool", "int", "float", "str")},
}


def read(path: Path, ledger: Ledger) -> Node:
    """The file as nodes; `{}` when it is empty or no readable YAML mapping, and the ledger then says why."""
    file = str(path)
    try:
        return parse(read_bytes(path, MAX_BYTES).decode("utf-8-sig"), file, ledger)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        said = f"byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ledger.problems.append(Problem(file, line, "", said))
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        ledger.problems.append(Problem(file, 0, "", f"cannot be read: {said}"))
    return Node({}, file)


def parse(text: str, file: str, ledger: Ledger) -> Node:
    """YAML text as nodes; the top level must be a mapping. Whatever is wrong lands in the ledger."""
    try:
        root = _composed(text, file)
        node = Node({}, file, 1) if root is None else _Converter(file, ledger).node(root, root.start_mark.line + 1, 0)
    except ConfigError as error:
        ledger.problems += error.problems
        return Node({}, file)
    if isinstance(node.value, dict):
        return node
    if node.value is not None:
        ledger.wrong(node, "", "expected keys like `checks:` at the top level")
    return Node({}, file, node.line)


def _composed(text: str, file: str) -> yaml.Node | None:
    try:
        root: yaml.Node | None = yaml.load(text, Loader=_Composer)  # noqa: S506  # it builds nodes and calls no constructor
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        said = f"the character {error.character:#x} is not allowed here"
        raise ConfigError([Problem(file, line, "", said)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError([Problem(file, mark.line + 1 if mark else 0, "", _yaml_message(error, text))]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML lets chr() and int() of bad escapes through
        raise ConfigError([Problem(file, 0, "", f"not YAML: {error}")]) from None
    return root


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


def _yaml_message(error: yaml.MarkedYAMLError, text: str) -> str:
    said = " ".join(part for part in (error.context, error.problem) if part)
    start = error.problem_mark.index - 1 if error.problem_mark else 0
    reference = re.compile(r"\$\{\w*\}?").match(text, max(start, 0))
    if reference:
        return f'{said}; between braces or brackets, quote it: "{reference[0]}"'
    return f"{said}; indent with spaces" if "\\t" in said or "\t" in said else said


class _Converter:
    """PyYAML's nodes to ours: aliases expanded within a budget; what is wrong is told and left out, and the rest goes on."""

    def __init__(self, file: str, ledger: Ledger) -> None:
        self.file = file
        self.ledger = ledger
        self.budget = MAX_NODES

    def node(self, node: yaml.Node, line: int, depth: int) -> Node:
        self.budget -= 1
        if depth > MAX_DEPTH:
            said = f"aliases nest deeper than {MAX_DEPTH} levels; a value cannot contain itself"
            raise ConfigError([self._problem(node, said)])
        if self.budget < 0:
            raise ConfigError([self._problem(node, f"aliases expand to more than {MAX_NODES} values")])
        known = self._tag_known(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, line, depth, broken=not known)
        if isinstance(node, yaml.SequenceNode):
            items = tuple(self.node(n, n.start_mark.line + 1, depth + 1) for n in node.value)
            return Node(items, self.file, line, broken=not known)
        value = self._scalar(node) if known else ""
        return Node("" if value is ... else value, self.file, line, broken=not known or value is ...)

    def _mapping(self, node: yaml.MappingNode, line: int, depth: int, *, broken: bool) -> Node:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            place = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value == "<<" and key.style is None:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    base = self.node(source, place, depth + 1)
                    if not isinstance(base.value, dict) and not base.broken:
                        self._wrong(value, "`<<` takes an alias of a mapping, or a list of them")
                    merged = {**base.pairs(), **merged}
                continue
            child = self.node(value, place, depth + 1)  # also below a bad key, for what else is wrong there
            if not self._is_key(key):
                broken = broken or len(node.value) == 1  # `{{ value }}`: it stands for something else
            elif key.value in own:
                self._wrong(key, f"the key {key.value!r} is given twice, first on line {own[key.value].line}")
            else:
                own[key.value] = child
        return Node({**merged, **own}, self.file, line, broken=broken)

    def _is_key(self, key: yaml.Node) -> bool:
        if not isinstance(key, yaml.ScalarNode):
            self._wrong(key, "a key must be a word, not a list or mapping (a template's `{{...}}`? Quote it)")
            return False
        return self._tag_known(key) and self._clean(key)

    def _tag_known(self, node: yaml.Node) -> bool:
        known = node.tag in TAGS[type(node)]
        if not known:  # the tag is not shown: it may be a password that begins with `!`
            self._wrong(node, "this tag is not supported; quote a text that begins with `!`")
        return known

    def _scalar(self, node: yaml.Node) -> None | bool | int | float | str | EllipsisType:
        """The scalar's value; `...` when it has none, which is told."""
        text, kind = str(node.value), node.tag.removeprefix(CORE)
        try:
            if kind == "str":
                return text if self._clean(node) else ...
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
        # the value is not shown: it may be a secret that lacks its quotes
        self._wrong(node, f"this is not a finite {kind} of at most {MAX_DIGITS} digits; quote a text")
        return ...

    def _clean(self, node: yaml.Node) -> bool:
        bad = next((c for c in node.value if c == "\0" or "\ud800" <= c <= "\udfff"), None)
        if bad is not None:
            self._wrong(node, f"the character {ord(bad):#x} is not allowed in a text")
        return bad is None

    def _wrong(self, node: yaml.Node, message: str) -> None:
        self.ledger.problems.append(self._problem(node, message))

    def _problem(self, node: yaml.Node, message: str) -> Problem:
        return Problem(self.file, node.start_mark.line + 1, "", message)
