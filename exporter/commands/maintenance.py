"""Is somebody working on this machine? Then measuring goes on and the alerts are mute, until it ends by itself."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from exporter import inquiry
from exporter.console import Console, Mistake
from exporter.maintenance import Maintenance, begin, end, read
from exporter.storage import candidates
from exporter.units import duration
from probes.params import parse_duration


def main(args: argparse.Namespace, console: Console) -> int:
    folders = candidates(vars(args)["storage.path"], os.environ)
    exporter = inquiry.running(folders)
    storage = Path(exporter.storage) if exporter else folders[0]
    try:
        if args.action == "on":
            begin(storage, _length(args), args.why)
        elif args.action == "off":
            end(storage)
    except OSError as error:
        owner = "the user that runs the exporter"
        raise Mistake(
            f"{storage} cannot be written: {error.strerror}; do this as {owner}, or give --storage.path"
        ) from None
    _tell(read(storage), storage, console)
    if exporter is None:
        console.note(f"no exporter runs on {storage}; it counts for the next one there")
    return 0


def _length(args: argparse.Namespace) -> float:
    if not args.length or not args.why:
        raise Mistake("say how long and why: gpu-canary maintenance on --for 2h --why 'new driver'")
    try:
        seconds = parse_duration(args.length)
    except ValueError as error:
        raise Mistake(f"--for: {error}") from None
    if seconds <= 0:
        raise Mistake("--for: give it some time, like 30m; `gpu-canary maintenance off` ends it")
    return seconds


def _tell(now: Maintenance | None, storage: Path, console: Console) -> None:
    if console.as_json:
        told = {"until": now.until, "since": now.since, "why": now.why} if now else {}
        console.json({"on": now is not None, "storage": str(storage), **told})
    elif now is None:
        console.line("maintenance is off")
    else:
        until = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now.until))
        console.line(f"maintenance is on until {until} ({duration(now.until - time.time())} left): {now.why}")
