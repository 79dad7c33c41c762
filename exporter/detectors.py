"""Did a series shift? Two detectors: a fast one for large shifts and a sure one for small ones. Pure, standard library.

Both take the values of comparable runs, oldest first, the newest last. They answer the size of the shift as a part of the
baseline's median (-0.1: a tenth below it), or 0.0 where there is none. How often they are wrong: docs/verdict.md.
`floor`: a shift in the metric's own unit that is too small to matter, for values that may be near zero.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Collection, Sequence

from exporter.baseline import MOST, NORMAL, Baseline, baseline

SMALLEST = 0.02  # of the median: a smaller shift is nobody's business
FAST, SPREADS = 3, 3.0  # newest values, each beyond so many spreads
SURE, ERRORS, P = 8, 3.0, 1e-3  # newest values; their median beyond so many standard errors; and the rank test
LEAST = 15  # values a baseline needs
MEDIAN_ERROR = 1.2533  # standard error of a median = 1.2533 times that of a mean
LARGEST_CORRELATION = 0.9
Z = statistics.NormalDist().inv_cdf(1 - P / 2)


def shift(values: Sequence[float], floor: float = 0.0, worse: Collection[int] = ()) -> float:
    """What either detector says of the newest values; the sure one measures better. `worse`: see `past`."""
    return sure(values, floor, worse) or fast(values, floor, worse)


def fast(values: Sequence[float], floor: float = 0.0, worse: Collection[int] = ()) -> float:
    """Are the newest three values all farther than three spreads from the median, on the same side?"""
    return _fast(past(values, FAST, worse), values[-FAST:], floor)


def sure(values: Sequence[float], floor: float = 0.0, worse: Collection[int] = ()) -> float:
    """Do the newest eight values rank apart from up to sixty before them, by more than chance and two per cent?"""
    return _sure(past(values, SURE, worse), values[-SURE:], floor)


def against(other: Sequence[float], values: Sequence[float], floor: float = 0.0) -> float:
    """What they say of values that have no past of their own yet, held against another one; never of a single value."""
    before, newest = other[-MOST:], values[-FAST:]
    said = _sure(before, values[-SURE:], floor) if len(values) >= SURE else 0.0
    return said or (_fast(before, newest, floor) if len(newest) > 1 else 0.0)


def past(values: Sequence[float], newest: int, worse: Collection[int] = ()) -> Sequence[float]:
    """What the newest values are held against: up to sixty before them.

    `worse`: places of values at which a loss was told. These and the seven before them, which may be why, are left out
    while there are enough others: what is wrong for long does not become what is normal.
    """
    before = values[: len(values) - newest]
    lost = {place - back for place in worse for back in range(SURE)}
    kept = [value for place, value in enumerate(before) if place not in lost]
    return (kept if len(kept) >= LEAST else before)[-MOST:]


def _fast(past: Sequence[float], newest: Sequence[float], floor: float) -> float:
    if len(past) < LEAST:
        return 0.0
    normal = baseline(past)
    limit = SPREADS * spread(normal, floor)
    away = [value - normal.median for value in newest]
    if min(away) > limit or max(away) < -limit:
        return _part(statistics.median(away), normal.median)
    return 0.0


def _sure(past: Sequence[float], newest: Sequence[float], floor: float) -> float:
    if len(past) < LEAST:
        return 0.0
    normal = baseline(past)
    away = statistics.median(newest) - normal.median
    r = correlation(past)
    error = MEDIAN_ERROR * NORMAL * normal.mad * math.sqrt((1 + r) / (1 - r)) / math.sqrt(SURE)
    if abs(away) <= max(SMALLEST * abs(normal.median), floor, ERRORS * error) or abs(rank_z(past, newest)) <= Z:
        return 0.0
    return _part(away, normal.median)


def spread(normal: Baseline, floor: float = 0.0) -> float:
    """The standard deviation that a MAD stands for; three are never less than two per cent of the median, or the floor."""
    return max(NORMAL * normal.mad, max(SMALLEST * abs(normal.median), floor) / SPREADS)


def correlation(values: Sequence[float]) -> float:
    """Lag-1 autocorrelation, from 0 to 0.9: what heats up or wears on makes neighbours alike."""
    mean = statistics.fmean(values)
    away = [value - mean for value in values]
    variance = math.fsum(a * a for a in away)
    if not variance:
        return 0.0
    together = math.fsum(a * b for a, b in itertools.pairwise(away))
    return min(LARGEST_CORRELATION, max(0.0, together / variance))


def rank_z(past: Sequence[float], newest: Sequence[float]) -> float:
    """The Mann-Whitney U test's normal approximation, corrected for ties; positive when the newest values are larger.

    https://en.wikipedia.org/wiki/Mann%E2%80%93Whitney_U_test#Normal_approximation_and_tie_correction
    """
    m, n = len(past), len(newest)
    pooled = sorted([*((value, False) for value in past), *((value, True) for value in newest)])
    ranks = ties = 0.0
    start = 0
    while start < m + n:
        end = start
        while end < m + n and pooled[end][0] == pooled[start][0]:
            end += 1
        equal = end - start
        ranks += (start + end + 1) / 2 * sum(is_new for _, is_new in pooled[start:end])
        ties += equal**3 - equal
        start = end
    variance = m * n / 12 * (m + n + 1 - ties / ((m + n) * (m + n - 1)))
    return (ranks - n * (n + 1) / 2 - m * n / 2) / math.sqrt(variance) if variance > 0 else 0.0


def _part(size: float, median: float) -> float:
    """A shift from a median of zero has no part; it is told as all of it."""
    return size / abs(median) if median else math.copysign(1.0, size)
