"""What does a requirements file ask for? pip's format, read by `packaging`; what it cannot say is named, not guessed.

https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from probes.api import World

State = Literal["ok", "outdated", "missing"]
STATES: tuple[State, ...] = ("ok", "outdated", "missing")
FILES = 20  # followed at most; what exceeds it is named unreadable
INCLUDE = re.compile(r"(?:-r|--requirement)[\s=]*(.+)")
# Options that choose where packages come from, not which: nothing to check. -c only narrows what others ask for.
SETTING = re.compile(
    r"(-i|--index-url|--extra-index-url|--no-index|-f|--find-links|--pre|--prefer-binary|--trusted-host"
    r"|--no-binary|--only-binary|--require-hashes|--use-feature|-c|--constraint)([\s=].*)?$"
)

# What the sources of this project ask for (requirements.md, ENV-04). `|` separates alternatives, `# optional` says so.
PRESETS = {
    "video-app": """
        psutil>=5.8.0
        torch>=1.12.0
        GPUtil>=1.4.0  # optional
        requests>=2.25.0
        selenium>=4.0.0 | playwright>=1.20.0
        pytest-httpserver>=1.0.0
        weasyprint>=52.0
        jinja2>=3.0.0
    """
}


@dataclass(frozen=True, slots=True)
class Group:
    """One thing that is needed: any one of `choices` will do."""

    choices: tuple[Requirement, ...]
    optional: bool = False

    def state(self, installed: Mapping[str, str], markers: Mapping[str, str]) -> tuple[State, str] | None:
        """The best state among the choices, and what to say of it. None: not needed in a Python with these markers."""
        states = [_state(choice, installed) for choice in self.choices if _applies(choice, markers)]
        if not states:
            return None
        best = min((state for state, _ in states), key=STATES.index)
        return best, " or ".join(text for state, text in states if state == best)


@dataclass(slots=True)
class Requirements:
    """All that is asked for; what was not found or understood, by path and by `file:line`."""

    groups: list[Group] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def _applies(wanted: Requirement, markers: Mapping[str, str]) -> bool:
    try:
        return wanted.marker is None or wanted.marker.evaluate(dict(markers))
    except ValueError:  # it compares what cannot be compared; asking for too much is seen, too little is not
        return True


def _state(wanted: Requirement, installed: Mapping[str, str]) -> tuple[State, str]:
    version = installed.get(canonicalize_name(wanted.name))
    if version is None:
        return "missing", f"{wanted.name}{wanted.specifier}"
    try:
        allowed = wanted.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        allowed = False
    return (
        ("ok", f"{wanted.name} {version}") if allowed else ("outdated", f"{wanted.name} {version} ({wanted.specifier})")
    )


def read(world: World, path: str, preset: str = "") -> Requirements:
    """The requirements of a preset's text and of a file with all that it includes."""
    found = Requirements()
    for _, line in _lines(preset):
        text, _, note = line.partition("#")
        found.groups.append(Group(tuple(map(Requirement, text.split("|"))), optional=note.strip() == "optional"))
    waiting = [path] if path else []
    for current in waiting:  # grows while it is read
        content = world.read_text(current)
        if content is None:
            found.absent.append(current)
            continue
        for number, line in _lines(content):
            place = f"{PurePath(current).name}:{number}"
            included = _take(found, place, line)
            target = str(PurePath(current).parent / included)
            if included and target not in waiting:
                (waiting if len(waiting) < FILES else found.unreadable).append(target)
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each logical line: continued lines joined, empty ones and comment lines left out."""
    joined = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            joined += line[:-1]
            continue
        logical, joined = (joined + line).strip(), ""
        if logical and not logical.startswith("#"):
            yield number, logical
    if joined.strip():  # the file ends in a backslash
        yield len(text.splitlines()), joined.strip()


def _take(found: Requirements, place: str, line: str) -> str:
    """Note one line; returns the file it includes, "" for none. What it holds is not repeated: it may be a secret."""
    text = re.split(r"\s#|\s--(?:hash|config-settings|global-option)\b", line, maxsplit=1)[0].strip()
    if include := INCLUDE.match(text):
        if "://" not in include[1]:
            return include[1].strip("\"' ")
        found.unreadable.append(place)
    elif not SETTING.match(text):
        try:
            found.groups.append(Group((Requirement(text),)))
        except InvalidRequirement:
            found.unreadable.append(place)
    return ""
