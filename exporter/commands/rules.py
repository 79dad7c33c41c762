"""The rules, runbooks and Alertmanager files that come with gpu-canary, for a Prometheus that is there already."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from exporter import shipped
from exporter.console import Console, Mistake

GROUPS = re.compile(rb"^groups:", re.MULTILINE)  # what makes a YAML file a rule file


def main(args: argparse.Namespace, console: Console) -> int:
    files = shipped.rules()
    export(files, Path(args.folder), args.force, console)
    loaded = [Path(args.folder).absolute() / name for name, path in files.items() if _is_rules(path)]
    console.note(
        f"add to prometheus.yml `rule_files: [{', '.join(map(str, loaded))}]`, then `kill -HUP $(pidof prometheus)`; "
        "`gpu-canary status --prometheus URL` proves it"
    )
    return 0


def _is_rules(path: Path) -> bool:
    return path.suffix == ".yml" and GROUPS.search(path.read_bytes()) is not None


def export(files: Mapping[str, Path], folder: Path, force: bool, console: Console) -> None:
    """Write `files` below `folder`. Mistake when one of them is there and differs, or cannot be written."""
    if not files:
        raise Mistake(
            "this installation came without these files; `pip install --force-reinstall gpu-canary` brings them"
        )
    try:
        changed = shipped.write(files, folder, force)
    except shipped.Differs as error:
        listed = "\n".join(f"  {path}" for path in error.paths)
        raise Mistake(
            f"these files differ from ours, so nothing was written:\n{listed}\n--force replaces them, or name another folder"
        ) from None
    except OSError as error:
        raise Mistake(f"{folder}: {error.strerror} ({error.filename}); name a folder that you may write") from None
    if console.as_json:
        console.json({"folder": str(folder), "written": [str(path) for path in changed], "files": sorted(files)})
        return
    for path in changed:
        console.line(f"wrote {path}")
    if len(files) > len(changed):
        console.line(f"{len(files) - len(changed)} files were there already, and the same")
