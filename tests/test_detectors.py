"""Do the detectors see what shifted, and only that? On generated series with fixed seeds; rates as docs/verdict.md tells."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import detectors
from exporter.baseline import baseline
from exporter.detectors import correlation, fast, rank_z, shift, sure
from tests.performance.shifts import DETECTORS, KINDS, rates, stepped, table, values

NUMBER = 100
# At most so many of a hundred flat series alarm within 70 runs; at least so many steps of ten per cent are found.
ALARMS = {
    "fast": {"G1": 0.0, "G3": 0.02, "H3": 0.05, "A3": 0.10},
    "sure": {"G1": 0.0, "G3": 0.03, "H3": 0.05, "A3": 0.20},
    "verdict": {"G1": 0.0, "G3": 0.04, "H3": 0.08, "A3": 0.25},
}
FOUND = {
    "fast": {"G1": 1.0, "G3": 0.45, "H3": 0.45, "A3": 0.6},
    "sure": {"G1": 1.0, "G3": 0.97, "H3": 0.95, "A3": 0.85},
    "verdict": {"G1": 1.0, "G3": 0.97, "H3": 0.95, "A3": 0.85},
}
finite = st.floats(min_value=1e-3, max_value=1e12)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("kind", KINDS)
def test_false_alarms_and_detections_stay_within_the_bounds_that_are_told(name, kind):
    got = rates(DETECTORS[name], kind, NUMBER, steps=(0.1,))
    assert got.false_alarms <= ALARMS[name][kind]
    assert got.found[0.1] >= FOUND[name][kind]


def test_a_recorded_series_is_never_called_slower_and_a_real_step_in_it_is_found():
    """A busy machine: MAD 1.8 %, autocorrelation 0.48, and it became 4 % faster when its neighbours grew quiet."""
    recorded = json.loads((Path(__file__).parent / "recorded" / "matmul_cpu.json").read_text(encoding="utf-8"))[
        "values"
    ]
    told = [shift(recorded[:end]) for end in range(1, len(recorded) + 1)]
    assert min(told) == 0.0
    assert [round(said, 2) for said in told if said] == [0.04]
    for step, delay in ((-0.3, 3), (-0.2, 3), (-0.1, 8)):
        slower = stepped(recorded, step)
        assert next(end - 50 for end in range(51, 75) if shift(slower[:end]) < 0) == delay


def test_the_page_tells_the_rates_that_are_measured():
    page = (Path(__file__).parent.parent / "docs" / "verdict.md").read_text(encoding="utf-8")
    measured = "\n".join(table(200))
    assert measured in page, "`make bench ARGS=verdict` prints what belongs there"


def test_the_verdict_finds_a_step_of_five_per_cent_in_a_quiet_series_at_once():
    got = rates(shift, "G1", NUMBER, steps=(0.05,))
    assert (got.found[0.05], got.delay) == (1.0, 3)


def test_the_median_of_three_repeats_is_worth_more_than_any_detector():
    once, thrice = (rates(shift, "H3", NUMBER, steps=(0.05,), repeats=repeats) for repeats in (1, 3))
    assert thrice.found[0.05] > once.found[0.05] + 0.2
    assert thrice.false_alarms <= once.false_alarms + 0.02


def test_a_shift_is_told_with_its_size_and_direction():
    series = values("G1", random.Random(7))
    for step in (-0.1, 0.1):
        assert fast(stepped(series, step)[:53]) == pytest.approx(step, abs=0.02)
        assert sure(stepped(series, step)[:58]) == pytest.approx(step, abs=0.02)


def test_a_drift_of_a_quarter_per_cent_a_run_is_found():
    drifting = [value * (1 + 0.0025 * place) for place, value in enumerate(values("G1", random.Random(1)))]
    assert any(sure(drifting[:end]) > 0 for end in range(1, 41))


@pytest.mark.parametrize("detector", [fast, sure])
def test_a_spike_or_two_are_no_shift(detector):
    series = values("G1", random.Random(3))
    for place in (40, 41, 55, 68, 69):
        series[place] *= 1.5
    assert not any(detector(series[:end]) for end in range(1, len(series) + 1))


@pytest.mark.parametrize("detector", [fast, sure])
def test_less_than_two_per_cent_is_nobodys_business_however_quiet_the_series(detector):
    flat = [100.0] * 40
    assert detector(flat + [101.9] * 8) == 0.0
    assert detector(flat + [102.1] * 8) == pytest.approx(0.021)


def test_a_baseline_of_fewer_than_fifteen_runs_says_nothing():
    assert fast([1.0] * 14 + [2.0] * 3) == 0.0
    assert fast([1.0] * 15 + [2.0] * 3) == 1.0
    assert sure([1.0] * 14 + [2.0] * 8) == 0.0
    assert sure([1.0] * 15 + [2.0] * 8) == 1.0


def test_a_level_that_stays_becomes_the_new_normal():
    """Nobody is told of it for ever; the changelog of that card is its dashboard."""
    stays = values("G1", random.Random(5), 60) + [0.8 * value for value in values("G1", random.Random(6), 60)]
    told = [end - 60 for end in range(61, 121) if shift(stays[:end])]
    assert told[0] == 3
    assert 25 <= told[-1] <= 45


def test_the_rank_test_is_the_one_of_the_textbook():
    """scipy.stats.mannwhitneyu([1, 2, 2, 3, 4], [2, 5, 6], method="asymptotic", use_continuity=False): U 2.5 of 15.

    By hand: ranks of 2, 5, 6 are 3, 7, 8; U = 18 - 6 = 12; mean 7.5; one tie of three.
    """
    variance = 5 * 3 / 12 * (9 - (27 - 3) / (8 * 7))
    assert rank_z([1, 2, 2, 3, 4], [2, 5, 6]) == pytest.approx((12 - 7.5) / variance**0.5)
    assert rank_z([1, 1], [1, 1]) == 0.0
    assert pytest.approx(3.2905, abs=1e-4) == detectors.Z


def test_correlation_is_that_of_neighbours():
    assert correlation([1.0, 1.0, 1.0]) == 0.0
    assert correlation([1.0, 2.0] * 10) == 0.0  # a negative one narrows nothing
    assert correlation([float(n) for n in range(100)]) == 0.9
    noise = values("A3", random.Random(2), 5000)
    assert correlation(noise) == pytest.approx(0.5, abs=0.05)


def test_a_baseline_is_the_median_and_the_mad_of_the_newest_sixty():
    assert baseline([9.0] * 10 + [1.0, 2.0, 3.0] * 20) == (base := baseline([1.0, 2.0, 3.0] * 20))
    assert (base.median, base.mad, base.runs) == (2.0, 1.0, 60)
    with pytest.raises(statistics.StatisticsError):
        baseline([])


@given(st.lists(finite, min_size=18, max_size=80), st.integers(-20, 20))
@settings(max_examples=200, deadline=None)
def test_the_unit_of_a_metric_decides_nothing(series, power):
    scaled = [value * 2.0**power for value in series]  # exact in binary: no rounding decides a close call
    for detector in (fast, sure):
        assert detector(scaled) == detector(series)


@given(st.lists(st.integers(1, 1000), min_size=18, max_size=80))
@settings(max_examples=200, deadline=None)
def test_up_and_down_are_judged_alike(series):
    for detector, newest in ((fast, 3), (sure, 8)):
        median = baseline(series[:-newest]).median if len(series) > newest else 0.0
        mirrored = [2 * median - value for value in series]
        assert detector(mirrored) == pytest.approx(-detector(series))


@given(finite, st.integers(0, 80))
@settings(max_examples=50, deadline=None)
def test_a_series_that_never_changes_never_shifts(value, number):
    assert shift([value] * number) == 0.0
