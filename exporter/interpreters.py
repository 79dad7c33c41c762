"""Which Pythons does this machine have, and which of them hold torch? Read from files: no Python is started.

A venv's `python` is a symlink that must never be resolved: its target is another interpreter without the venv's packages.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

PreparationState = Literal["off", "preparing", "ready", "failed"]
OLDEST = (3, 9)  # what a worker's syntax needs
ENTRIES = 300  # of the home folder, and of any folder of environments: a home on a network share must not hold us up
UNFINISHED = ".gpu-canary-preparing"  # marks an environment that is still being made (exporter/machine/torch_venv.py)
WINDOWS = sys.platform == "win32"
PYTHON = "Scripts/python.exe" if WINDOWS else "bin/python"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One Python. The versions are what its files say; "" where they say nothing."""

    name: str
    path: str
    python_version: str = ""
    torch_version: str = ""


@dataclass(frozen=True, slots=True)
class Preparation:
    """A Python with torch that is being made (exporter/machine/torch_venv.py). `ratio` from 0 to 1, `detail` for people."""

    state: PreparationState = "off"
    ratio: float = 0.0
    detail: str = ""


def find(
    explicit: Mapping[str, str], *, home: Path, environ: Mapping[str, str], prepared: Path | None = None
) -> tuple[Interpreter, ...]:
    """Every usable Python: those the config names first, our own prepared environment last; each environment once."""
    seen: set[str] = set()
    found: list[Interpreter] = []
    named = [(name, Path(os.path.expanduser(path))) for name, path in explicit.items()]
    for name, python in [*named, *_candidates(home, environ), *([("prepared", prepared / PYTHON)] if prepared else [])]:
        # The folder may be resolved (two names of one environment), the file in it must not be.
        identity = os.path.join(os.path.realpath(python.parent), python.name)
        if identity in seen or (name not in explicit and not _usable(python)):
            continue
        seen.add(identity)
        unique = name if all(i.name != name for i in found) else f"{name}-{len(found)}"
        found.append(describe(unique, python, home))
    return tuple(found)


def pick(interpreters: Sequence[Interpreter], name: str) -> Interpreter | None:
    """The one of that name or path; `auto`: the newest torch (a CPU-only build last), or else the first Python."""
    if name != "auto":
        path = os.path.expanduser(name)
        known = next((i for i in interpreters if name == i.name or path == i.path), None)
        return known or (Interpreter(path, path) if os.sep in path else None)
    return max(interpreters, key=_preference, default=None)


def _preference(interpreter: Interpreter) -> tuple[bool, bool, tuple[int, ...]]:
    version = interpreter.torch_version
    release = tuple(int(n) for n in re.findall(r"\d+", version.partition("+")[0])[:3])
    return bool(version), "+cpu" not in version, release


def describe(name: str, python: Path, home: Path) -> Interpreter:
    """What the files around that Python say of it."""
    prefix = python.parent if WINDOWS and python.parent.name != "Scripts" else python.parent.parent
    settings = _settings(prefix)
    version = _version(python, prefix, settings)
    library = "python" + ".".join(version.split(".")[:2])
    folders = _site_packages(prefix, library)
    if not settings or settings.get("include-system-site-packages") == "true":
        folders += _site_packages(Path(settings["home"]).parent, library) if settings.get("home") else []
        folders.append(home / ".local" / "lib" / library / "site-packages")
    return Interpreter(name, str(python), version, next((v for v in map(_torch_version, folders) if v), ""))


def _candidates(home: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    for variable, name in (("VIRTUAL_ENV", "virtualenv"), ("CONDA_PREFIX", "conda")):
        if environ.get(variable):
            yield name, Path(environ[variable]) / PYTHON
    for app in _folders(home):
        for venv in ("venv", ".venv"):
            yield app.name.lower(), app / venv / PYTHON
    for version in _folders(Path(environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"):
        yield f"pyenv-{version.name}", version / PYTHON
    for distribution in ("miniconda3", "miniforge3", "anaconda3", "mambaforge", ".conda"):
        conda = home / distribution
        yield "conda-base", conda / ("python.exe" if WINDOWS else PYTHON)
        for env in _folders(conda / "envs"):
            yield f"conda-{env.name}", env / ("python.exe" if WINDOWS else PYTHON)
    for folder in ("/usr/local/bin", "/usr/bin"):
        yield "system", Path(folder) / "python3"


def _folders(parent: Path) -> list[Path]:
    with suppress(OSError), os.scandir(parent) as entries:
        return sorted(Path(e.path) for e in islice(entries, ENTRIES) if e.is_dir())
    return []


def _usable(python: Path) -> bool:
    """Is it there, finished, and known to be new enough?"""
    prefix = python.parent.parent
    if not os.access(python, os.X_OK) or (prefix / UNFINISHED).exists():
        return False
    version = _version(python, prefix, _settings(prefix))
    return tuple(int(number) for number in version.split(".")[:2] if number) >= OLDEST


def _settings(prefix: Path) -> dict[str, str]:
    """pyvenv.cfg, empty where this is no venv."""
    with suppress(OSError):
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace").splitlines()[:50]
        return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    return {}


def _version(python: Path, prefix: Path, settings: Mapping[str, str]) -> str:
    """`3.12.7` from pyvenv.cfg, else `3.12` from the program's own name or from the only library beside it."""
    told = re.match(r"\d+\.\d+(\.\d+)?", settings.get("version") or settings.get("version_info") or "")
    if told:
        return told[0]
    names = [python.name]
    for _ in range(2):  # python -> python3 -> python3.12, without leaving the folder
        with suppress(OSError):
            names.append(os.path.basename(os.readlink(python.with_name(names[-1]))))
    libraries = [library.name for library in prefix.glob("lib/python3.*")]
    names += libraries if len(libraries) == 1 else []
    return next((match[1] for name in names if (match := re.fullmatch(r"python(\d+\.\d+)", name))), "")


def _site_packages(prefix: Path, library: str) -> list[Path]:
    if WINDOWS:
        return [prefix / "Lib" / "site-packages"]
    places = [prefix / lib / library for lib in ("lib", "local/lib", "lib64")]
    debian = prefix / "lib" / "python3" / "dist-packages"
    return [*(place / name for place in places for name in ("site-packages", "dist-packages")), debian]


def _torch_version(folder: Path) -> str:
    for info in folder.glob("torch-*.dist-info"):
        return info.name.removeprefix("torch-").removesuffix(".dist-info")
    with suppress(OSError):  # a build from source, or conda's
        text = (folder / "torch" / "version.py").read_text(encoding="utf-8", errors="replace")[:4096]
        match = re.search(r"^__version__ = ['\"]([^'\"]{1,64})['\"]", text, re.MULTILINE)
        return match[1] if match else ""
    return ""
