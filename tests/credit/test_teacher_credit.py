"""Temporal credit against its definition written out in O(L²); that its mean is the gradient it claims is in test_sequence_tree."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentdistill.credit.outcome import batch_advantages
from agentdistill.credit.teacher_credit import minillm_returns, subtract_group_baseline, temporal_credit, whiten
from agentdistill.errors import AlignmentError, UsageError

TURN = np.array([-1, 0, 0, 0, -1, -1, 2, 2, 3, -1])


def bracket(cost: np.ndarray, turn: np.ndarray, gamma_token: float, gamma_turn: float) -> np.ndarray:
    """The two sums as they stand in the docstring."""
    found = np.zeros(len(turn))
    sampled = [t for t in range(len(turn)) if turn[t] >= 0]
    for i, t in enumerate(sampled):
        for j, s in enumerate(sampled[i + 1 :], start=1):
            found[t] += (gamma_token**j if turn[s] == turn[t] else gamma_turn ** (turn[s] - turn[t])) * cost[s]
    return found


def lambda_return(costs: list[float], guesses: list[float], discounts: list[float], lam: float) -> float:
    """(1−λ) Σ_{m<M} λ^{m−1} G^(m) + λ^{M−1} G^(M), each G^(m) written out."""
    found, count = 0.0, len(costs)
    for m in range(1, count + 1):
        steps = sum(d * c for d, c in zip(discounts[:m], costs[:m], strict=True)) + discounts[m - 1] * guesses[m - 1]
        found += (lam ** (m - 1) if m == count else (1 - lam) * lam ** (m - 1)) * steps
    return found


def bracket_with_values(cost, turn, values, gamma_token: float, gamma_turn: float, lam: float) -> np.ndarray:
    found = np.zeros(len(turn))
    turns = sorted({k for k in turn.tolist() if k >= 0})
    tokens = {k: [t for t in range(len(turn)) if turn[t] == k] for k in turns}
    later = {k: 0.0 if k == turns[-1] else values[tokens[k][-1]] for k in turns}
    for k in turns:
        after = [other for other in turns if other > k]
        total = lambda_return(
            [sum(cost[t] for t in tokens[other]) for other in after],
            [later[other] for other in after],
            [gamma_turn ** (other - k) for other in after],
            lam,
        )
        for i, t in enumerate(tokens[k]):
            rest = tokens[k][i + 1 :]
            guesses = [0.0 if s == tokens[k][-1] else values[s] - later[k] for s in rest]
            found[t] = total + lambda_return([cost[s] for s in rest], guesses, [gamma_token**j for j in range(1, len(rest) + 1)], lam)
    return found


def test_golden_three_tokens_in_two_turns() -> None:
    found = temporal_credit(np.zeros(4), np.array([1.0, 2.0, 99.0, 4.0]), np.array([0, 0, -1, 1]), gamma_token=0.5, gamma_turn=0.25)
    assert found.tolist() == [-(0.5 * 2 + 0.25 * 4), -0.25 * 4, 0.0, 0.0]


streams = st.lists(st.tuples(*[st.floats(-5, 5)] * 3, st.integers(0, 3), st.booleans()), min_size=0, max_size=12)
share = st.sampled_from([0.0, 0.5, 0.9, 1.0])


@settings(max_examples=400, deadline=None)
@given(streams, share, share, share)
def test_the_recursions_are_the_sums_with_and_without_values(tokens, gamma_token: float, gamma_turn: float, lam: float) -> None:
    immediate, cost, values = (np.array([each[i] for each in tokens], np.float64) for i in range(3))
    steps = np.array([each[3] % 3 for each in tokens], np.int64)
    turn = np.where([each[4] for each in tokens], np.cumsum(steps), -1) if tokens else steps
    plain = temporal_credit(immediate, cost, turn, gamma_token=gamma_token, gamma_turn=gamma_turn)
    on = turn >= 0
    assert plain == pytest.approx(np.where(on, immediate - bracket(cost, turn, gamma_token, gamma_turn), 0.0), abs=1e-9)
    found = temporal_credit(immediate, cost, turn, gamma_token=gamma_token, gamma_turn=gamma_turn, lam=lam, values=values)
    expected = bracket_with_values(cost, turn, values, gamma_token, gamma_turn, lam)
    assert found == pytest.approx(np.where(on, immediate - expected, 0.0), abs=1e-9)


def test_lambda_one_uses_no_value_and_exact_values_change_nothing_at_any_lambda() -> None:
    cost = np.array([9.0, 1.0, -2.0, 0.5, 9.0, 9.0, 1.5, -1.0, 0.25, 9.0])
    arguments = {"gamma_token": 0.9, "gamma_turn": 0.5}
    plain = temporal_credit(np.ones(10), cost, TURN, **arguments)
    unknown = np.full(10, math.nan)
    assert temporal_credit(np.ones(10), cost, TURN, **arguments, values=unknown).tolist() == plain.tolist()
    exact = bracket(cost, TURN, 0.9, 0.5)
    for lam in (0.0, 0.3, 0.9):
        assert temporal_credit(np.ones(10), cost, TURN, **arguments, lam=lam, values=exact) == pytest.approx(plain, abs=1e-12)


def test_context_takes_no_time_and_its_entries_do_not_matter() -> None:
    spread = temporal_credit(
        np.array([1.0, math.nan, 2.0, math.inf, 3.0]),
        np.array([1.0, math.nan, 2.0, math.inf, 3.0]),
        np.array([0, -1, 0, -1, 1]),
        gamma_token=0.5,
        gamma_turn=0.5,
    )
    dense = temporal_credit(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]), np.array([0, 0, 1]), gamma_token=0.5, gamma_turn=0.5)
    assert spread[[0, 2, 4]].tolist() == dense.tolist()
    assert spread[[1, 3]].tolist() == [0, 0]


def test_without_discounts_an_infinite_cost_later_on_harms_nobody() -> None:
    found = temporal_credit(np.array([1.0, 2.0, 3.0]), np.array([0.0, math.inf, math.inf]), np.array([0, 0, 1]))
    assert found.tolist() == [1, 2, 3]


def test_nothing_is_subtracted_unasked() -> None:
    found = temporal_credit(np.full(3, 5.0), np.zeros(3), np.array([0, 0, 1]), gamma_token=1.0, gamma_turn=1.0, values=np.full(3, 7.0))
    assert found.tolist() == [5, 5, 5]


def test_temporal_credit_names_mistakes() -> None:
    ones, turn = np.ones(2), np.array([0, 1])
    for arguments, kind, message in (
        ((ones, np.ones(3), turn, {}), AlignmentError, r"cost has shape \(3,\), immediate has \(2,\)"),
        ((ones, ones, np.array([1, 0]), {}), UsageError, "turn falls"),
        ((ones, ones, np.array([-2, 0]), {}), UsageError, "is negative"),
        ((ones, ones, turn, {"gamma_token": 2.0}), UsageError, "gamma_token=2 is not in"),
        ((ones, ones, turn, {"lam": 0.5}), UsageError, r"lam=0\.5 needs values"),
        ((ones, ones, turn, {"values": np.ones(3)}), AlignmentError, "values has shape"),
    ):
        *positional, named = arguments
        with pytest.raises(kind, match=message):
            temporal_credit(*positional, **named)


# --- MiniLLM, whitening, baselines ----------------------------------------------------------------------------------


def test_golden_minillm_returns() -> None:
    """Token 1 of 3: (.5 r₂ + .25 r₃)/2; token 2: .5 r₃/1; token 3: nothing follows."""
    found = minillm_returns(np.array([7.0, 2.0, -400.0]), gamma=0.5)
    assert found == pytest.approx([(0.5 * 2 - 0.25 * 100) / 2, -0.5 * 100, 0.0])
    assert minillm_returns(np.array([7.0, 2.0, -4.0]), gamma=0.5, length_normalise=False) == pytest.approx([0.0, -2.0, 0.0])
    assert minillm_returns(np.array([0.0, 500.0]), gamma=1.0, clip=None).tolist() == [500, 0]
    assert not minillm_returns(np.array([1.0, 2.0]), gamma=0.0).any()
    assert minillm_returns(np.array([]), gamma=0.9).shape == (0,)


def test_minillm_returns_are_the_temporal_credit_of_reverse_kl_per_remaining_token() -> None:
    log_ratio = np.random.default_rng(0).normal(size=6)
    credit = temporal_credit(np.zeros(6), -log_ratio, np.zeros(6, np.int64), gamma_token=0.95)
    assert minillm_returns(log_ratio, gamma=0.95, length_normalise=False) == pytest.approx(credit)
    assert minillm_returns(log_ratio, gamma=0.95) == pytest.approx(credit / [5, 4, 3, 2, 1, 1])


def test_whiten_has_mean_zero_and_deviation_one_on_the_mask_and_nothing_off_it() -> None:
    values, mask = np.array([1.0, 2.0, 99.0, 6.0]), np.array([True, True, False, True])
    found = whiten(values, mask)
    assert found[mask].mean() == pytest.approx(0, abs=1e-12)
    assert found[mask].std() == pytest.approx(1)
    assert found[2] == 0
    assert found[mask] == pytest.approx(batch_advantages([1.0, 2.0, 6.0]))
    assert whiten(np.array([math.nan, 1.0, 2.0]), np.array([False, True, True])).tolist() == [0, -1, 1]
    assert not whiten(np.array([0.1] * 3), np.ones(3, np.bool_)).any()
    assert not whiten(values, np.zeros(4, np.bool_)).any()
    with pytest.raises(AlignmentError, match="mask has shape"):
        whiten(values, np.ones(3, np.bool_))


def test_the_group_baseline_of_an_episode_is_the_mean_of_its_siblings_means() -> None:
    signals = [np.array([1.0, 3.0, 99.0]), np.array([4.0]), np.array([6.0, 6.0])]
    masks = [np.array([True, True, False]), np.array([True]), np.array([True, True])]
    found = subtract_group_baseline(signals, masks)
    assert [each.tolist() for each in found] == [[-4, -2, 0], [0], [3, 3]]


def test_an_episode_without_siblings_keeps_its_signal() -> None:
    alone = subtract_group_baseline([np.array([1.0, 2.0])], [np.array([True, False])])
    assert alone[0].tolist() == [1, 0]
    silent = subtract_group_baseline([np.array([1.0]), np.array([5.0])], [np.array([True]), np.array([False])])
    assert [each.tolist() for each in silent] == [[1], [0]]
    with pytest.raises(AlignmentError, match="1 masks for 2 signals"):
        subtract_group_baseline([np.ones(1), np.ones(1)], [np.ones(1, np.bool_)])
    with pytest.raises(AlignmentError, match="mask 0 has shape"):
        subtract_group_baseline([np.ones(1)], [np.ones(2, np.bool_)])
