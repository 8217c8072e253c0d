"""Generalised advantages of a learned value, against values and returns that are known exactly."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from agentdistill.config.terms import PolicyGradientTerm
from agentdistill.credit import assign, rows
from agentdistill.errors import AlignmentError
from agentdistill.types import Completion, Episode, EpisodeGroup, Feedback, Message, Sample, Status, StopReason, Task, Turn

TASK = Task(id="t", env="math", prompt=(Message.user("?"),))


def turn(context: int, ids: tuple[int, ...], *, reward: float = 0.0, segment: int = 0, author: str = "student") -> Turn:
    completion = Completion(message=Message.assistant("x"), token_ids=ids, logprobs=tuple(-0.5 for _ in ids))
    return Turn(context_ids=tuple(range(100, 100 + context)), completion=completion, segment=segment, author=author, reward=reward)


def episode(id: str, *turns: Turn, stop: StopReason = StopReason.COMPLETED) -> Episode:
    status = Status.TRUNCATED if stop.truncated else Status.OK
    reward = sum(each.reward for each in turns)
    return Episode(id=id, group="g", task=TASK, seed=0, prompt=TASK.prompt, turns=turns, stop=stop, status=status, reward=reward)


def term(**settings) -> PolicyGradientTerm:
    return PolicyGradientTerm(outcome=1.0, baseline="gae", gae=settings)


def valued(samples: list[Sample], values: list[list[float]], after: float | None = None) -> list[Sample]:
    """The samples with these values at their sampled tokens, and after the last token of each."""
    found = []
    for sample, numbers in zip(samples, values, strict=True):
        stream = np.full(len(sample), np.nan, np.float32)
        stream[sample.sampled] = numbers
        found.append(replace(sample, values={"o": stream}, values_after={} if after is None else {"o": after}))
    return found


def credited(played: list[Episode], values: list[list[float]], *, after: float | None = None, **settings) -> list[Sample]:
    groups = [EpisodeGroup(id="g", task=TASK, episodes=tuple(played))]
    return assign(valued(rows(played), values, after), groups, {"o": term(**settings)}, 0).samples


# --- a tree of two turns of two tokens each, every token 0 or 1 ---------------------------------------------------------

rng = np.random.default_rng(0)
POLICY = {prefix: float(rng.uniform(0.2, 0.8)) for length in range(4) for prefix in product((0, 1), repeat=length)}
"""Probability of a 1 after each prefix."""
EARLY = {prefix: float(rng.normal()) for prefix in product((0, 1), repeat=2)}
LATE = {prefix: float(rng.normal()) for prefix in product((0, 1), repeat=4)}


def chance(prefix: tuple[int, ...], token: int) -> float:
    return POLICY[prefix] if token else 1 - POLICY[prefix]


def worth(prefix: tuple[int, ...], gamma: float = 1.0) -> float:
    """V: what is still to come after ``prefix``."""
    if len(prefix) == 4:
        return 0.0
    return sum(chance(prefix, token) * action_worth(prefix, token, gamma) for token in (0, 1))


def action_worth(prefix: tuple[int, ...], token: int, gamma: float = 1.0) -> float:
    """Q."""
    after = (*prefix, token)
    return {2: EARLY, 4: LATE}.get(len(after), {}).get(after, 0.0) + gamma * worth(after, gamma)


LEAVES = list(product((0, 1), repeat=4))


def played(leaf: tuple[int, ...]) -> Episode:
    """Three tokens of context before the first turn and two before the second."""
    name = "".join(map(str, leaf))
    return episode(name, turn(3, leaf[:2], reward=EARLY[leaf[:2]]), turn(2, leaf[2:], reward=LATE[leaf]))


@pytest.mark.parametrize("gamma", [1.0, 0.6])
def test_with_exact_values_the_advantage_of_a_token_is_q_less_v(gamma):
    values = [[worth(leaf[:t], gamma) for t in range(4)] for leaf in LEAVES]
    for leaf, sample in zip(LEAVES, credited([played(leaf) for leaf in LEAVES], values, gamma=gamma, lam=0.0), strict=True):
        exact = [action_worth(leaf[:t], leaf[t], gamma) - worth(leaf[:t], gamma) for t in range(4)]
        assert sample.advantages["o"][sample.sampled] == pytest.approx(exact, abs=1e-6)
        assert sample.returns["o"][sample.sampled] == pytest.approx(np.add(exact, [worth(leaf[:t], gamma) for t in range(4)]), abs=1e-6)
        assert not sample.advantages["o"][~sample.sampled].any()
        assert sample.returns["o"][5] == sample.returns["o"][7]  # the state between the turns
        assert np.isnan(sample.returns["o"][[0, 1, 2, 6]]).all()


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("level", ["token", "turn"])
def test_with_exact_values_the_mean_advantage_of_an_action_is_q_less_v_at_any_lambda(lam, level):
    """An action is a token, or the two tokens of a turn; the mean is over what the policy does afterwards."""
    values = [[worth(leaf[:t]) for t in range(4)] for leaf in LEAVES]
    samples = credited([played(leaf) for leaf in LEAVES], values, lam=lam, level=level)
    size = 1 if level == "token" else 2
    for t in range(0, 4, size):
        for prefix in product((0, 1), repeat=t + size):
            below = [
                (np.prod([chance(leaf[:s], leaf[s]) for s in range(t + size, 4)]), sample.advantages["o"][sample.sampled][t])
                for leaf, sample in zip(LEAVES, samples, strict=True)
                if leaf[: t + size] == prefix
            ]
            q = EARLY.get(prefix, 0.0) + LATE.get(prefix, 0.0) + worth(prefix)
            assert sum(weight * found for weight, found in below) == pytest.approx(q - worth(prefix[:t]), abs=1e-6)


def test_with_lambda_one_the_advantage_is_the_return_less_the_value_whatever_the_value():
    (sample,) = credited([played(LEAVES[5])], [[0.3, -1.0, 2.0, 0.7]], lam=1.0)
    to_come = np.array([EARLY[LEAVES[5][:2]] + LATE[LEAVES[5]]] * 2 + [LATE[LEAVES[5]]] * 2)
    assert sample.returns["o"][sample.sampled] == pytest.approx(to_come, abs=1e-6)
    assert sample.advantages["o"][sample.sampled] == pytest.approx(to_come - [0.3, -1.0, 2.0, 0.7], abs=1e-6)


def test_only_sampled_tokens_are_time():
    """The trap: γ per token of the row would make a wordy environment discount what its player earns."""
    for context in (1, 9):
        (sample,) = credited([episode("e", turn(1, (1,)), turn(context, (2, 3), reward=1.0))], [[0, 0, 0]], gamma=0.5, lam=1.0)
        assert sample.advantages["o"][sample.sampled].tolist() == [0.25, 0.5, 1.0]


def test_a_turn_has_one_advantage_on_each_of_its_tokens_and_one_target_at_its_first():
    (sample,) = credited(
        [episode("e", turn(2, (1, 2, 3), reward=0.5), turn(1, (4, 5), reward=1.0))], [[0.2, 9, 9, 0.6, 9]], level="turn", gamma=0.5, lam=0.0
    )
    first, second = 0.5 + 0.5 * 0.6 - 0.2, 1.0 - 0.6
    assert sample.advantages["o"][sample.sampled] == pytest.approx([first] * 3 + [second] * 2)
    targets = sample.returns["o"]
    assert np.flatnonzero(~np.isnan(targets)).tolist() == [2, 5, 6]
    assert targets[[2, 6]] == pytest.approx([0.2 + first, 0.6 + second])


@pytest.mark.parametrize("level", ["token", "turn"])
def test_the_state_after_a_turn_learns_what_the_next_turns_state_is_worth_and_after_the_last_nothing(level):
    """Where an episode is cut no turn begins, and a value that was never asked after a turn would only guess there."""
    turns = (turn(2, (1, 2), reward=0.5), turn(3, (3,), reward=1.0), turn(1, (4, 5), reward=-2.0))
    (sample,) = credited([episode("e", *turns)], [[0.1, 0.2, 0.3, 0.4, 0.5]], level=level)
    targets, starts = sample.returns["o"], [2, 7, 9]
    assert (targets[4], targets[8]) == (targets[starts[1]], targets[starts[2]])
    known = [2, 4, 7, 8, 9] if level == "turn" else [2, 3, 4, 7, 8, 9, 10]
    assert np.flatnonzero(~np.isnan(targets)).tolist() == known


@pytest.mark.parametrize("level", ["token", "turn"])
def test_an_episode_that_was_cut_goes_on_with_its_value_and_one_that_is_over_with_nothing(level):
    turns = (turn(1, (1,)), turn(1, (2,)))
    settings = {"level": level, "gamma": 0.5, "lam": 1.0}
    (cut,) = credited([episode("e", *turns, stop=StopReason.MAX_TURNS)], [[0.1, 0.2]], after=0.8, **settings)
    assert cut.advantages["o"][cut.sampled] == pytest.approx([0.25 * 0.8 - 0.1, 0.5 * 0.8 - 0.2])
    (over,) = credited([episode("e", *turns)], [[0.1, 0.2]], after=0.8, **settings)
    assert over.advantages["o"][over.sampled] == pytest.approx([-0.1, -0.2])
    with pytest.raises(AlignmentError, match="'e' was cut, and nobody said what the state after it is worth"):
        credited([episode("e", *turns, stop=StopReason.MAX_TURNS)], [[0.1, 0.2]], **settings)


def test_time_goes_on_from_one_segment_to_the_next_and_the_last_one_says_what_comes_after():
    cut = episode("e", turn(3, (1,)), turn(4, (2,), segment=1), stop=StopReason.MAX_TOKENS)
    first, second = valued(rows([cut]), [[0.0], [0.0]], after=5.0)
    second = replace(second, values_after={"o": 0.8})
    groups = [EpisodeGroup(id="g", task=TASK, episodes=(cut,))]
    found = assign([second, first], groups, {"o": term(gamma=0.5, lam=1.0)}, 0).samples
    assert [float(sample.advantages["o"][sample.sampled][0]) for sample in found] == pytest.approx([0.5 * 0.8, 0.25 * 0.8])


def test_what_anothers_turn_earned_is_credited_to_the_students_last_token_before_it():
    mixed = episode("e", turn(1, (1,), author="teacher", reward=7.0), turn(1, (2,)), turn(1, (3,), author="teacher", reward=1.0))
    for level in ("token", "turn"):
        (sample,) = credited([mixed], [[0.0, 0.25, 0.0]], level=level, lam=1.0)
        assert sample.advantages["o"][sample.sampled].tolist() == [0.0, 0.75, 0.0]


def test_an_overlong_episode_pays_at_its_end():
    lengthy = PolicyGradientTerm(outcome=1.0, baseline="gae", gae={"lam": 0.0}, overlong={"limit": 2, "buffer": 1})
    groups = [EpisodeGroup(id="g", task=TASK, episodes=(episode("e", turn(1, (1, 2, 3))),))]
    (sample,) = assign(valued(rows(groups[0].episodes), [[0, 0, 0]]), groups, {"o": lengthy}, 0).samples
    assert sample.advantages["o"][sample.sampled].tolist() == [0, 0, -1]


def test_a_value_that_nobody_said_is_refused():
    groups = [EpisodeGroup(id="g", task=TASK, episodes=(episode("e17", turn(1, (1,))),))]
    with pytest.raises(AlignmentError, match="learned value 'o' of its states, which some tokens of episode 'e17' lack"):
        assign(rows(groups[0].episodes), groups, {"o": term()}, 0)


def test_groups_without_siblings_have_an_advantage_all_the_same():
    (sample,) = credited([episode("e", turn(1, (1,), reward=1.0))], [[0.25]])
    assert sample.advantages["o"][1] == 0.75


def test_dropping_flat_groups_makes_no_sense_without_siblings():
    with pytest.raises(ValueError, match="baseline=gae compares with none"):
        PolicyGradientTerm(outcome=1.0, baseline="gae", flat_groups="drop")


def test_the_teachers_signal_less_a_learned_value_which_learns_the_signal():
    said = episode("e", turn(1, (1, 2, 3)))
    feedback = Feedback(episode="e", teacher="t", access="white", token_logprobs=((-1.0, -0.25, -0.5),))
    signal = PolicyGradientTerm(teacher=1.0, signal={"baseline": "value", "gamma_token": 0.5})
    (sample,) = rows([said], {"e": feedback})
    sample = replace(sample, values={"o/teacher": np.array([np.nan, 0.5, 0.25, -1.0], np.float32)})
    (found,) = assign([sample], [EpisodeGroup(id="g", task=TASK, episodes=(said,))], {"o": signal}, 0).samples
    # ln u = (−.5, .25, 0); for reverse KL what is to come counts with ln u itself
    expected = np.array([-0.5 + 0.5 * 0.25, 0.25, 0.0])
    assert found.returns["o/teacher"][1:] == pytest.approx(expected)
    assert found.advantages["o"][1:] == pytest.approx(expected - [0.5, 0.25, -1.0])
    assert "o" not in found.returns


# --- what it does to the gradient -------------------------------------------------------------------------------------


def mean_gradient(samples: list[Sample]) -> dict[tuple[int, ...], float]:
    """E Σ_t Â_t ∂ ln q(y_t)/∂z, by the logit z of a 1 after each prefix."""
    found = dict.fromkeys(POLICY, 0.0)
    for leaf, sample in zip(LEAVES, samples, strict=True):
        weight = float(np.prod([chance(leaf[:t], leaf[t]) for t in range(4)]))
        for t, advantage in enumerate(sample.advantages["o"][sample.sampled]):
            found[leaf[:t]] += weight * float(advantage) * (leaf[t] - POLICY[leaf[:t]])
    return found


def exact_gradient() -> dict[tuple[int, ...], float]:
    """∂J/∂z = P(prefix) q (1 − q) (Q(1) − Q(0))."""
    return {
        prefix: float(np.prod([chance(prefix[:t], prefix[t]) for t in range(len(prefix))]))
        * (q * (1 - q))
        * (action_worth(prefix, 1) - action_worth(prefix, 0))
        for prefix, q in POLICY.items()
    }


def wrong(leaf: tuple[int, ...]) -> list[float]:
    """Values of the states that ``leaf`` passes, which have nothing to do with the rewards."""
    return [float(np.sin(1 + 3 * t + sum(bit << i for i, bit in enumerate(leaf[:t])))) for t in range(4)]


@pytest.mark.parametrize("level", ["token", "turn"])
def test_with_lambda_one_any_value_leaves_the_mean_gradient_exact(level):
    samples = credited([played(leaf) for leaf in LEAVES], [wrong(leaf) for leaf in LEAVES], lam=1.0, level=level)
    assert mean_gradient(samples) == pytest.approx(exact_gradient(), abs=1e-6)


def test_with_a_lower_lambda_a_wrong_value_bends_the_gradient_and_an_exact_one_does_not():
    """The bias of λ < 1, beside that of none."""
    episodes = [played(leaf) for leaf in LEAVES]
    exact = [[worth(leaf[:t]) for t in range(4)] for leaf in LEAVES]
    assert mean_gradient(credited(episodes, exact, lam=0.5)) == pytest.approx(exact_gradient(), abs=1e-6)
    bent = mean_gradient(credited(episodes, [wrong(leaf) for leaf in LEAVES], lam=0.5))
    assert max(abs(bent[prefix] - value) for prefix, value in exact_gradient().items()) > 0.05
