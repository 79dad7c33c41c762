"""Write every dashboard's JSON: `python -m dashboards` (make dashboards)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from dashboards.board import Board
from dashboards.rest import completed, declared

STEMS = ("overview", "environment", "hardware", "benchmarks", "services", "canary")
FOLDER = Path(__file__).parent / "json"


def boards() -> list[Board]:
    """Every dashboard there is, in the order people meet them."""
    return completed((importlib.import_module(f"dashboards.{stem}").BOARD for stem in STEMS), declared())


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for board in boards():
        path = FOLDER / f"{board.uid}.json"
        path.write_text(board.json(), encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
