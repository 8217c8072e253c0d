"""Returns against their sums written out, and against exact values of a small chain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentdistill.credit.returns import discounted, gae, turn_gae
from agentdistill.errors import AlignmentError, UsageError


def test_golden_discounted_return() -> None:
    assert discounted([1.0, 0.0, 2.0], 0.5).tolist() == [1.5, 1.0, 2.0]
    assert discounted([1.0, 0.0, 2.0], 0.0).tolist() == [1, 0, 2]
    assert discounted([], 0.9).shape == (0,)


def test_golden_gae() -> None:
    """δ = (1 + .9·2 − 1, 0 + .9·4 − 2, 3 + 0 − 4) = (1.8, 1.6, −1), γλ = .45."""
    advantages, targets = gae([1.0, 0.0, 3.0], [1.0, 2.0, 4.0], gamma=0.9, lam=0.5)
    expected = np.array([1.8 + 0.45 * 1.6 - 0.45**2, 1.6 - 0.45, -1.0])
    assert advantages == pytest.approx(expected)
    assert targets == pytest.approx(expected + np.array([1, 2, 4]))


def forward_view(rewards, values, gamma: float, lam: float, bootstrap: float) -> np.ndarray:
    """(1−λ) Σ_n λ^{n−1} (n-step return) − V, every n written out; the longest takes what weight is left."""
    length, known = len(rewards), [*values, bootstrap]
    found = np.zeros(length)
    for t in range(length):
        left = length - t
        for n in range(1, left + 1):
            steps = sum(gamma**i * rewards[t + i] for i in range(n)) + gamma**n * known[t + n]
            found[t] += (lam ** (n - 1) if n == left else (1 - lam) * lam ** (n - 1)) * steps
    return found - values


numbers = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8)
share = st.sampled_from([0.0, 0.3, 0.95, 1.0])


@settings(max_examples=200, deadline=None)
@given(numbers, share, share, st.sampled_from([0.0, 2.5]))
def test_gae_is_the_weighted_mean_of_the_n_step_returns(steps, gamma: float, lam: float, bootstrap: float) -> None:
    rewards, values = np.array(steps).T
    found, targets = gae(rewards, values, gamma=gamma, lam=lam, bootstrap=bootstrap)
    assert found == pytest.approx(forward_view(rewards, values, gamma, lam, bootstrap), abs=1e-9)
    assert targets == pytest.approx(found + values)


def test_lambda_one_is_the_return_less_the_value_and_lambda_zero_the_temporal_difference() -> None:
    rewards, values = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, -0.4])
    assert gae(rewards, values, gamma=0.9, lam=1.0)[0] == pytest.approx(discounted(rewards, 0.9) - values)
    assert gae(rewards, values, gamma=0.9, lam=0.0)[0] == pytest.approx(rewards + 0.9 * np.array([0.1, -0.4, 0]) - values)


def test_exact_values_leave_no_advantage_at_any_lambda() -> None:
    rewards = np.array([1.0, 0.0, -1.0, 2.0])
    for lam in (0.0, 0.5, 1.0):
        assert gae(rewards, discounted(rewards, 0.7), gamma=0.7, lam=lam)[0] == pytest.approx(np.zeros(4), abs=1e-12)


# --- turns ----------------------------------------------------------------------------------------------------------

TURN = np.array([-1, -1, 0, 0, 0, -1, 1, -1, -1, 2, 2])


def test_turn_gae_is_one_step_a_turn_broadcast_to_the_sampled_tokens() -> None:
    rewards, values = [0.0, 0.0, 1.0], [0.5, 0.6, 0.9]
    advantages, targets = turn_gae(rewards, values, TURN, gamma=1.0, lam=0.9, truncated=False)
    steps, expected = gae(rewards, values, gamma=1.0, lam=0.9)
    assert advantages.tolist() == [0, 0, *[steps[0]] * 3, 0, steps[1], 0, 0, steps[2], steps[2]]
    assert targets.tolist() == expected.tolist()


def test_what_the_environment_says_does_not_discount() -> None:
    """The trap: γ per token would make the first turn's share of the reward depend on how much was said in between."""
    arguments = {"gamma": 0.5, "lam": 1.0, "truncated": False}
    short, _ = turn_gae([0.0, 1.0], [0.0, 0.0], np.array([0, 1]), **arguments)
    wordy, _ = turn_gae([0.0, 1.0], [0.0, 0.0], np.array([-1, 0, 0, 0, -1, -1, -1, -1, 1]), **arguments)
    assert (short[0], wordy[1]) == (0.5, 0.5)


def test_a_truncated_episode_bootstraps_with_its_value() -> None:
    turn = np.array([0, 1])
    cut, targets = turn_gae([0.0, 0.0], [0.2, 0.4], turn, gamma=0.9, lam=1.0, truncated=True, bootstrap=0.8)
    assert cut == pytest.approx([0.81 * 0.8 - 0.2, 0.9 * 0.8 - 0.4])
    assert targets == pytest.approx([0.81 * 0.8, 0.9 * 0.8])
    over, _ = turn_gae([0.0, 0.0], [0.2, 0.4], turn, gamma=0.9, lam=1.0, truncated=False)
    assert over == pytest.approx([-0.2, -0.4])


def test_a_truncated_episode_without_a_value_is_refused_rather_than_worth_nothing() -> None:
    with pytest.raises(UsageError, match="truncated episode needs bootstrap"):
        turn_gae([0.0], [0.2], np.array([0]), gamma=1.0, lam=1.0, truncated=True)
    with pytest.raises(UsageError, match=r"bootstrap=0\.5 for an episode that is over"):
        turn_gae([0.0], [0.2], np.array([0]), gamma=1.0, lam=1.0, truncated=False, bootstrap=0.5)


def test_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match=r"gamma=1\.1 is not in"):
        discounted([1.0], 1.1)
    with pytest.raises(UsageError, match="lam=-1 is not in"):
        gae([1.0], [1.0], gamma=1.0, lam=-1.0)
    with pytest.raises(AlignmentError, match=r"values has shape \(1,\), rewards has \(2,\)"):
        gae([1.0, 2.0], [1.0], gamma=1.0, lam=1.0)
    for turn in ([0, 1], [-2, 0]):
        with pytest.raises(AlignmentError, match="there are 1 turns"):
            turn_gae([0.0], [0.0], np.array(turn), gamma=1.0, lam=1.0, truncated=False)
