"""Whether a row's goal is met, missed, or within the noise."""

import pytest
from benchmarks.goals import (
    MET,
    MISSED,
    NEAR,
    Above,
    AtMost,
    OfLimit,
    OfRival,
    level,
    overlap,
    paired_speedup,
    speedup,
    verdict,
)

from benchmarking.runs import series


def test_speedup_knows_which_way_is_better():
    assert speedup(series(200), series(100), True) == 2
    assert speedup(series(200), series(100), False) == 0.5


def test_a_ratio_is_that_of_the_rounds_and_not_of_the_medians():
    ours, theirs = series(100, 150, 150), series(90, 90, 140)
    assert speedup(ours, theirs, True) == 150 / 90
    assert paired_speedup(ours, theirs, True) == 100 / 90
    assert paired_speedup(ours, theirs, False) == 0.9


def test_runs_overlap_when_one_reaches_into_the_other():
    assert overlap(series(1, 3), series(2, 4))
    assert overlap(series(1, 9), series(4, 5))
    assert not overlap(series(1, 2), series(3, 4))


def test_two_are_level_if_each_is_ahead_in_some_round():
    assert level(series(1, 3), series(2, 2), True)
    assert not level(series(2, 20), series(1, 10), True)
    assert level(series(1, 3), series(2, 2), False)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [(series(109, 110, 111), MET), (series(100, 105, 111), NEAR), (series(99, 100, 101), MISSED)],
)
def test_a_ratio_to_the_best_rival(ours, expected):
    assert verdict(OfRival(1.1), ours, series(100, 100, 100), None, True) == expected


@pytest.mark.parametrize(
    ("ours", "expected"),
    [(series(4.9, 5, 5.1), MET), (series(4.9, 5.2, 5.5), NEAR), (series(6, 7, 8), MISSED)],
)
def test_a_ratio_where_less_is_better(ours, expected):
    assert verdict(OfRival(2), ours, series(10, 10, 10), None, False) == expected


def test_a_part_of_the_limit_ignores_the_rivals():
    assert verdict(OfLimit(0.95), series(96), series(1000), series(100), True) == MET
    assert verdict(OfLimit(0.95), series(90), series(10), series(100), True) == MISSED


def test_a_median_of_no_more_than():
    assert verdict(AtMost(60), series(59, 60, 90), None, None, False) == MET
    assert verdict(AtMost(60), series(59, 61, 90), None, None, False) == NEAR
    assert verdict(AtMost(60), series(61, 62), None, None, False) == MISSED


def test_a_median_of_little_more_than_that_of_another_row():
    goal, base = Above("bridge-empty", 0.5), series(0.1, 0.2, 0.3)
    assert verdict(goal, series(0.6, 0.7, 0.8), None, None, False, base) == MET
    assert verdict(goal, series(0.75, 0.8, 0.9), None, None, False, base) == NEAR
    assert verdict(goal, series(0.85, 0.9, 0.95), None, None, False, base) == MISSED


def test_nothing_to_hold_it_against():
    ours = series(1)
    assert verdict(Above("bridge-empty", 1), ours, None, None, False) is None
    assert verdict(OfRival(1), ours, None, series(1), True) is None
    assert verdict(OfLimit(1), ours, series(1), None, True) is None
    assert verdict(OfLimit(1), ours, None, series(error="no"), True) is None
    assert verdict(AtMost(1), series(error="no"), None, None, False) is None
