"""How fast is it, against its targets and its own past?"""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import note

BOARD = Board(
    stem="benchmarks",
    title="gpu-canary: Benchmarks",
    question="How fast is it, against its targets and its own past?",
    rows=(Row("About", (note("**How fast is it, against its targets and its own past?**"),)),),
)
