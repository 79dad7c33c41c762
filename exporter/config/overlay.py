"""Which files make one config? The file, what it includes, and over it the overlay of a profile.

`--config.profile=test` lays `config.test.yml`, beside `config.yml`, over it: mappings are merged key by key, checks by their
name (an unknown name is a new check), everything else is replaced.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from exporter.config.conversion import read
from exporter.config.document import Ledger, Node, Problem
from exporter.config.secret import expanded, located
from exporter.config.validation import nearest

INCLUDABLE = ("checks", "interpreters")
MAX_INCLUDED = 200


def gathered(path: Path, profile: str, environ: Mapping[str, str], ledger: Ledger) -> Node:
    """The whole config as one mapping. Files that cannot be read leave their problem in the ledger."""
    root = _with_includes(path, environ, ledger)
    if profile:
        over = _overlay_path(path, profile, ledger)
        if over is not None:
            root = merged(root, _with_includes(over, environ, ledger))
    return root


def merged(base: Node, over: Node, key: str = "") -> Node:
    """`over` laid over `base`."""
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        values = dict(base.value)
        for name, child in over.value.items():
            values[name] = merged(values[name], child, f"{key}.{name}") if name in values else child
        return replace(base, value=values)
    if key == ".checks" and isinstance(base.value, tuple) and isinstance(over.value, tuple):
        return replace(base, value=_merged_checks(base.value, over.value))
    return over


def check_name(entry: Node) -> str:
    """The name of one entry under `checks`: its own, else its probe's; "" when it has neither."""
    name = entry.get("name") or entry.get("probe")
    return name.value if name is not None and isinstance(name.value, str) else ""


def _merged_checks(base: tuple[Node, ...], over: tuple[Node, ...]) -> tuple[Node, ...]:
    changes: dict[str, Node] = {}
    new: list[Node] = []
    names = {check_name(entry) for entry in base}
    for entry in over:
        name = check_name(entry)
        if name in names and name not in changes:
            changes[name] = entry
        else:
            new.append(entry)  # a second change of one check stays, and is refused as a duplicate name
    kept = [merged(e, changes.pop(check_name(e))) if check_name(e) in changes else e for e in base]
    return (*kept, *new)


def _with_includes(path: Path, environ: Mapping[str, str], ledger: Ledger) -> Node:
    root = expanded(read(path, ledger), environ, ledger)
    values = dict(root.pairs())
    patterns = values.pop("include", None)
    for file in _included(patterns, ledger) if patterns else ():
        for key, part in expanded(read(file, ledger), environ, ledger).pairs().items():
            if key not in INCLUDABLE:
                ledger.wrong(part, key, f"an included file holds only {' and '.join(INCLUDABLE)}; move it to {path}")
            else:
                values[key] = _joined(values.get(key), part, key, ledger)
    return replace(root, value=values)


def _included(patterns: Node, ledger: Ledger) -> list[Path]:
    found: dict[str, None] = {}
    for pattern in patterns.items():
        if not isinstance(pattern.value, str) or not pattern.value:
            ledger.wrong(pattern, "include", "expected a path or a pattern like checks.d/*.yml")
            continue
        place = located(pattern.value, pattern)
        matches = sorted(glob.glob(place))
        if not matches and not glob.has_magic(place):
            ledger.wrong(pattern, "include", f"{place} does not exist")
        found |= dict.fromkeys(matches)
    if not isinstance(patterns.value, tuple):
        ledger.wrong(patterns, "include", "expected a list of patterns, like [checks.d/*.yml]")
    if len(found) > MAX_INCLUDED:
        ledger.wrong(patterns, "include", f"{len(found)} files match; at most {MAX_INCLUDED} are read")
    return [Path(name) for name in found][:MAX_INCLUDED]


def _joined(base: Node | None, part: Node, key: str, ledger: Ledger) -> Node:
    if base is None or part.value is None:
        return base or part
    if isinstance(base.value, tuple) and isinstance(part.value, tuple):
        return replace(base, value=base.value + part.value)
    if isinstance(base.value, dict) and isinstance(part.value, dict):
        for name in base.value.keys() & part.value.keys():
            first = base.value[name]
            ledger.wrong(part.value[name], f"{key}.{name}", f"given twice, first at {first.file}:{first.line}")
        return replace(base, value={**part.value, **base.value})
    if not base.broken:
        ledger.wrong(part, key, "expected a list" if key == "checks" else "expected a mapping")
    return base


def _overlay_path(path: Path, profile: str, ledger: Ledger) -> Path | None:
    name = f"{path.stem}.{profile}{path.suffix}"
    if re.fullmatch(r"[A-Za-z0-9_-]+", profile) and path.with_name(name).is_file():
        return path.with_name(name)
    beside = (p.name for p in path.parent.glob("*") if p.suffix == path.suffix and p.name.startswith(f"{path.stem}."))
    known = sorted(n.removesuffix(path.suffix)[len(path.stem) + 1 :] for n in beside if n != path.name)
    hint = nearest(profile, known) or f"; profiles here: {', '.join(known) or 'none'}"
    ledger.problems.append(
        Problem(os.fspath(path), 0, f"profile {profile}", f"expected an overlay file {name!r} beside it{hint}")
    )
    return None
