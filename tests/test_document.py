"""Does every YAML text, however hostile, become nodes or one clear error?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import conversion
from exporter.config.conversion import MAX_BYTES, dump
from exporter.config.document import ConfigError, Ledger, Node, plant

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)
HOSTILE = {
    "a duplicate key": ("a: 1\nb: 2\na: 3\n", 3, "given twice, first on line 1"),
    "a quoted duplicate": ('a: 1\n"a": 3\n', 2, "given twice"),
    "an alias bomb": (BOMB, 1, "aliases expand to more than"),
    "a value that contains itself": ("a: 1\nb: &b [*b]\n", 2, "cannot contain itself"),
    "a mapping merged into itself": ("a: &a\n  <<: *a\n", 1, "cannot contain itself"),
    "a merge of a number": ("a: {<<: 1}\n", 1, "`<<` takes an alias"),
    "an unknown alias": ("a: 1\nb: *nowhere\n", 2, "undefined alias"),
    "brackets without end": ("a: " + "[" * 50_000, 1, "levels deep"),
    "indentation without end": ("".join(f"{' ' * n}a:\n" for n in range(100)), 32, "levels deep"),
    "a list at the top": ("- a\n", 1, "expected keys like `checks:`"),
    "a word at the top": ("\nhello\n", 2, "expected keys like `checks:`"),
    "a tab": ("a:\n\tb: 1\n", 2, "indent with spaces"),
    "a NUL byte": ("a: 1\nb: \0\n", 2, "0x0 is not allowed"),
    "an escaped NUL": ('a: "x\\0y"\n', 1, "0x0 is not allowed"),
    "half a surrogate pair": ('a: "\\ud800"\n', 1, "0xd800 is not allowed"),
    "an escape beyond Unicode": ('a: "\\UFFFFFFFF"\n', 0, "not YAML"),
    "a huge integer": ("a: " + "9" * 5000, 1, "at most 20 digits"),
    "a huge version": ("%YAML 1." + "9" * 5000 + "\n---\na: 1\n", 0, "not YAML"),
    "an infinite number": ("a: .inf\n", 1, "not a finite float"),
    "a number too large to be finite": ("a: 1e999\n", 1, "not a finite float"),
    "a Python object": ("a: !!python/object/apply:os.system [id]\n", 1, "is not supported"),
    "a foreign tag": ("a: !vault x\n", 1, "is not supported"),
    "a foreign tag of a key": ("!x a: 1\n", 1, "is not supported"),
    "an escaped NUL in a key": ('"x\\0y": 1\n', 1, "0x0 is not allowed"),
    "a variable between braces": ("a: {b: ${NOPE}}\n", 1, 'between braces or brackets, quote it: "${NOPE}"'),
    "a variable between brackets": ("a:\n - [x/${NOPE}/y]\n", 2, 'between braces or brackets, quote it: "${NOPE}"'),
    "binary": ("a: !!binary aGk=\n", 1, "is not supported"),
    "a tag that does not fit": ("a: !!int x\n", 1, "not a finite int"),
    "two documents": ("a: 1\n---\nb: 2\n", 2, "another document"),
    "a list as a key": ("? [a, b]\n: c\n", 1, "a key must be a word"),
    "a template nobody filled in": ("a: {{ value }}\n", 1, "Quote it"),
    "an unclosed quote": ('a: "b\n', 2, "unexpected end of stream"),
    "too many values": ("a:\n" + "- 1\n" * 120_000, 99_999, "more than 100000 values"),
}


def parse(text: str, file: str = "") -> Node:
    return _whole(ledger := Ledger(), conversion.parse(text, file, ledger))


def read(path: Path) -> Node:
    return _whole(ledger := Ledger(), conversion.read(path, ledger))


def _whole(ledger: Ledger, node: Node) -> Node:
    if ledger.problems:
        raise ConfigError(ledger.problems)
    return node


def problem_of(text: str) -> tuple[int, str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "canary.yml")
    (problem,) = caught.value.problems
    assert problem.file == "canary.yml"
    return problem.line, problem.message


@pytest.mark.parametrize("title", HOSTILE)
def test_hostile_text_is_one_clear_error_with_its_line(title: str) -> None:
    text, line, message = HOSTILE[title]
    found, said = problem_of(text)
    assert message in said
    assert found == line


def test_what_is_wrong_hides_nothing_else_and_the_rest_is_kept() -> None:
    ledger = Ledger()
    text = (
        "a: 1\na: {b: .inf}\nc: [!x y, 5, 'z']\nd: !y {e: !!int f, g: 2}\n? [h]\n: 1e999\n"
        'i: "\\0"\n"\\0": 1\nj: {{ k }}\nl: {<<: 1, m: n}\nm: &m !z n\no: *m\n'
    )
    node = conversion.parse(text, "canary.yml", ledger)
    said = [(problem.line, problem.message.partition(";")[0]) for problem in ConfigError(ledger.problems).problems]
    number, tag = "this is not a finite {} of at most 20 digits", "this tag is not supported"
    assert said == [
        (2, "the key 'a' is given twice, first on line 1"),
        (2, number.format("float")),
        (3, tag),
        (4, number.format("int")),
        (4, tag),
        (5, "a key must be a word, not a list or mapping (a template's `{{...}}`? Quote it)"),
        (6, number.format("float")),
        (7, "the character 0x0 is not allowed in a text"),
        (8, "the character 0x0 is not allowed in a text"),
        (9, "a key must be a word, not a list or mapping (a template's `{{...}}`? Quote it)"),
        (10, "`<<` takes an alias of a mapping, or a list of them"),
        (11, tag),
    ]
    assert node.plain() == {
        "a": 1, "c": ["", 5, "z"], "d": {"e": "", "g": 2}, "i": "", "j": {}, "l": {"m": "n"}, "m": "", "o": ""
    }  # fmt: skip
    assert {key for key, child in node.pairs().items() if child.broken} == {"d", "i", "j", "m", "o"}


def test_a_value_that_may_be_an_unquoted_password_is_not_shown() -> None:
    for text in ("password: !hunter2\n", "password: 12345678901234567890123\n"):
        assert not [word for word in ("hunter2", "12345") if word in problem_of(text)[1]]


def test_words_that_yaml_1_1_turns_into_something_else_stay_texts() -> None:
    text = "a: no\nb: on\nc: 12:30\nd: 2026-01-01\ne: 0600\nf: 1_000\ng: =\n"
    assert list(parse(text).pairs()) == list("abcdefg")
    assert [n.value for n in parse(text).pairs().values()] == ["no", "on", "12:30", "2026-01-01", "0600", "1_000", "="]


def test_plain_scalars_get_their_types() -> None:
    text = "a: true\nb: ~\nc:\nd: -3\ne: 0x1F\nf: 1.5e3\ng: '1'\nh: 0o17\ni: !!str 1\n"
    assert list(parse(text).plain().values()) == [True, None, None, -3, 31, 1500.0, "1", 15, "1"]  # type: ignore[union-attr]


def test_every_value_knows_the_line_of_its_key() -> None:
    root = parse("web:\n  port:\n    1\nchecks:\n  - a\n  - b: 1\n", "f.yml")
    checks = root.get("checks")
    assert root.get("web").get("port").line == 2  # type: ignore[union-attr]
    assert checks is not None
    assert (checks.line, [item.line for item in checks.items()]) == (4, [5, 6])
    assert checks.child(1).get("b").file == "f.yml"  # type: ignore[union-attr]
    assert checks.child(2) is None
    assert checks.child("b") is None


def test_aliases_and_merge_keys_work_and_explicit_keys_win() -> None:
    text = "base: &base {every: 1m, name: a}\nmore: &more {name: b, labels: {x: 1}}\nc: {name: c, <<: [*base, *more]}\nd: *base\n"
    assert parse(text).plain() == {
        "base": {"every": "1m", "name": "a"},
        "more": {"name": "b", "labels": {"x": 1}},
        "c": {"name": "c", "every": "1m", "labels": {"x": 1}},
        "d": {"every": "1m", "name": "a"},
    }


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "{}\n"])
def test_an_empty_file_is_an_empty_mapping(text: str) -> None:
    assert parse(text).plain() == {}


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "canary.yml"
    path.write_bytes("a: 1\nb: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"canary\.yml:2: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        read(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(path).plain() == {"a": 1}


def test_what_is_no_readable_file_is_an_error_and_never_a_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large.yml").write_bytes(b"#" * (MAX_BYTES + 1))
    for name, message in {
        "absent.yml": "No such file",
        ".": "regular file",
        "fifo": "regular file",
        "/dev/zero": "regular file",
        "large.yml": "at most 1024 KiB",
        "a/\0b": "null byte",
        "x" * 300: "File name too long",
    }.items():
        with pytest.raises(ConfigError, match=message):
            read(tmp_path / name)


KEYS = st.sampled_from(["a", "no", "1", "x y", "~"])
TEXTS = st.text("aé1 ~#:$'\"{}[]\n-.!&*|>%@`", max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(-1e9, 1e9) | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["checks", "web"]), JSON))
def test_what_is_dumped_reads_back_as_the_same_data(data: dict) -> None:  # type: ignore[type-arg]
    assert parse(dump(data)).plain() == data
    assert plant(data).plain() == data


PIECES = [
    "a: ",
    "- ",
    "\n",
    "  ",
    "\t",
    "&a ",
    "*a",
    "<<: ",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "|",
    ">",
    "!!int ",
    "!x ",
    "? ",
]
PIECES += [
    "%",
    "---\n",
    "#",
    ":",
    ",",
    "0x",
    "1e",
    ".",
    "\\",
    "\\x",
    "\0",
    "\x85",
    "\u2028",
    "\ufeff",
    "\U0001f600",
    "no",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30))
def test_any_text_is_nodes_or_a_config_error(pieces: list[str]) -> None:
    try:
        node = parse("".join(pieces))
    except ConfigError:
        return
    assert isinstance(node.plain(), dict)
