"""Does the code keep the shape of the house? (DESIGN.md sections 3, 7 and 11; directions of imports: pyproject.toml)"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes import BUILTIN
from tests.process import Exporter
from tests.test_cli import written

ROOT = Path(__file__).parent.parent
MODULES = sorted(p for top in ("exporter", "probes", "dashboards", "docs") for p in (ROOT / top).rglob("*.py"))
WORKERS = sorted((ROOT / "probes" / "workers").glob("*.py"))
IN_FAMILIES = sorted(p for family in BUILTIN for p in (ROOT / "probes" / family).glob("*.py"))
PROBES = [p for p in IN_FAMILIES if re.search(r"^PROBE\b", p.read_text(encoding="utf-8"), re.MULTILINE)]

BANNED_STEMS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "core", "misc"}


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, also inside functions."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_no_module_outgrows_its_limit(path: Path) -> None:
    limit = 150 if path in IN_FAMILIES or (path in WORKERS and path.stem != "kit") else 300
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= limit, f"{short(path)} has {lines} lines; if it does not fit in {limit}, it is two things"


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_no_function_is_longer_than_forty_lines(path: Path) -> None:
    functions = (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {f.name: length for f in functions if (length := (f.end_lineno or f.lineno) - f.lineno + 1) > 40}
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_module_begins_by_saying_which_question_it_answers(path: Path) -> None:
    first = (ast.get_docstring(tree(path)) or "").partition("\n")[0]
    assert re.match(r"[A-Z`].*[?.:]( |\)|$)", first), f"{short(path)} begins with {first!r}"


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_module_is_named_for_what_it_is(path: Path) -> None:
    assert not BANNED_STEMS & {*path.relative_to(ROOT).with_suffix("").parts}


def test_a_probe_is_one_file_and_one_line_and_all_three_names_are_one() -> None:
    listed = {(family, stem) for family, stems in BUILTIN.items() for stem in stems}
    assert {(p.parent.name, p.stem) for p in PROBES} == listed
    for path in PROBES:
        assert re.search(
            rf'^PROBE = Probe\(\s*(?:name=)?"{path.stem}",', path.read_text(encoding="utf-8"), re.MULTILINE
        )


def test_no_probe_imports_another() -> None:
    names = {f"probes.{p.parent.name}.{p.stem}" for p in PROBES}
    assert not {
        f"{short(p)} imports {name}" for p in MODULES if p.parts[-3] == "probes" for name in names & {*imported(p)}
    }


@pytest.mark.parametrize("path", PROBES, ids=short)
def test_the_worker_a_probe_asks_for_is_a_file(path: Path) -> None:
    asked = set(re.findall(r"(?:world\.worker|benchmark)\(\s*\"(\w+)\"", path.read_text(encoding="utf-8")))
    assert asked <= {worker.stem for worker in WORKERS}


@pytest.mark.parametrize("path", WORKERS, ids=short)
def test_a_worker_runs_in_the_pythons_of_users(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    allowed = sys.stdlib_module_names | {"torch"}
    strangers = {name for name in imported(path) if name.partition(".")[0] not in allowed}
    assert not strangers, f"{short(path)} imports {strangers}, which the user's Python may not have"


def test_the_exporter_refuses_the_probes_of_a_stranger(tmp_path: Path) -> None:
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "__init__.py").write_text("BUILTIN = {}\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import exporter"
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert str(tmp_path) in ended.stderr
    assert "pipx install gpu-canary" in ended.stderr


def test_serving_loads_neither_requests_nor_rich_nor_torch_and_curl_only_to_ask_a_service(tmp_path: Path) -> None:
    config = written(tmp_path, "checks: [{probe: disk}]")
    imports = {"PYTHONPROFILEIMPORTTIME": "1"}  # Python tells each import on stderr
    exporter = Exporter(tmp_path, "--config.file", config, env=imports)
    try:
        exporter.until(lambda found: any(name == "gpucanary_check_outcome" for name, _ in found))
        loaded = {
            line.rpartition("|")[2].strip().partition(".")[0] for line in exporter.log().splitlines() if "|" in line
        }
    finally:
        exporter.end()
    assert {"psutil", "uvicorn", "exporter"} <= loaded
    assert not {"requests", "rich", "torch", "pycurl"} & loaded
