"""`make bench-gpu`: what does the suite reach of this card's own ceiling, and how much do ten runs differ?

Each benchmark runs ten times by `gpu-canary bench`, as a person would start it. In the same minutes `ceiling.py` looks for
the best that the library reaches in a matrix product and in a copy within the device. The page that it writes to
docs/measurements/ names card, driver and torch. Goal: 95 % of the ceiling, a spread (MAD / median) under 1 %.

    make bench-gpu                         # the first card, all benchmarks, ten runs of each
    make bench-gpu ARGS='--names matmul'   # --device cpu tries the machinery where there is no card
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.comparison import series_name
from exporter.machine import Machine
from exporter.units import human
from exporter.world.token import Token
from exporter.world.workers import Launcher

HERE = Path(__file__).parent
PAGES = HERE.parent.parent / "docs" / "measurements"
GOAL, SPREAD = 0.95, 0.01
# Which series is held against which ceiling.
CEILINGS = {("matmul", "flops_per_second"): "flops_per_second", ("memory_copy", "bytes_per_second"): "bytes_per_second"}

Ceilings = Mapping[tuple[str, str], float]  # (metric, dtype or "") -> the best


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    machine = Machine()
    try:
        if args.device == "cuda" and not machine.doors.gpus.look(Token(30.0)).gpus:
            print("no card here that the driver tells of: `--device cpu` tries the machinery; nothing was written")
            return 2
        entries = suite(args)
        best, about = ceilings(machine, args)
    finally:
        machine.close()
    text = "\n".join(page(entries, best, about, args.repeat))
    print(text)
    if not args.write:
        return 0
    name = re.sub(r"[^a-z0-9]+", "-", about.get("device_name", "processor").casefold()).strip("-")
    path = args.pages / f"{name}-{time.strftime('%Y-%m-%d')}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="utf-8")
    print(f"written: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-gpu")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--names", nargs="*", default=[], help="benchmarks; default: all")
    parser.add_argument("--config", default="", help="a config to take them from")
    parser.add_argument("--interpreter", default="auto", help="the Python with torch, for the ceiling")
    parser.add_argument("--ceiling", default="{}", help="params of ceiling.py, as JSON")
    parser.add_argument("--pages", type=Path, default=PAGES)
    parser.add_argument("--no-write", dest="write", action="store_false")
    return parser


def suite(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What `gpu-canary bench --json` says."""
    words = ["bench", *args.names, "--device", args.device, "--repeat", str(args.repeat), "--json"]
    words += ["--config.file", args.config] if args.config else []
    done = subprocess.run([sys.executable, "-m", "exporter", *words], stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.returncode or 3)
    entries: list[dict[str, Any]] = json.loads(done.stdout)
    return entries


def ceilings(machine: Machine, args: argparse.Namespace) -> tuple[Ceilings, dict[str, str]]:
    """The best of the library, by metric and dtype, and what the worker told of the device."""
    launcher = Launcher(machine.interpreters, gpus=machine.doors.gpus.look, folder=HERE)
    gpu = machine.doors.gpus.uuid_of("0") if args.device == "cuda" else ""
    params = {"device": args.device, **json.loads(args.ceiling)}
    best: dict[tuple[str, str], float] = {}
    about: dict[str, str] = {}
    for row in launcher.rows("ceiling", params, interpreter=args.interpreter, gpu=gpu, token=Token(900.0)):
        if row.kind == "fact":
            best[row.metric, row.labels.get("dtype", "")] = row.value
        elif row.kind == "start":
            about |= {key: str(value) for key, value in row.data.items()}
        elif row.kind == "end" and isinstance(conditions := row.data.get("conditions"), dict):
            about |= {key: str(value) for key, value in conditions.items()}
    return best, about


def page(entries: Sequence[Mapping[str, Any]], best: Ceilings, about: Mapping[str, str], repeat: int) -> Iterator[str]:
    """The measurements as a page of Markdown."""
    device = about.get("device_name", "processor")
    yield f"# {device}, {time.strftime('%Y-%m-%d')}"
    yield ""
    known = ("driver", "cuda", "torch", "python", "power_limit", "pcie_link", "device_memory")
    yield f"Written by `make bench-gpu`, {repeat} runs of each. " + ", ".join(
        f"{k} {about[k]}" for k in known if about.get(k)
    )
    yield ""
    yield f"Goal: {GOAL:.0%} or more of the ceiling, a spread (MAD / median) under {SPREAD:.0%}."
    yield ""
    yield "| check | series | median | ceiling | of ceiling | of expected | spread | lowest to highest |"
    yield "|---|---|---|---|---|---|---|---|"
    for entry in entries:
        if not entry["scores"]:
            last = entry["results"][-1]
            skip = last["skip"] or {"class": last["outcome"], "reason": last["detail"].partition("\n")[0]}
            yield f"| {entry['check']} | {skip['class']}: {skip['reason']} |" + " |" * 6
        for score in entry["scores"]:
            yield row(entry["probe"], score, best)


def row(probe: str, score: Mapping[str, Any], best: Ceilings) -> str:
    """One series beside its ceiling; what misses the goal is bold."""
    metric, dtype = score["metric"], score["labels"].get("dtype", "")
    top = best.get((CEILINGS.get((probe, metric), ""), dtype))
    share, spread = score["value"] / top if top else None, score["spread_ratio"]
    values = [human(metric, value) for value in (min(score["values"]), max(score["values"]))]
    cells = (
        score["check"],
        series_name(metric, score["labels"]),
        human(metric, score["value"]),
        human(metric, top) if top else "",
        _told(share, ".1%", share is not None and share < GOAL),
        _told(score["expected_ratio"], ".0%", False),
        _told(spread, ".2%", spread is not None and spread >= SPREAD),
        " to ".join(values),
    )
    return "| " + " | ".join(cells) + " |"


def _told(share: float | None, shape: str, bold: bool) -> str:
    text = "" if share is None else format(share, shape)
    return f"**{text}**" if bold else text


if __name__ == "__main__":
    sys.exit(main())
