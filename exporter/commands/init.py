"""Which config suits this machine? Written once, commented, and from then on yours."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter import flags, registry
from exporter.console import Console, Mistake
from exporter.machine import Machine
from exporter.machine.discovery import discover
from exporter.machine.starter import starter


def main(args: argparse.Namespace, console: Console) -> int:
    probes = registry.load()
    machine = Machine(flags.places(args))
    try:
        found = machine.survey()
    finally:
        machine.close()
    config = discover(found, probes.probes)
    text = starter(config, probes.probes, found)
    if args.output == "-":
        console.raw(text)
        return 0
    _write(Path(args.output), text, args.force)
    checks = config["checks"]
    count = len(checks) if isinstance(checks, list) else 0
    if args.json:
        console.json({"file": args.output, "checks": count})
    else:
        console.line(f"{args.output}: {count} checks; now `gpu-canary serve --config.file={args.output}`")
    return 0


def _write(path: Path, text: str, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Mistake(f"{path} exists; --force replaces it, --output names another") from None
    except OSError as error:
        raise Mistake(f"{path} cannot be written: {error.strerror}; --output names another") from None
