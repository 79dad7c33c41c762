"""What is wrong, where, since when, and what is to be done?"""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import note

BOARD = Board("overview", "gpu-canary / Overview", __doc__, (Row("Now", (note("What is wrong, and where."),)),))
