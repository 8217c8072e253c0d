"""Belief increments: Bayes' rule by enumeration, credits that telescope, and a form that never turns a sign."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentdistill.credit.belief import belief_advantages, belief_reshaped, beliefs, group_prior, turn_evidence
from agentdistill.errors import AlignmentError, ConfigError, UsageError

NAN = float("nan")
evidence_of_turns = st.lists(st.floats(-30, 30), max_size=8)
priors = st.floats(0.01, 0.99)


def logit(value: float) -> float:
    return math.log(value / (1 - value))


def test_with_exact_likelihoods_the_belief_is_the_posterior():
    """Two-letter words whose letters depend on success; V_k is P(success | letters so far), by enumeration, and its mean is V_0."""
    prior = 0.3
    given_success, given_failure = np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([[0.4, 0.6], [0.5, 0.5]])
    mean = np.zeros(3)
    for word in product(range(2), repeat=2):
        success = prior * np.cumprod([given_success[turn, letter] for turn, letter in enumerate(word)])
        failure = (1 - prior) * np.cumprod([given_failure[turn, letter] for turn, letter in enumerate(word)])
        delta = [math.log(given_success[turn, letter] / given_failure[turn, letter]) for turn, letter in enumerate(word)]
        values = beliefs(delta, prior)
        assert values == pytest.approx([prior, *(success / (success + failure))], abs=1e-12)
        mean += (success[-1] + failure[-1]) * values
    assert mean == pytest.approx([prior] * 3, abs=1e-12)


def test_the_recursion_is_in_log_odds():
    values = beliefs([0.5, -2.0, 1.0], 0.25)
    assert [logit(value) for value in values] == pytest.approx([logit(0.25), logit(0.25) + 0.5, logit(0.25) - 1.5, logit(0.25) - 0.5])


def test_old_evidence_decays():
    values = beliefs([1.0, 1.0, 0.0], 0.5, decay=0.5)
    assert [logit(value) for value in values] == pytest.approx([0, 1, 1.5, 0.75])


@given(evidence_of_turns, priors)
def test_taking_turns_token_by_token_ends_at_the_same_belief(evidence, prior):
    tokens = np.repeat(np.array(evidence) / 4, 4)
    assert beliefs(tokens, prior)[::4] == pytest.approx(beliefs(evidence, prior), abs=1e-9)


@given(evidence_of_turns.filter(len), priors, st.sampled_from([0.0, 0.4, 1.0]))
def test_credits_sum_to_what_was_earned_beyond_the_prior(evidence, prior, outcome):
    credits = belief_advantages(evidence, outcome, prior)
    assert len(credits) == len(evidence)
    assert credits.sum() == pytest.approx(outcome - prior, abs=1e-9)


def test_credit_goes_to_the_turn_that_settled_the_matter():
    credits = belief_advantages([0.0, 4.0, 4.0], 1.0, 0.5)
    assert credits[0] == 0
    assert credits[1] > 10 * credits[2] > 0
    values = beliefs([0.0, 4.0, 4.0], 0.5)
    assert credits == pytest.approx(np.diff(values) * 0.5 / (values[-1] - 0.5))


def test_where_belief_moved_against_the_outcome_no_sign_is_turned():
    """Dividing by V_K − V_0 < 0 would praise the turn that spoke against success and blame the one that spoke for it."""
    values = beliefs([-3.0, 1.0], 0.5)
    against, for_it = belief_advantages([-3.0, 1.0], 1.0, 0.5)
    assert against < 0 < for_it
    assert for_it - against == pytest.approx(values[2] - values[1] - (values[1] - values[0]))
    assert belief_advantages([0.0, 0.0], 0.0, 0.5) == pytest.approx([-0.25, -0.25])
    assert belief_advantages([2.0], 0.5, 0.5) == pytest.approx([0.0])
    assert belief_advantages([], 1.0, 0.5).tolist() == []


def test_beliefs_that_swing_and_come_back_are_not_blown_up():
    """The plain factor would be ten thousand times larger than the swing."""
    swing = belief_advantages([5.0, -4.9999], 1.0, 0.5)
    assert np.abs(swing).max() < 1
    assert swing.sum() == pytest.approx(0.5)


@given(evidence_of_turns, priors, st.floats(0, 1))
def test_no_credit_is_larger_than_the_largest_factor(evidence, prior, outcome):
    assert (np.abs(belief_advantages(evidence, outcome, prior)) <= 10 + 2).all()


@given(evidence_of_turns, priors, st.floats(-3, 3), st.floats(0, 1), st.floats(0, 0.99))
def test_reshaping_never_turns_the_sign_and_stays_within_its_band(evidence, prior, advantage, share, band):
    found = belief_reshaped(advantage, evidence, prior, share=share, band=band)
    assert len(found) == len(evidence)
    assert (np.sign(found) == np.sign(advantage)).all()
    assert (np.abs(found - advantage) <= share * band * abs(advantage) + 1e-12).all()


def test_reshaping_gives_more_to_turns_whose_evidence_agrees_with_the_outcome():
    for advantage in (1.0, -1.0):
        agreeing, neutral, opposing = belief_reshaped(advantage, [advantage, 0.0, -advantage], 0.5, decay=1.0)
        assert abs(agreeing) > abs(neutral) > abs(opposing)
    assert belief_reshaped(1.0, [3.0, -3.0], 0.5, decay=1.0) == pytest.approx([1.1, 0.9], rel=1e-5)


def test_evidence_of_a_turn_is_the_sum_over_its_masked_tokens():
    found = turn_evidence([NAN, 1.0, -0.5, NAN, 2.0], [-1, 0, 0, 1, 2], [False, True, True, False, True], 3)
    assert found.tolist() == [0.5, 0.0, 2.0]


def test_the_prior_is_the_groups_mean_but_never_certain():
    assert group_prior([1, 0, 0, 0]) == 0.25
    assert group_prior([1, 1], epsilon=0.1) == 0.9
    assert group_prior([0, 0], epsilon=0.1) == 0.1


@given(evidence_of_turns.map(lambda deltas: [1e4 * delta for delta in deltas]), priors)
def test_evidence_beyond_measure_saturates_and_stays_finite(evidence, prior):
    values = beliefs(evidence, prior)
    assert ((values >= 0) & (values <= 1)).all()
    assert np.isfinite(belief_advantages(evidence, 1.0, prior)).all()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: group_prior([]), UsageError, "needs returns"),
        (lambda: group_prior([2.0]), UsageError, "rescale the reward"),
        (lambda: group_prior([1.0], epsilon=0), ConfigError, "above 0"),
        (lambda: beliefs([1.0], 1.0), ConfigError, r"within \(0, 1\)"),
        (lambda: beliefs([1.0], 0.5, decay=2), ConfigError, r"within \[0, 1\]"),
        (lambda: beliefs([NAN], 0.5), UsageError, "not finite"),
        (lambda: belief_reshaped(1.0, [1.0], 0.5, band=1.0), ConfigError, "the sign could turn"),
        (lambda: turn_evidence([1.0], [0], [True, True], 1), AlignmentError, "same tokens"),
        (lambda: turn_evidence([1.0], [3], [True], 1), AlignmentError, "turns 3 to 3"),
        (lambda: turn_evidence([NAN], [0], [True], 1), UsageError, "no teacher reviewed"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
