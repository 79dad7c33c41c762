"""Which words do the commands take that are about benchmarks? A part of `cli.py`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

Command = Callable[[str, str], argparse.ArgumentParser]  # adds a command of that name that does that


def benchmark_commands(command: Command) -> None:
    """bench, baseline, test-performance and expected."""
    _of_bench(command("bench", "run benchmarks now, beside expected values and the past"))
    _of_baseline(command("baseline", "tell what is normal for the benchmarks here"))
    _of_test_performance(command("test-performance", "time your own video generation against its targets"))
    expected = command("expected", "tell what cards like this machine's reach")
    expected.add_argument("--card", metavar="MODEL", help="of this card instead; `--card all` lists every one")


def _of_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("name", nargs="*", metavar="NAME", help="a benchmark's check or probe; default: all there are")
    bench.add_argument("--device", metavar="DEVICE", help="auto, cpu, cuda, or one card: cuda:1; default: the check's")
    bench.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each; their median is the value")
    compared = (
        "hold it against a file that --json wrote, or against the newest runs in history; a loss of a tenth is exit 1"
    )
    bench.add_argument("--compare", metavar="FILE|last", help=compared)
    bench.add_argument("--record", action="store_true", help="add the results to history")


def _of_test_performance(timed: argparse.ArgumentParser) -> None:
    sizes = ("720p", "1080p")
    timed.add_argument("--resolution", choices=sizes, default="720p", metavar="SIZE", help="720p, 1080p; default: 720p")
    timed.add_argument("--benchmark", action="store_true", help="three runs, each of which must meet the targets")
    timed.add_argument("--repeat", type=int, metavar="N", help="so many runs instead")
    timed.add_argument("--record", action="store_true", help="add the results to history")


def _of_baseline(baseline: argparse.ArgumentParser) -> None:
    actions = ("show", "diff", "update")
    does = "show: median and spread; diff: what it was under the conditions before; update: accept the newest runs"
    baseline.add_argument("action", choices=actions, metavar="|".join(actions), help=does)
    baseline.add_argument("name", nargs="*", metavar="NAME", help="a benchmark; default: all (not of update)")
    baseline.add_argument(
        "--runs", type=int, default=8, metavar="N", help="of update: so many are accepted; default: 8"
    )
    baseline.add_argument("--why", metavar="TEXT", help="of update: what was changed")
