"""What are the cards and the host doing, and are they sound?"""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import note

BOARD = Board(
    stem="hardware",
    title="gpu-canary: Hardware",
    question="What are the cards and the host doing, and are they sound?",
    rows=(Row("About", (note("**What are the cards and the host doing, and are they sound?**"),)),),
)
