"""Draw every dashboard: `python -m dashboards.preview --prometheus URL --out DIR` (make previews)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from dashboards.preview.ask import Prometheus, Window
from dashboards.preview.page import page

FOLDER = Path(__file__).parent.parent / "json"
POINTS = 240


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dashboards.preview", description=__doc__)
    parser.add_argument("--prometheus", required=True, metavar="URL", help="which Prometheus to ask")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the HTML files go")
    parser.add_argument("--hours", type=float, default=6.0, help="how far back to look; default: 6")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="choose a variable")
    args = parser.parse_args()
    end = time.time()
    window = Window(end - args.hours * 3600, end, args.hours * 3600 / POINTS)
    given = dict(one.split("=", 1) for one in args.set)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        target = args.out / f"{path.stem}.html"
        target.write_text(page(board, Prometheus(args.prometheus.rstrip("/")), window, given), encoding="utf-8")
        sys.stdout.write(f"{target}\n")


if __name__ == "__main__":
    main()
