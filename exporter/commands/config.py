"""Is a config file right, and what may stand in one?"""

from __future__ import annotations

import argparse
import json

from exporter import registry
from exporter.config import ConfigError, load
from exporter.config.schema import schema
from exporter.console import Console


def main(args: argparse.Namespace, console: Console) -> int:
    probes = registry.load()
    if args.action == "schema":
        console.raw(json.dumps(schema(probes.probes), indent=2) + "\n")
        return 0
    try:
        config = load(args.file, probes.probes, vars(args)["config.profile"] or "")
    except ConfigError as error:
        _refuse(args.file, error, console)
        return 2
    if args.json:
        console.json({"file": args.file, "ok": True, "checks": [check.name for check in config.checks], "problems": []})
    else:
        console.line(f"{args.file}: ok, {len(config.checks)} checks", style="ok")
    return 0


def _refuse(file: str, error: ConfigError, console: Console) -> None:
    if console.as_json:
        problems = [{"file": p.file, "line": p.line, "key": p.key, "message": p.message} for p in error.problems]
        console.json({"file": file, "ok": False, "checks": [], "problems": problems})
    else:
        console.line("\n".join(map(str, error.problems)), style="failed")
