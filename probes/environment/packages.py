"""Does the Python that does the work have the packages it needs, in the versions it needs?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from packaging.utils import canonicalize_name
from pydantic import BaseModel, Field

from probes.api import (
    Evidence,
    Fact,
    Metric,
    Needs,
    NotApplicable,
    Params,
    Probe,
    Rule,
    World,
    recorded,
)
from probes.environment.requirements import PRESETS, STATES, Requirements, State, read

SHOWN = 10  # names in a finding; all of them are in the evidence


class PackagesParams(Params):
    requirements: str = Field("", description="Requirements file in pip's format; its `-r` includes are followed.")
    preset: Literal["", "video-app"] = Field("", description="A built-in list instead of a file.")
    interpreter: str = Field("auto", description="Python to look into: a name of `interpreters:`, a path, or `auto`.")


class Inside(BaseModel):
    """What the worker says of that Python; ValidationError when it does not say it."""

    executable: str
    markers: dict[str, str] = Field(min_length=1)
    packages: dict[str, str]


REQUIRED = Metric("requirements", "Requirements by what the Python has: ok, missing, outdated.", ("state",))
MISSING = Rule(
    "packages-missing",
    "warning",
    "Packages that are required are not installed.",
    "1. `PYTHON -m pip install -r REQUIREMENTS` installs them (the finding names PYTHON).\n"
    "2. If they are there, the check looks into another Python: set `interpreter:` and see `gpu-canary explain packages`.",
)
OUTDATED = Rule(
    "packages-outdated",
    "warning",
    "Packages are installed in a version that the requirements do not allow.",
    "1. `PYTHON -m pip install --upgrade -r REQUIREMENTS` (the finding names PYTHON).\n"
    "2. `PYTHON -m pip check` shows who else needs another version.",
)
OPTIONAL = Rule(
    "packages-optional",
    "info",
    "Optional packages are missing or outdated.",
    "1. `PYTHON -m pip install --upgrade NAME` if you want what it brings.",
)
ABSENT = Rule(
    "packages-file-absent",
    "critical",
    "A requirements file does not exist.",
    "1. `ls -l REQUIREMENTS` shows what is there.\n2. `PYTHON -m pip freeze > REQUIREMENTS` writes what is installed now.",
)
UNREADABLE = Rule(
    "packages-line-unreadable",
    "warning",
    "Lines of the requirements cannot be checked: they name no package and version.",
    "1. `PYTHON -m pip install --dry-run -r REQUIREMENTS` says what pip makes of them.\n"
    "2. Write `name @ URL` instead of a bare URL, path or `-e`: then at least its presence is checked.",
)


def run(params: PackagesParams, world: World) -> Iterator[Fact]:
    if not (params.requirements or params.preset):
        raise NotApplicable("not_configured", "set `requirements:` to a file, or `preset:`")
    subject = params.requirements or params.preset
    wanted = read(world, params.requirements, PRESETS.get(params.preset, ""))
    for path in wanted.absent:
        yield ABSENT("no such file", subject=path)
    if wanted.unreadable:
        yield UNREADABLE(_few(wanted.unreadable), subject=subject)
    if wanted.groups or not wanted.absent:
        yield from _compare(wanted, _inside(params, world), subject)


def _inside(params: PackagesParams, world: World) -> Inside:
    data: dict[str, object] = {}
    packages: dict[str, object] = {}
    for row in world.worker("packages", {}, interpreter=params.interpreter):
        if row.kind in ("start", "data"):
            data.update(row.data)
            found = row.data.get("packages")
            packages.update(found if isinstance(found, dict) else {})
    return Inside.model_validate({**data, "packages": packages})


def _compare(wanted: Requirements, inside: Inside, subject: str) -> Iterator[Fact]:
    installed = {str(canonicalize_name(name)): version for name, version in inside.packages.items()}
    found: dict[State, list[str]] = {state: [] for state in STATES}
    optional: list[str] = []
    for group in wanted.groups:
        judged = group.state(installed, inside.markers)
        if judged:
            (optional if group.optional and judged[0] != "ok" else found[judged[0]]).append(judged[1])
    for state, texts in found.items():
        yield REQUIRED(len(texts), state=state)
    yield Evidence("packages", "\n".join(f"{state}: {text}" for state, texts in found.items() for text in texts))
    for rule, texts in ((MISSING, found["missing"]), (OUTDATED, found["outdated"]), (OPTIONAL, optional)):
        if texts:
            yield rule(f"{_few(texts)} in {inside.executable}", subject=subject)


def _few(texts: Sequence[str]) -> str:
    more = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {more} more" if more > 0 else "")


PROBE = Probe(
    "packages",
    PackagesParams,
    run,
    metrics=(REQUIRED,),
    rules=(MISSING, OUTDATED, OPTIONAL, ABSENT, UNREADABLE),
    every="6h",
    timeout="1m",
    needs=Needs(lane="worker"),
    examples=recorded(__file__),
)
