"""Do the pages say what the code says? Generated ones to the letter, hand-written ones where they can be checked."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from exporter import registry
from exporter.config import load

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_generated_pages_are_what_the_code_says() -> None:
    for path, expected in runpy.run_path(str(ROOT / "docs" / "build.py"))["pages"]().items():
        assert path.read_text(encoding="utf-8") == expected, f"{path.name} lags behind; `make docs` writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_files_contributing_names_are_there() -> None:
    named = set(re.findall(r"`((?:exporter|probes|tests|docs|deploy)/[\w/.-]+\.\w+)`", text("CONTRIBUTING.md")))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == {"probes/environment/uptime.py"}  # the new one


def test_the_tests_that_other_platforms_run_are_there() -> None:
    named = re.findall(r"tests/\w+\.py", text(".github/workflows/platforms.yml"))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_yaml_of_the_readme_is_a_config(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", text("README.md"), re.DOTALL)
    shown = next(block for block in blocks if block.startswith("checks:"))
    (tmp_path / "canary.yml").write_text(shown, encoding="utf-8")
    config = load(tmp_path / "canary.yml", registry.load().probes)
    assert [check.name for check in config.checks] == ["models", "comfyui"]


def test_the_readme_starts_with_the_two_commands_and_the_scrape() -> None:
    readme = text("README.md")
    for words in ("make run", "make test", "/metrics"):
        assert words in readme


def test_every_target_that_a_page_names_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))}
    assert named <= targets


def test_the_changelog_keeps_its_style() -> None:
    lines = text("CHANGELOG.md").splitlines()
    entries = [line for line in lines if line.startswith("* ")]
    assert entries
    for line in entries:
        assert re.fullmatch(r"\* \[(CHANGE|FEATURE|ENHANCEMENT|BUGFIX|SECURITY)\] [\w, ./`-]+: .+\.", line), line
    assert re.search(r"^## \d+\.\d+\.\d+ / (unreleased|\d{4}-\d{2}-\d{2})$", text("CHANGELOG.md"), re.MULTILINE)


def test_a_decision_takes_ten_lines_at_most() -> None:
    sections = re.split(r"^## ", text("DECISIONS.md"), flags=re.MULTILINE)[1:]
    assert sections
    assert [s.partition("\n")[0] for s in sections if len(s.strip().splitlines()) > 11] == []


def test_every_dependency_has_its_reason_in_the_decisions() -> None:
    project = text("pyproject.toml").partition("dependencies = [")[2].partition("]")[0]
    names = re.findall(r'"([a-z0-9-]+)', project)
    decisions = text("DECISIONS.md")
    assert names
    assert [name for name in names if f"`{name}`" not in decisions] == []
