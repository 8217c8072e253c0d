"""Turn advantages: without bias where the policy decides when to stop, by enumeration of every group of episodes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentdistill.credit.outcome import group_advantages
from agentdistill.credit.turns import broadcast, mt_grpo, returns_to_go, turn_advantages
from agentdistill.errors import AlignmentError, ConfigError, UsageError

NAN = float("nan")


# --------------------------------------------------------------------------------------------------------------------
# A world of at most three turns, in which the policy stops when it likes
# --------------------------------------------------------------------------------------------------------------------

TURNS, STOP = 3, 0
LOGITS = np.array([[0.4, 0.9, -0.3], [0.8, -0.2, 0.3], [-0.5, 0.2, 0.6]])
"""[turn, action]; action 0 stops."""


def reward(history: tuple[int, ...]) -> float:
    """Of the last turn of ``history``; later turns depend on what was done before."""
    last, turn = history[-1], len(history) - 1
    return [0.1, 0.6, 0.3][last] + 0.2 * turn - 0.5 * (turn > 0 and history[0] == 2) + 0.3 * (last == STOP and turn == 1)


def policy(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits)
    return weights / weights.sum(-1, keepdims=True)


def histories(prefix: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    for action in range(3):
        history = (*prefix, action)
        if action == STOP or len(history) == TURNS:
            yield history
        else:
            yield from histories(history)


HISTORIES = list(histories())


def probability(history: tuple[int, ...], logits: np.ndarray) -> float:
    return float(np.prod([policy(logits)[turn, action] for turn, action in enumerate(history)]))


def rewards(history: tuple[int, ...]) -> np.ndarray:
    return np.array([reward(history[: turn + 1]) for turn in range(len(history))])


def score_function(history: tuple[int, ...], turn: int) -> np.ndarray:
    """∇ ln π of the turn, [turn, action]."""
    gradient = np.zeros_like(LOGITS)
    gradient[turn] = -policy(LOGITS)[turn]
    gradient[turn, history[turn]] += 1
    return gradient


PLAYED = [(rewards(history), [score_function(history, turn) for turn in range(len(history))]) for history in HISTORIES]
CHANCE = [probability(history, LOGITS) for history in HISTORIES]


def expected(estimator: Callable[[list[np.ndarray]], Sequence[np.ndarray]], size: int) -> np.ndarray:
    """Mean over all groups of ``size`` of Σ_k Â_k ∇ln π_k of each member: [member, turn, action]."""
    total = np.zeros((size, *LOGITS.shape))
    for group in product(range(len(HISTORIES)), repeat=size):
        weight = np.prod([CHANCE[index] for index in group])
        advantages = estimator([PLAYED[index][0] for index in group])
        for member, (index, row) in enumerate(zip(group, advantages, strict=True)):
            for advantage, score in zip(row, PLAYED[index][1], strict=True):
                if not np.isnan(advantage):
                    total[member] += weight * advantage * score
    return total


def second_moment(normalise: str) -> float:
    """E‖Σ_k Â_k ∇ln π_k‖² of the first of two episodes."""
    total = 0.0
    for one, other in product(range(len(HISTORIES)), repeat=2):
        row = turn_advantages([PLAYED[one][0], PLAYED[other][0]], normalise=normalise)[0]
        estimate = sum(advantage * score for advantage, score in zip(row, PLAYED[one][1], strict=True))
        total += CHANCE[one] * CHANCE[other] * np.square(estimate).sum()
    return total


def slope(function: Callable[[np.ndarray], float]) -> np.ndarray:
    """Gradient at the policy, by central differences."""
    gradient, step = np.zeros_like(LOGITS), 1e-5
    for place in np.ndindex(LOGITS.shape):
        shift = np.zeros_like(LOGITS)
        shift[place] = step
        gradient[place] = (function(LOGITS + shift) - function(LOGITS - shift)) / (2 * step)
    return gradient


def objective(logits: np.ndarray) -> float:
    return sum(probability(history, logits) * rewards(history).sum() for history in HISTORIES)


TRUTH = slope(objective)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def test_the_world_is_a_distribution_in_which_lengths_differ():
    assert sum(probability(history, LOGITS) for history in HISTORIES) == pytest.approx(1)
    assert {len(history) for history in HISTORIES} == {1, 2, 3}


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.ci)])
def test_the_group_baseline_leaves_the_gradient_what_it_is(size):
    for member in expected(turn_advantages, size):
        assert np.abs(member - TRUTH).max() < 1e-9


def test_no_baseline_has_the_same_mean_and_more_variance():
    plain = expected(lambda scores: turn_advantages(scores, normalise="none"), 1)[0]
    assert np.abs(plain - TRUTH).max() < 1e-9
    assert second_moment("group") < 0.95 * second_moment("none")


def test_normalising_by_turn_index_is_biased_towards_stopping():
    """The bias of each choice, printed under -s; that of ``group`` is none."""
    choices = {
        "none": expected(lambda scores: turn_advantages(scores, normalise="none"), 2).mean(0),
        "group": expected(turn_advantages, 2).mean(0),
        "group_std": expected(lambda scores: turn_advantages(scores, normalise="group_std"), 2).mean(0),
        "per_index": expected(lambda scores: turn_advantages(scores, normalise="per_index"), 2).mean(0),
        "per_index, means only": expected(centred_by_index, 2).mean(0),
    }
    lines = [f"{'estimator':<22} {'largest bias':>12} {'cosine':>9} {'push to stop at turn 1':>24}"]
    for name, mean in {"the gradient": TRUTH, **choices}.items():
        lines.append(f"{name:<22} {np.abs(mean - TRUTH).max():>12.6f} {cosine(mean, TRUTH):>9.6f} {mean[0, STOP]:>24.6f}")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    for name in ("per_index", "per_index, means only"):
        assert np.abs(choices[name] - TRUTH).max() > 0.1
        assert cosine(choices[name], TRUTH) < 0.95
        assert choices[name][0, STOP] > TRUTH[0, STOP] + 0.1
    assert cosine(choices["group_std"], TRUTH) > 0.99


def test_the_price_of_going_on_is_the_mean_score_of_each_turn_that_is_taken():
    """With the true means in place of the group's, the trapped form climbs E[Σ_k (r_k − mean_k)] instead of E[Σ_k r_k], exactly."""
    reached = [sum(chance for chance, (row, _) in zip(CHANCE, PLAYED, strict=True) if len(row) > turn) for turn in range(TURNS)]
    earned = [sum(chance * row[turn] for chance, (row, _) in zip(CHANCE, PLAYED, strict=True) if len(row) > turn) for turn in range(TURNS)]
    means = np.array(earned) / np.array(reached)
    trapped = expected(lambda scores: [returns_to_go(row - means[: len(row)]) for row in scores], 1)[0]
    price = slope(lambda logits: sum(probability(history, logits) * means[: len(history)].sum() for history in HISTORIES))
    assert np.abs(trapped - (TRUTH - price)).max() < 1e-9
    assert np.abs(price).max() > 0.1


