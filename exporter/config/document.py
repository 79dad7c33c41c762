"""What does a config say, and on which line? Values that know their place, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from probes.api import Json


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
        """One more problem, unless the value is broken: its first problem says all."""
        if not node.broken:
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
