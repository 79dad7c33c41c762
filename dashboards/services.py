"""Do the services answer, and how fast?"""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import note

BOARD = Board(
    stem="services",
    title="gpu-canary: Services",
    question="Do the services answer, and how fast?",
    rows=(Row("About", (note("**Do the services answer, and how fast?**"),)),),
)