def centred_by_index(scores: list[np.ndarray]) -> list[np.ndarray]:
    """The trap without its division: scores minus the mean of those that reached the turn, then summed."""
    means = [np.mean([row[turn] for row in scores if turn < len(row)]) for turn in range(max(map(len, scores)))]
    return [returns_to_go(row - means[: len(row)]) for row in scores]


def test_a_baseline_over_the_whole_group_with_itself_in_it_shrinks_the_gradient():
    """Why the mean leaves the episode out: with itself in, (1 − 1/G) of the gradient is left."""

    def with_itself(scores: list[np.ndarray]) -> list[np.ndarray]:
        return [row * (len(scores) - 1) / len(scores) for row in turn_advantages(scores)]

    assert expected(with_itself, 2)[0] == pytest.approx(TRUTH / 2, abs=1e-9)


def test_turns_that_nobody_reviewed_leave_the_others_without_bias():
    """Which turns are reviewed does not depend on what was done: here never the second one of the second episode."""

    def estimator(scores: list[np.ndarray]) -> list[np.ndarray]:
        return turn_advantages([scores[0], np.where(np.arange(len(scores[1])) == 1, NAN, scores[1])])

    first, second = expected(estimator, 2)
    assert np.abs(first - TRUTH).max() < 1e-9
    assert (second[1] == 0).all()
    assert np.abs(second[2] - TRUTH[2]).max() < 1e-9


# --------------------------------------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------------------------------------


def test_the_example_of_the_module():
    first, second, third = turn_advantages([[0.5, 0.8], [0.1, 0.4, 0.5], [0.4]])
    assert first == pytest.approx([1.3 - 0.7, 0.8 - 0.45])
    assert second == pytest.approx([1.0 - 0.85, 0.9 - 0.4, 0.5])
    assert third == pytest.approx([0.4 - 1.15])


def test_returns_to_go_discount_by_turn():
    assert returns_to_go([1.0, 0.0, 2.0], 0.5) == pytest.approx([1.5, 1.0, 2.0])
    assert returns_to_go([1.0, NAN, 2.0], 0.5) == pytest.approx([1.5, NAN, 2.0], nan_ok=True)
    assert turn_advantages([[0.2, 0.9]], normalise="none", gamma=0)[0].tolist() == [0.2, 0.9]


@pytest.mark.parametrize("normalise", ["group", "group_std"])
def test_one_turn_an_episode_is_the_outcome_advantage(normalise):
    """GRPO with the episode left out of its mean: n / (n − 1) times the centred return; the scale is the group's standard deviation."""
    returns = [1.0, 0.0, 0.25, 0.0]
    found = np.concatenate(turn_advantages([[value] for value in returns], normalise=normalise))
    assert found == pytest.approx(4 / 3 * group_advantages(returns, normalise), rel=1e-6)


