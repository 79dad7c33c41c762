"""Does the code use the words of the house, and does everything that belongs to a probe carry its name?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes import BUILTIN

ROOT = Path(__file__).parent.parent
MODULES = sorted(p for top in ("exporter", "probes", "dashboards") for p in (ROOT / top).rglob("*.py"))

# DESIGN.md section 2 has a word for each of these: check, run, finding, target, and a noun of its own for the rest.
SYNONYMS = {"job", "jobs", "task", "tasks", "monitor", "threshold", "alarm", "manager", "helper", "helpers", "utils"}
# Methods of APScheduler's that we override, rich's word for a bar of progress, and Prometheus's label.
OF_LIBRARIES = {
    "exporter/triggers.py": {"job"},
    "exporter/console.py": {"task"},
    "dashboards/board.py": {"job"},
    "dashboards/hardware.py": {"job"},
}


def named(path: Path) -> Iterator[str]:
    """Every name that a module gives to something."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def words(name: str) -> set[str]:
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_are_made_of_the_words_of_the_house(path: Path) -> None:
    banned = SYNONYMS - OF_LIBRARIES.get(path.relative_to(ROOT).as_posix(), set())
    assert sorted(name for name in named(path) if words(name) & banned) == []


def test_everything_that_belongs_to_a_probe_carries_its_name() -> None:
    listed = {(family, stem) for family, stems in BUILTIN.items() for stem in stems}
    examples = {(p.parent.parent.name, p.stem) for p in (ROOT / "probes").glob("*/examples/*.json")}
    workers = {p.stem for p in (ROOT / "probes" / "workers").glob("*.py")} - {"kit"}
    sections = re.findall(r"^### (\w+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert examples <= listed
    assert workers <= {stem for _, stem in listed}
    assert sections == [stem for stems in BUILTIN.values() for stem in stems]
