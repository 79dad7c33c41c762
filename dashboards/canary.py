"""Does the canary itself work?"""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import note

BOARD = Board("canary", "gpu-canary: Canary", __doc__, (Row("Now", (note("Does the canary itself work?"),)),))