@pytest.mark.parametrize("normalise", ["group", "group_std"])
def test_an_episode_with_nobody_to_compare_with_has_no_advantage(normalise):
    assert turn_advantages([[0.9, 0.8]], normalise=normalise)[0].tolist() == [0, 0]
    alone, unheard = turn_advantages([[0.9, 0.8], [NAN, NAN]], normalise=normalise)
    assert alone.tolist() == [0, 0]
    assert np.isnan(unheard).all()


def test_not_reviewed_is_not_zero():
    with_gap = turn_advantages([[0.5, NAN], [0.5, 0.4], [0.5, 0.2]])
    as_zero = turn_advantages([[0.5, 0.0], [0.5, 0.4], [0.5, 0.2]])
    assert np.isnan(with_gap[0][1])
    assert with_gap[1][1] == pytest.approx(0.4 - 0.2)
    assert as_zero[1][1] == pytest.approx(0.4 - 0.1)
    assert turn_advantages([[0.5, None], [0.5, 0.4]])[1].tolist() == turn_advantages([[0.5, NAN], [0.5, 0.4]])[1].tolist()


def test_confidence_weighs_in_the_mean_and_on_the_turn_itself():
    first, second, third = turn_advantages([[1.0], [0.5], [0.0]], confidence=[[0.5], [1.0], [0.25]])
    assert first == pytest.approx([0.5 * (1 - 0.5 / 1.25)])
    assert second == pytest.approx([0.5 - 0.5 / 0.75])
    assert third == pytest.approx([0.25 * (0 - (0.5 + 0.5) / 1.5)])


def test_no_confidence_is_as_not_reviewed_for_the_others():
    unsure = turn_advantages([[1.0], [0.5], [0.0]], confidence=[[1.0], [0.0], [1.0]])
    absent = turn_advantages([[1.0], [NAN], [0.0]])
    assert (unsure[0], unsure[2]) == (absent[0], absent[2])
    assert unsure[1].tolist() == [0]


scores_of_a_group = st.lists(st.lists(st.floats(0, 1) | st.none(), max_size=5), min_size=1, max_size=5)


@given(scores_of_a_group, st.sampled_from(["none", "group", "group_std", "per_index"]), st.sampled_from([0.0, 0.9, 1.0]))
def test_every_group_gives_finite_numbers_where_there_were_scores_and_nowhere_else(scores, normalise, gamma):
    found = turn_advantages(scores, normalise=normalise, gamma=gamma)
    for row, given_scores in zip(found, scores, strict=True):
        assert [not np.isnan(value) for value in row] == [score is not None for score in given_scores]
        assert not np.isinf(row).any()


@given(scores_of_a_group, st.randoms())
def test_the_order_of_episodes_does_not_matter(scores, random):
    order = list(range(len(scores)))
    random.shuffle(order)
    found, shuffled = turn_advantages(scores), turn_advantages([scores[index] for index in order])
    for place, index in enumerate(order):
        assert shuffled[place] == pytest.approx(found[index], nan_ok=True, abs=1e-12)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=5))
def test_a_scale_by_the_group_does_not_explode(scores):
    for row in turn_advantages(scores, normalise="group_std"):
        assert np.abs(row).max() <= len(scores) * 3


# --------------------------------------------------------------------------------------------------------------------
# To tokens
# --------------------------------------------------------------------------------------------------------------------


def test_the_turn_part_and_the_outcome_add_up():
    first, second = mt_grpo([[0.5, NAN], [-0.5]], [1.0, -1.0], coefficient=0.4)
    assert first == pytest.approx([1.2, 1.0])
    assert second == pytest.approx([-1.2])


def test_a_turns_value_reaches_each_of_its_tokens_once():
    index = [-1, 0, 0, -1, 1, 1, 1, 2]
    found = broadcast([0.5, -1.0, NAN], index)
    assert found == pytest.approx([NAN, 0.5, 0.5, NAN, -1, -1, -1, NAN], nan_ok=True)
    assert broadcast([], [-1, -1]) == pytest.approx([NAN, NAN], nan_ok=True)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: turn_advantages([[1.0]], normalise="grup"), ConfigError, "did you mean 'group'"),
        (lambda: turn_advantages([[1.0]], gamma=1.1), ConfigError, r"within \[0, 1\]"),
        (
            lambda: turn_advantages([[1.0, 2.0]], confidence=[[1.0]]),
            AlignmentError,
            r"scores have \[2\] turns by episode, confidence \[1\]",
        ),
        (lambda: turn_advantages([[1.0]], confidence=[[1.5]]), UsageError, r"outside \[0, 1\]"),
        (lambda: turn_advantages([[np.inf]]), UsageError, "infinite"),
        (lambda: mt_grpo([[1.0]], [1.0, 2.0]), AlignmentError, "1 episodes"),
        (lambda: broadcast([1.0], [0, 1]), AlignmentError, "turn 1, but there are values for 1 turns"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
