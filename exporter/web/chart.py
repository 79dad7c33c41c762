"""Where do the lines and bars go? Geometry of the small charts; the templates draw them as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from exporter.result import Outcome, Result, Target

PITCH, BAR = 6, 4
# Trouble is told by height before colour: what is well is low, what failed towers over it.
HEIGHTS = {"ok": 8, "degraded": 14, "failed": 20, "error": 20, "skipped": 3}
STRIP_HEIGHT = 20
WIDTH, HEIGHT, MARGIN = 132.0, 34.0, 3.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One run in a strip, drawn from the top left."""

    x: int
    y: int
    height: int
    outcome: Outcome
    result: Result


def strip(runs: Sequence[Result]) -> tuple[Mark, ...]:
    """Recent runs, oldest first, as bars on one ground line."""
    return tuple(
        Mark(number * PITCH, STRIP_HEIGHT - HEIGHTS[run.outcome], HEIGHTS[run.outcome], run.outcome, run)
        for number, run in enumerate(runs)
    )


@dataclass(frozen=True, slots=True)
class Spark:
    """A line through past values: `line` for a polyline, the newest point, and a height for each bound."""

    line: str
    x: float
    y: float
    bounds: tuple[float, ...]
    low: float
    high: float


def spark(points: Sequence[tuple[float, float]], targets: Sequence[Target]) -> Spark | None:
    """Points are (Unix time, value), oldest first. None when there are too few for a line."""
    if len(points) < 2 or points[-1][0] <= points[0][0]:
        return None
    values = [value for _, value in points]
    bounds = [bound for t in targets for bound in (t.at_least, t.at_most) if bound is not None]
    low, high = min(*values, *bounds), max(*values, *bounds)
    pad = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    begin, span = points[0][0], points[-1][0] - points[0][0]

    def across(when: float) -> float:
        return round(MARGIN + (when - begin) / span * (WIDTH - 2 * MARGIN), 1)

    def down(value: float) -> float:
        share = (value - low + pad) / (high - low + 2 * pad)
        return round(HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN), 1)

    line = " ".join(f"{across(when)},{down(value)}" for when, value in points)
    last = points[-1]
    return Spark(line, across(last[0]), down(last[1]), tuple(map(down, bounds)), min(values), max(values))


def rates(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A counter's increase per second between its points; a reset begins anew."""
    pairs = pairwise(points)
    return [(then, (b - a) / (then - now)) for (now, a), (then, b) in pairs if b >= a and then > now]
