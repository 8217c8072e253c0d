"""Outcome advantages against their papers' formulas; groups without a difference have exactly nothing to say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentdistill.credit.outcome import batch_advantages, group_advantages, overlong_penalty
from agentdistill.errors import AlignmentError, ConfigError, UsageError

COMPARING = ("group", "group_std", "rloo", "maxrl")


def test_golden_group_of_four() -> None:
    returns = [1.0, 0.0, 0.0, 1.0, 1.0]
    centred = np.array([0.4, -0.6, -0.6, 0.4, 0.4])
    assert group_advantages(returns, "none").tolist() == returns
    assert group_advantages(returns, "group") == pytest.approx(centred)
    assert group_advantages(returns, "group_std") == pytest.approx(centred / (math.sqrt(1.2 / 4) + 1e-6))
    assert group_advantages(returns, "rloo") == pytest.approx(centred * 5 / 4)
    assert group_advantages(returns, "maxrl") == pytest.approx(centred / 0.6)


def test_rloo_compares_with_the_mean_of_the_others() -> None:
    returns = np.array([0.3, 1.7, -2.0, 0.9])
    others = [np.delete(returns, i).mean() for i in range(4)]
    assert group_advantages(returns, "rloo") == pytest.approx(returns - others, abs=1e-12)


def test_rloo_keeps_the_mean_gradient_and_group_shrinks_it_by_one_over_g() -> None:
    """Groups of three draws of one token out of two, all enumerated: E[Â₁ ∇ln q(y₁)] against ∇E[R]."""
    q, earned = np.array([0.7, 0.3]), np.array([1.0, 0.2])
    exact = q * (earned - q @ earned)
    found = {name: np.zeros(2) for name in ("rloo", "group")}
    for draws in np.ndindex(2, 2, 2):
        for name, total in found.items():
            score = np.eye(2)[draws[0]] - q
            total += np.prod(q[list(draws)]) * group_advantages(earned[list(draws)], name)[0] * score
    assert found["rloo"] == pytest.approx(exact, abs=1e-12)
    assert found["group"] == pytest.approx(exact * 2 / 3, abs=1e-12)


def test_maxrl_weighs_a_success_by_its_rarity() -> None:
    assert group_advantages([1, 0, 0, 0], "maxrl").tolist() == [3, -1, -1, -1]
    assert group_advantages([0, 0, 0], "maxrl").tolist() == [0, 0, 0]


def test_maxrl_refuses_returns_whose_mean_could_turn_the_sign_round() -> None:
    with pytest.raises(UsageError, match=r"returns of 0 or more, found -1"):
        group_advantages([-0.5, -1.0], "maxrl")


@pytest.mark.parametrize("baseline", COMPARING)
def test_flat_groups_have_exactly_zero_and_no_rounding_dust(baseline: str) -> None:
    """The trap: 0.1 three times has a mean above 0.1, and GRPO's division makes an advantage of the difference."""
    assert np.mean([0.1] * 3) != 0.1, "the case is one"
    for returns in ([0.1] * 3, [0.1 + 0.2, 0.3, 0.3], [0.7] * 6, [1e6 / 3] * 7, [0.4], [0.0, 0.0]):
        assert not group_advantages(returns, baseline).any(), returns
    assert group_advantages([], baseline).shape == (0,)


@pytest.mark.parametrize("baseline", COMPARING)
def test_a_small_difference_is_still_one(baseline: str) -> None:
    better, worse = group_advantages([1e-6, 0.0], baseline)
    assert better > 0 > worse


@settings(max_examples=500, deadline=None)
@given(st.lists(st.floats(0, 100, width=32), min_size=2, max_size=9), st.sampled_from(COMPARING))
def test_advantages_sum_to_zero_and_keep_the_order_of_returns(returns: list[float], baseline: str) -> None:
    found = group_advantages(returns, baseline)
    assert np.isfinite(found).all()
    assert abs(found.sum()) <= 1e-9 * max(1.0, np.abs(found).sum())
    order = np.argsort(returns, kind="stable")
    assert (np.diff(found[order]) >= -1e-9).all()


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'group_std'"):
        group_advantages([1.0], "groupstd")


# --- the batch ------------------------------------------------------------------------------------------------------


def test_batch_advantages_have_mean_zero_and_deviation_one_over_tokens() -> None:
    returns, counts = [1.0, 0.0, 0.25, 0.5], [3, 10, 1, 6]
    found = batch_advantages(returns, counts)
    tokens = np.repeat(found, counts)
    assert tokens.mean() == pytest.approx(0, abs=1e-12)
    assert tokens.std() == pytest.approx(1, abs=1e-12)
    every = np.repeat(np.array(returns), counts)
    assert tokens == pytest.approx((every - every.mean()) / every.std())
    alone = batch_advantages(returns)
    assert (alone.mean(), alone.std()) == pytest.approx((0, 1), abs=1e-12)
    assert alone != pytest.approx(found)


def test_a_flat_batch_has_exactly_zero_whatever_episodes_without_tokens_earned() -> None:
    assert not batch_advantages([0.1 + 0.2, 0.3, 0.3]).any()
    assert not batch_advantages([0.3, 9.0, 0.3], [4, 0, 2]).any()
    assert not batch_advantages([1.0, 0.0], [0, 0]).any()
    assert batch_advantages([]).shape == (0,)


def test_batch_advantages_name_mistakes() -> None:
    with pytest.raises(AlignmentError, match=r"counts has shape \(1,\), returns has \(2,\)"):
        batch_advantages([1.0, 0.0], [3])
    with pytest.raises(UsageError, match="-1 tokens"):
        batch_advantages([1.0, 0.0], [3, -1])


def test_overlong_penalty_falls_linearly_within_the_buffer() -> None:
    """DAPO's own numbers: 16384 tokens expected, 4096 of buffer."""
    for length, expected in ((0, 0), (16384, 0), (17408, -0.25), (18432, -0.5), (20480, -1), (20481, -1), (10**6, -1)):
        assert overlong_penalty(length, limit=20480, buffer=4096) == pytest.approx(expected), length
    assert [overlong_penalty(length, limit=10, buffer=0) for length in (10, 11)] == [0, -1]
    for buffer in (-1, 11):
        with pytest.raises(UsageError, match="0 ≤ buffer ≤ limit"):
            overlong_penalty(3, limit=10, buffer=buffer)
