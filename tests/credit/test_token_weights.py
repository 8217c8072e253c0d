"""Weights of tokens: exact counts, exact formulas, and nothing read outside the mask."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agentdistill.credit.token_weights import (
    entropy_top,
    floor_mask,
    floor_value,
    iw,
    last_token,
    position,
    special_tokens,
    teachability,
    tip,
)
from agentdistill.errors import AlignmentError, ConfigError, UsageError

NAN = float("nan")
MASKED = [False, True, True, False, True, True, True, False]
masks = arrays(np.bool_, 12)
streams = arrays(np.float64, 12, elements=st.floats(-20, 20))
shares = st.floats(0.01, 1)


def along(values: list[float]) -> np.ndarray:
    """A stream that has ``values`` within MASKED and NaN elsewhere."""
    stream = np.full(len(MASKED), NAN)
    stream[MASKED] = values
    return stream


def within(weights: np.ndarray) -> list[float]:
    assert (weights[~np.array(MASKED)] == 0).all()
    return weights[MASKED].tolist()


def test_the_highest_entropies_are_kept():
    assert within(entropy_top(along([0.1, 0.9, 0.5, 0.7, 0.2]), MASKED, 0.4)) == [0, 1, 0, 1, 0]


def test_of_equal_entropies_the_earlier_so_that_the_count_is_exact():
    assert within(entropy_top(along([0.5] * 5), MASKED, 0.6)) == [1, 1, 1, 0, 0]


@given(streams, masks, shares)
def test_the_top_share_is_rounded_up_whatever_the_ties(entropy, mask, share):
    weights = entropy_top(np.round(entropy), mask, share)
    assert weights.sum() == math.ceil(share * mask.sum() - 1e-9)
    kept, left = np.round(entropy)[weights == 1], np.round(entropy)[mask & (weights == 0)]
    assert not len(kept) or not len(left) or kept.min() >= left.max()


def test_seven_hundredths_of_a_hundred_are_seven():
    """As floats, .07 · 100 is a hair above 7, which rounded up would be eight."""
    assert 0.07 * 100 > 7
    assert entropy_top(np.arange(100.0), np.ones(100), 0.07).sum() == 7


def test_tip_keeps_the_unsure_and_the_sure_but_wrong():
    entropy, divergence = along([0.9, 0.1, 0.2, 0.3, 0.0]), along([0.0, 0.1, 5.0, 0.2, 0.3])
    assert within(tip(entropy, divergence, MASKED, 0.2)) == [1, 0, 1, 0, 0]
    assert within(tip(entropy, divergence, MASKED, 0.2, divergence_share=0.4)) == [1, 0, 1, 0, 1]


def test_teachability_is_the_mass_itself_or_its_top_share():
    mass = along([0.9, 0.1, 1.0 + 1e-9, 0.5, 0.0])
    assert within(teachability(mass, MASKED)) == [0.9, 0.1, 1.0, 0.5, 0.0]
    assert within(teachability(mass, MASKED, share=0.2)) == [0, 0, 1, 0, 0]


def test_position_counts_masked_tokens_only():
    assert within(position(MASKED)) == [1, 0.75, 0.5, 0.25, 0]
    assert within(position(MASKED, end=0.5)) == [1, 0.875, 0.75, 0.625, 0.5]
    assert within(position(MASKED, end=3)) == [1, 1.5, 2, 2.5, 3]
    assert within(position(MASKED, "exponential", half_life=2)) == pytest.approx([1, 2**-0.5, 0.5, 2**-1.5, 0.25])
    assert position([True]).tolist() == [1]
    assert position([False]).tolist() == [0]


def test_importance_falls_by_the_share_of_the_gap_that_lies_before():
    assert within(iw(along([1.0, -2.0, 0.0, 1.0, 4.0]), MASKED)) == pytest.approx([1.5, 1.4375, 1.3125, 1.3125, 1.25])
    assert within(iw(along([0.0] * 5), MASKED)) == [1] * 5


@given(streams, masks, st.floats(1, 5))
def test_importance_starts_at_its_maximum_never_rises_and_stays_above_one(gap, mask, w_max):
    weights = iw(gap, mask, w_max)[mask]
    assert (weights >= 1 - 1e-12).all()
    assert (np.diff(weights) <= 1e-12).all()
    if np.abs(gap[mask]).sum():
        assert weights[0] == pytest.approx(w_max)


def test_gaps_below_the_floor_are_left_out_or_lifted_to_it():
    gaps = along([-3.0, -1.0, 0.5, -2.0, 0.0])
    assert within(floor_mask(gaps, MASKED, -2.0)) == [0, 1, 1, 1, 1]
    floor = math.log(0.1) / 0.9
    assert floor == pytest.approx(-2.558427881104)
    assert within(floor_value(gaps, MASKED, 0.1)) == pytest.approx([floor, -1, 0.5, -2, 0])
    assert floor_value([-np.inf], [True], 0.5) == pytest.approx([-2 * math.log(2)])


def test_special_and_last_tokens_are_silenced():
    ids = [7, 5, 6, 7, 5, 8, 9, 7]
    assert within(special_tokens(ids, MASKED, {5, 9})) == [0, 1, 0, 1, 0]
    assert within(special_tokens(ids, MASKED, [])) == [1] * 5
    assert within(last_token(MASKED)) == [1, 1, 1, 1, 0]
    assert within(last_token(MASKED, [-1, 0, 0, -1, 1, 1, 1, -1])) == [1, 0, 1, 1, 0]
    assert last_token([False, False]).tolist() == [0, 0]


@given(streams, streams, masks, shares)
def test_what_lies_outside_the_mask_is_never_read(one, other, mask, share):
    def everything(first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
        found = [
            entropy_top(first, mask, share),
            tip(first, second, mask, share),
            teachability(np.abs(first) / 20, mask),
            iw(first, mask),
            floor_mask(first, mask, -1.0),
            floor_value(first, mask, share / 2),
        ]
        assert all((weights[~mask] == 0).all() for weights in found)
        return found

    for clean, wild in zip(everything(one, other), everything(np.where(mask, one, NAN), np.where(mask, other, np.inf)), strict=True):
        assert np.array_equal(clean, wild)


@given(streams, masks, shares, st.integers(0, 11))
def test_weights_of_several_functions_multiply_and_only_silence_more(entropy, mask, share, special):
    both = entropy_top(entropy, mask, share) * special_tokens(np.arange(12), mask, [special]) * last_token(mask)
    assert set(both.tolist()) <= {0.0, 1.0}
    assert both[special] == 0


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: entropy_top([1.0], [True], 0.0), ConfigError, r"within \(0, 1\]"),
        (lambda: entropy_top([1.0], [True], 1.5), ConfigError, r"within \(0, 1\]"),
        (lambda: entropy_top([1.0, 2.0], [True]), AlignmentError, r"entropy has shape \(2,\) and the mask \(1,\)"),
        (lambda: entropy_top([[1.0]], [[True]]), AlignmentError, "one sample"),
        (lambda: entropy_top([NAN], [True]), UsageError, "entropy is not finite within the mask"),
        (lambda: tip([1.0], [NAN], [True]), UsageError, "divergence is not finite"),
        (lambda: teachability([-0.1], [True]), UsageError, "not logarithms"),
        (lambda: position([True], "cubic"), ConfigError, "available: exponential, linear"),
        (lambda: position([True], "exponential"), ConfigError, "needs half_life"),
        (lambda: position([True], "linear", half_life=3), ConfigError, "only it does"),
        (lambda: position([True], "exponential", half_life=0), ConfigError, "above 0"),
        (lambda: position([True], end=-1), ConfigError, "at least 0"),
        (lambda: iw([1.0], [True], 0.5), ConfigError, "at least 1"),
        (lambda: floor_value([1.0], [True], 1.0), ConfigError, r"within \(0, 1\)"),
        (lambda: floor_value([NAN], [True], 0.5), UsageError, "not finite"),
        (lambda: floor_value([1.0, 2.0], [True], 0.5), AlignmentError, "gap has shape"),
        (lambda: special_tokens([1], [True, False], [1]), AlignmentError, "token_ids has shape"),
        (lambda: last_token([True], [0, 0]), AlignmentError, "turn_index has shape"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
