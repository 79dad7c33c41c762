"""Is this machine set up right?"""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import note

BOARD = Board(
    stem="environment",
    title="gpu-canary: Environment",
    question="Is this machine set up right?",
    rows=(Row("About", (note("**Is this machine set up right?**"),)),),
)
