"""Every figure here was computed by hand, or from the formula with exact fractions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentdistill.train.stats import area, at, bootstrap, censored_median, first_reach, pass_at, t_interval, wilson


def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_play():
    for plays, right, k in ((5, 2, 1), (5, 2, 3), (8, 1, 4), (6, 6, 2), (6, 0, 6)):
        draws = list(itertools.combinations([True] * right + [False] * (plays - right), k))
        assert pass_at(plays, right, k) == pytest.approx(float(Fraction(sum(map(any, draws)), len(draws))))
    assert pass_at(10, 3, 2) == pytest.approx(1 - 21 / 45)


@pytest.mark.parametrize(("plays", "right", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_of_what_was_not_played_is_refused(plays, right, k):
    with pytest.raises(ValueError, match="not defined"):
        pass_at(plays, right, k)


def test_wilson_by_hand():
    # p = .8, n = 10, z² = 3.8415: (.8 + .19207 ± 1.96 √(.016 + .0096036)) / 1.38415
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 20) == pytest.approx((0.0, 3.841459 / 23.841459), abs=1e-6)
    assert wilson(20, 20) == pytest.approx((20 / 23.841459, 1.0), abs=1e-6)
    for right, plays in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="no proportion"):
            wilson(right, plays)


def test_the_bootstrap_over_tasks_is_near_the_normal_interval_and_repeats():
    values = [0.0] * 60 + [1.0] * 40
    low, high = bootstrap(values)
    half = 1.96 * math.sqrt(0.4 * 0.6 / 100)
    assert (low, high) == pytest.approx((0.4 - half, 0.4 + half), abs=0.015)
    assert bootstrap(values) == (low, high)
    assert bootstrap([0.25, 0.25]) == (0.25, 0.25)
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


def test_the_t_interval_by_hand():
    # mean .5, sample deviation .1, three seeds: .5 ± 4.303 * .1 / √3
    assert t_interval([0.4, 0.5, 0.6]) == pytest.approx((0.5 - 0.248434, 0.5 + 0.248434), abs=1e-5)
    assert t_interval([0.9, 1.0]) == pytest.approx((0.95 - 12.706 * 0.05, 1.0)), "cut where no rate can be"
    assert t_interval([0.7]) is None
    assert t_interval([]) is None
    many = [0.4, 0.6] * 20
    spread = math.sqrt(40 * 0.01 / 39)
    assert t_interval(many) == pytest.approx((0.5 - 1.96 * spread / math.sqrt(40), 0.5 + 1.96 * spread / math.sqrt(40)), abs=1e-5)


def test_the_target_is_reached_on_the_line_between_two_measurements():
    assert first_reach([(0, 0.1), (100, 0.3), (200, 0.7), (300, 0.2)], 0.5) == pytest.approx(150)
    assert first_reach([(0, 0.1), (100, 0.4), (300, 0.5)], 0.5) == 300
    assert first_reach([(0, 0.0), (100, 0.9), (200, 0.1), (300, 0.9)], 0.45) == pytest.approx(50), "the first time counts"
    assert first_reach([(0, 0.6), (100, 0.1)], 0.5) == 0, "it was there before training"
    assert first_reach([(0, 0.1), (100, 0.49)], 0.5) is None
    assert first_reach([], 0.5) is None


def test_medians_rank_what_was_not_reached_above_everything():
    assert censored_median([100, None, 300]) == 300
    assert censored_median([None, 200, None]) is None
    assert censored_median([100, 200, 400, None]) == 300
    assert censored_median([100, None]) is None, "the mean of a number and something larger is not known"
    assert censored_median([100, None, None, 50]) is None
    assert censored_median([7]) == 7
    with pytest.raises(ValueError, match="no median"):
        censored_median([])


@given(st.lists(st.integers(0, 1000) | st.none(), min_size=1, max_size=9))
def test_a_censored_median_is_never_below_the_one_of_what_was_reached(values):
    known = [value for value in values if value is not None]
    median = censored_median(values)
    assert median is None or median >= censored_median(known)


def test_the_area_is_the_mean_height():
    assert area([(0, 0.0), (100, 1.0)], 100) == pytest.approx(0.5)
    assert area([(0, 0.0), (100, 1.0), (120, 0.0)], 100) == pytest.approx(0.5), "what is behind the budget does not count"
    assert area([(0, 0.0), (50, 1.0)], 100) == pytest.approx(0.75), "a curve that ends stays where it is"
    assert area([(0, 0.2), (40, 0.6), (160, 0.0)], 100) == pytest.approx((40 * 0.4 + 60 * 0.45) / 100)
    assert at([(0, 0.2), (40, 0.6)], 10) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="empty"):
        area([], 100)
