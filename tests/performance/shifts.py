"""How often is the verdict wrong? False alarms and detections on generated series, as docs/verdict.md tells them.

Values around 1 of four kinds: `G1` and `G3` normal with 1 and 3 %; `H3` 3 % skewed to the slow side, and 4 % of the runs
cold starts of +20 to +60 %; `A3` 3 % with a lag-1 autocorrelation of 0.5, as heat makes it. Each is reproducible.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from exporter import detectors

KINDS = ("G1", "G3", "H3", "A3")
LENGTH, STEP_AT = 70, 50  # points of a series, and where a step begins
BEFORE, YOUNG = 30, detectors.LEAST + detectors.FAST - 1  # runs before a change of conditions, and under the new ones
Detector = Callable[[Sequence[float]], float]
DETECTORS: dict[str, Detector] = {"fast": detectors.fast, "sure": detectors.sure, "verdict": detectors.shift}


@dataclass(frozen=True)
class Rates:
    """Shares of series. `delay`: points from the step to its detection, the median."""

    false_alarms: float
    found: dict[float, float]
    delay: float | None


def values(kind: str, rng: random.Random, number: int = LENGTH) -> list[float]:
    """One series without any shift."""
    made = []
    before = rng.gauss(0, 1)
    for _ in range(number):
        chance = rng.gauss(0, 1)
        before = 0.5 * before + chance * 0.75**0.5
        skewed = (rng.gammavariate(4, 1) - 4) / 2
        cold = 1 + rng.uniform(0.2, 0.6) if rng.random() < 0.04 else 1.0
        made.append(
            {
                "G1": 1 + 0.01 * chance,
                "G3": 1 + 0.03 * chance,
                "H3": (1 + 0.03 * skewed) * cold,
                "A3": 1 + 0.03 * before,
            }[kind]
        )
    return made


def rates(detector: Detector, kind: str, number: int, steps: Sequence[float] = (0.05, 0.1), repeats: int = 1) -> Rates:
    """Of `number` series, with the detector asked anew at each point. Each point is the median of `repeats` values."""
    rng = random.Random(f"{kind} {number}")
    series = [_medians(kind, rng, repeats) for _ in range(number)]
    alarms = sum(first(detector, one, 0) is not None for one in series)
    found, delays = {}, []
    for step in steps:
        seen = [first(detector, stepped(one, step), STEP_AT) for one in series]
        found[step] = sum(delay is not None for delay in seen) / number
        delays += [delay for delay in seen if delay is not None]
    return Rates(alarms / number, found, statistics.median(delays) if delays else None)


def changed(kind: str, number: int, steps: Sequence[float] = (0.05, 0.1)) -> Rates:
    """The same after a change of conditions: thirty values before it, and those after it until they stand alone.

    As exporter/comparison.py asks: the values after the change are held against those before it.
    """
    rng = random.Random(f"changed {kind} {number}")
    series = [values(kind, rng, BEFORE + YOUNG) for _ in range(number)]
    found, delays = {}, []
    for step in (0.0, *steps):
        seen = [first_after(one[:BEFORE], [value * (1 + step) for value in one[BEFORE:]], step) for one in series]
        found[step] = sum(delay is not None for delay in seen) / number
        delays += [delay for delay in seen if step and delay is not None]
    return Rates(found.pop(0.0), found, statistics.median(delays) if delays else None)


def first_after(before: Sequence[float], after: Sequence[float], step: float) -> int | None:
    """Runs after the change until it is told that values became larger (either way, where there is no step)."""
    for end in range(1, len(after) + 1):
        said = detectors.against(before, after[:end])
        if said > 0 or (said and not step):
            return end
    return None


def lasting(kind: str, number: int) -> float:
    """Of the hundred runs after a loss of 15 %, in what share is it told? What was told stays out of the baseline."""
    rng = random.Random(f"lasting {kind} {number}")
    told = 0
    for _ in range(number):
        series = [
            value * (1 - 0.15 * (place >= STEP_AT)) for place, value in enumerate(values(kind, rng, STEP_AT + 100))
        ]
        worse: set[int] = set()
        for end in range(STEP_AT + 1, len(series) + 1):
            if detectors.shift(series[:end], worse=worse) < 0:
                worse.add(end - 1)
        told += len(worse)
    return told / (100 * number)


def stepped(series: Sequence[float], step: float) -> list[float]:
    """The same with all values larger by that part from the fiftieth on."""
    return [value * (1 + step * (place >= STEP_AT)) for place, value in enumerate(series)]


def first(detector: Detector, series: Sequence[float], begin: int) -> int | None:
    """Points after `begin` until the detector says that values became larger (either way, from the start on)."""
    for end in range(begin + 1, len(series) + 1):
        said = detector(series[:end])
        if said > 0 or (said and not begin):
            return end - begin
    return None


def _medians(kind: str, rng: random.Random, repeats: int) -> list[float]:
    plain = values(kind, rng, LENGTH * repeats)
    return [statistics.median(plain[place : place + repeats]) for place in range(0, len(plain), repeats)]


def table(number: int) -> Iterator[str]:
    """The table of docs/verdict.md, in percent."""
    yield f"{'detector':28} {'false alarms':22} {'+5 % found':22} {'+10 % found':22} delay"
    yield f"{'':28} {3 * (' / '.join(KINDS) + '     ')}".rstrip()
    for name, detector, repeats in [(n, d, 1) for n, d in DETECTORS.items()] + [("verdict", detectors.shift, 3)]:
        got = [rates(detector, kind, number, repeats=repeats) for kind in KINDS]
        yield _row(f"{name}, median of {repeats} runs" if repeats > 1 else name, got)
    yield _row("after a change", [changed(kind, number) for kind in KINDS])


def _row(name: str, got: Sequence[Rates]) -> str:
    columns = [[r.false_alarms for r in got], [r.found[0.05] for r in got], [r.found[0.1] for r in got]]
    cells = " ".join(f"{' / '.join(f'{100 * share:.0f}' for share in column):22}" for column in columns)
    delays = sorted(r.delay for r in got if r.delay is not None)
    return f"{name:28} {cells} {delays[0]:g}-{delays[-1]:g}"
