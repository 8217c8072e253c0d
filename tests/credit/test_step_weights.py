"""Weights of turns by drift, and of episodes by perplexity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentdistill.credit.step_weights import step_weights, trajectory_weights, turn_divergence
from agentdistill.errors import AlignmentError, ConfigError, UsageError

NAN = float("nan")
distances = st.lists(st.floats(0, 20), min_size=1, max_size=8)


def by_product(divergence: list[float], delta: float, epsilon: float) -> list[float]:
    """As the paper writes it."""
    weights = [1.0]
    for turn in range(1, len(divergence)):
        product = np.prod([(divergence[u] + epsilon) / (divergence[u + 1] + epsilon) for u in range(turn)])
        weights.append(min(float(product), 1 + delta))
    return weights


@given(distances, st.floats(0, 2), st.floats(1e-6, 1e-2))
def test_the_product_of_ratios_telescopes(divergence, delta, epsilon):
    assert step_weights(divergence, delta, epsilon) == pytest.approx(by_product(divergence, delta, epsilon), rel=1e-9)


def test_weights_fall_as_the_student_drifts_and_rise_no_further_than_their_cap():
    assert step_weights([0.2, 0.4, 0.1, 0.2, 0.19], epsilon=1e-12) == pytest.approx([1, 0.5, 1.2, 1, 0.2 / 0.19])
    assert step_weights([0.0, 0.0, 1.0]) == pytest.approx([1, 1, 1e-6], rel=1e-5)
    assert step_weights([]).tolist() == []


@given(distances)
def test_the_turns_between_do_not_matter(divergence):
    whole = step_weights([0.3, *divergence, 0.5])
    assert whole[-1] == step_weights([0.3, 0.5])[-1]


def test_a_turn_without_tokens_has_no_weight_and_is_no_first():
    assert step_weights([NAN, 0.2, NAN, 0.4], epsilon=1e-12) == pytest.approx([0, 1, 0, 0.5])
    assert step_weights([NAN]).tolist() == [0]


def test_the_divergence_of_a_turn_is_the_mean_size_of_its_gaps_within_the_mask():
    gap = [9.0, -1.0, 3.0, NAN, 0.5, NAN, 7.0]
    index = [-1, 0, 0, 0, 1, 2, 1]
    mask = [False, True, True, False, True, False, False]
    assert turn_divergence(gap, index, mask, 3) == pytest.approx([2, 0.5, NAN], nan_ok=True)
    assert np.isnan(turn_divergence([], [], [], 2)).all()


def test_perplexity_weighs_either_way_and_the_group_keeps_its_size():
    logprobs = np.log([0.5, 0.25])
    assert trajectory_weights(logprobs, prefer="uncertain") == pytest.approx([2 / 3, 4 / 3])
    assert trajectory_weights(logprobs, prefer="certain") == pytest.approx([4 / 3, 2 / 3])
    assert trajectory_weights(logprobs, prefer="certain", temperature=0.5) == pytest.approx([1.6, 0.4])
    assert trajectory_weights([-3.0], prefer="certain").tolist() == [1]
    assert trajectory_weights([], prefer="certain").tolist() == []


@given(st.lists(st.floats(-1e4, 0), min_size=1, max_size=6), st.sampled_from(["certain", "uncertain"]))
def test_weights_of_episodes_have_mean_one_and_none_overflows(logprobs, prefer):
    weights = trajectory_weights(logprobs, prefer=prefer)
    assert np.isfinite(weights).all()
    assert weights.mean() == pytest.approx(1)
    assert trajectory_weights([each - 5 for each in logprobs], prefer=prefer) == pytest.approx(weights)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: turn_divergence([1.0], [0, 0], [True], 1), AlignmentError, "same tokens"),
        (lambda: turn_divergence([1.0], [-1], [True], 1), AlignmentError, "turns -1 to -1, but there are 1"),
        (lambda: turn_divergence([1.0], [1], [True], 1), AlignmentError, "turns 1 to 1"),
        (lambda: turn_divergence([NAN], [0], [True], 1), UsageError, "no teacher reviewed"),
        (lambda: step_weights([1.0], delta=-1), ConfigError, "at least 0"),
        (lambda: step_weights([1.0], epsilon=0), ConfigError, "above 0"),
        (lambda: step_weights([-1.0]), UsageError, "at least 0"),
        (lambda: step_weights([float("inf")]), UsageError, "finite"),
        (lambda: trajectory_weights([0.0], prefer="sure"), ConfigError, "available: certain, uncertain"),
        (lambda: trajectory_weights([0.0], prefer="certain", temperature=0), ConfigError, "above 0"),
        (lambda: trajectory_weights([NAN], prefer="certain"), UsageError, "nobody scored"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
