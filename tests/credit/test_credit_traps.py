"""Traps of credit that stand in public code: each is named, and shown to fail what our form passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from traps import tells_apart

from agentdistill.config.terms import PolicyGradientTerm
from agentdistill.config.weights import TurnDriftWeight
from agentdistill.credit import assign, group_advantages, rows
from agentdistill.credit.anchors import gigpo, step_advantages
from agentdistill.credit.step_weights import step_weights
from agentdistill.credit.teacher_credit import minillm_returns, temporal_credit
from agentdistill.credit.turns import returns_to_go, turn_advantages
from agentdistill.types import Completion, Episode, EpisodeGroup, Message, Sampling, Status, StopReason, Task, Turn

Values = np.ndarray[Any, Any]
TASK = Task(id="t", env="none", prompt=(Message.user("?"),))


def play(id: str, reward: float, status: Status = Status.OK, **completion: Any) -> Episode:
    """One turn of three tokens."""
    said = Completion(message=Message.assistant("…"), token_ids=(5, 6, 7), **({"logprobs": (-1.0, -1.0, -1.0)} | completion))
    return Episode(
        id=id, group="g", task=TASK, seed=0, prompt=TASK.prompt, turns=(Turn(context_ids=(1, 2), completion=said, reward=reward),),
        stop=StopReason.COMPLETED if status.trainable else StopReason.ERROR, status=status, reward=reward,
    )  # fmt: skip


# --- Steps ---------------------------------------------------------------------------------------------------------------


def test_a_product_of_ratios_that_is_capped_on_the_way() -> None:
    """SOD's product Π (d_u + ε)/(d_{u+1} + ε) telescopes: what lies between the first turn and this one does not matter. Capped
    factor by factor it does, and a turn that drifted once stays quiet for good."""

    def factor_by_factor(apart: Values) -> Values:
        factors = np.minimum((apart[:-1] + 1e-6) / (apart[1:] + 1e-6), 1.2)
        return np.cumprod(np.append(1.0, factors))

    def check(weights: Callable[[Values], Values]) -> None:
        for between in (0.1, 1.0, 20.0):
            assert weights(np.array([1.0, between, 2.0]))[-1] == pytest.approx(0.5, rel=1e-5)
        assert weights(np.array([1.0, 20.0, 1.0]))[-1] == pytest.approx(1.0)

    tells_apart(check, ours=step_weights, trapped=factor_by_factor)


def test_the_cap_of_the_code_where_the_paper_s_script_sets_another() -> None:
    """SOD's code has δ = .5, the script of its experiments .2."""

    def check(weight: TurnDriftWeight) -> None:
        assert step_weights([1.0, 0.1], weight.delta, weight.epsilon)[1] == pytest.approx(1.2)

    tells_apart(check, ours=TurnDriftWeight(), trapped=TurnDriftWeight(delta=0.5))


def test_a_lone_episode_praised_with_its_raw_reward() -> None:
    """GiGPO's code does not centre a group of one: nothing to compare with counts as a success."""

    def check(outcome: Callable[[list[float]], Values]) -> None:
        for reward in (0.0, 1.0, 7.0):
            (found,) = gigpo(outcome([reward]), step_advantages([[("s", None, reward)]]))
            assert not found.any()
        assert outcome([0.0, 1.0]) == pytest.approx([-0.5, 0.5])

    def trapped(returns: list[float]) -> Values:
        return np.asarray(returns) - (np.mean(returns) if len(returns) > 1 else 0.0)

    tells_apart(check, ours=lambda returns: group_advantages(returns, "group"), trapped=trapped)


# --- Turns ---------------------------------------------------------------------------------------------------------------

GO_ON, STOP = [1.0, 1.0], [1.0]
"""Scores of an episode whose one decision, before anything else, is to play a second turn or not: each turn earns 1."""


def push_to_go_on(advantages: Callable[[Sequence[Sequence[float]]], Sequence[Values]]) -> float:
    """Mean over all pairs of Â_1 ∂ln π(decision)/∂z, the decision being even."""
    total = 0.0
    for pair in product((GO_ON, STOP), repeat=2):
        for scores, row in zip(pair, advantages(pair), strict=True):
            total += 0.25 * 0.5 * float(row[0]) * (0.5 if scores is GO_ON else -0.5)
    return total


def test_advantages_normalised_among_those_who_reached_the_turn() -> None:
    """verl#7244: where the policy decides when to stop, a mean over the episodes that reached turn k prices the decision to go on."""

    def trapped(group: Sequence[Sequence[float]]) -> list[Values]:
        means = [np.mean([row[k] for row in group if k < len(row)]) for k in range(max(map(len, group)))]
        return [returns_to_go(np.asarray(row) - means[: len(row)]) for row in group]

    def check(advantages: Callable[[Sequence[Sequence[float]]], Sequence[Values]]) -> None:
        gradient = 0.5 * 0.5 * (sum(GO_ON) - sum(STOP))  # ∂/∂z of σ(z) · 2 + σ(−z) · 1 at z = 0
        assert push_to_go_on(advantages) == pytest.approx(gradient)

    tells_apart(check, ours=turn_advantages, trapped=trapped)
    assert push_to_go_on(trapped) == pytest.approx(0), "going on earns twice as much, and is not learned at all"


def test_a_broken_episode_that_stays_in_the_baseline() -> None:
    """NeMo-Gym#3351, open-instruct#1887: its tokens are masked, its reward of 0 still makes its siblings look better than they are."""
    group = EpisodeGroup(id="g", task=TASK, episodes=(play("a", 1), play("b", 1), play("c", 0), play("broken", 0, Status.SANDBOX_ERROR)))

    def ours(group: EpisodeGroup) -> dict[str, float]:
        term = PolicyGradientTerm(outcome=1.0, baseline="group")
        found = assign(rows(group.trainable), [group], {"t": term}, 0).samples
        return {sample.episode: float(sample.advantages["t"][-1]) for sample in found}

    def trapped(group: EpisodeGroup) -> dict[str, float]:
        values = group_advantages([episode.reward for episode in group.episodes], "group")
        return {episode.id: value for episode, value in zip(group.episodes, values, strict=True) if episode.status.trainable}

    def check(advantages: Callable[[EpisodeGroup], dict[str, float]]) -> None:
        assert advantages(group) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": -2 / 3})

    tells_apart(check, ours=ours, trapped=trapped)


# --- Returns -------------------------------------------------------------------------------------------------------------


def test_padding_and_what_the_world_says_in_a_return_to_go() -> None:
    """TRL's MiniLLM masks by input ids other than −100, which all are: padding enters the sums and their lengths."""
    gap, turn = np.array([0.5, -1.0, 0.25, 2.0]), np.array([0, 0, 0, 0])
    padded = np.insert(np.append(gap, [7.0, 7.0]), 2, 9.0)
    padded_turn = np.insert(np.append(turn, [-1, -1]), 2, -1)

    def ours(gap: Values, turn: Values) -> Values:
        return temporal_credit(np.zeros_like(gap), -gap, turn, gamma_token=0.95)

    def check(returns: Callable[[Values, Values], Values]) -> None:
        found = returns(padded, padded_turn)
        assert found[padded_turn >= 0] == pytest.approx(returns(gap, turn))
        assert not found[padded_turn < 0].any()

    tells_apart(check, ours=ours, trapped=lambda gap, turn: minillm_returns(gap, gamma=0.95, length_normalise=False))
    assert ours(gap, turn) == pytest.approx(minillm_returns(gap, gamma=0.95, length_normalise=False)), "the same thing without padding"


# --- Streams -------------------------------------------------------------------------------------------------------------


def test_log_probabilities_as_they_were_drawn_from_in_place_of_the_policy_s_own() -> None:
    """trl#6945: after temperature and top-p the log-probabilities are of another distribution; ratios are to the raw ones."""
    raw, drawn = (-1.5, -0.25, -3.0), (-1.2, 0.0, -2.9)
    episode = play("a", 1, logprobs=raw, behaviour_logprobs=drawn, sampling=Sampling(temperature=0.7, top_p=0.9))

    def check(stream: Callable[[Episode], Sequence[float]]) -> None:
        assert np.exp(np.asarray(raw) - stream(episode)) == pytest.approx(1.0), "trainer and engine agree on every token"

    def ours(episode: Episode) -> Sequence[float]:
        (sample,) = rows([episode])
        return list(sample.rollout_logprobs[sample.sampled])

    tells_apart(check, ours=ours, trapped=lambda episode: episode.turns[0].completion.behaviour_logprobs or ())


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"teacher_clip": 0.5}, {"advantages/t", "advantage_parts/teacher"}),
        ({"mismatch": {"kind": "mis", "band": (0.9, 1.1)}}, {"kappas/t"}),
        ({"ppo_clip": (0.01, 0.01)}, set()),
    ],
    ids=["teacher_clip", "mismatch", "ppo_clip"],
)
def test_one_bound_for_three_ratios(changes: dict[str, Any], moved: set[str]) -> None:
    """ln p − ln q, π_old/π_rollout and π_θ/π_old are bounded by settings of their own, of which each moves its own stream, or the loss."""
    plain = {"teacher": 1.0, "mismatch": {"kind": "mis", "band": (0.1, 10.0)}}
    episode = play("a", 1)
    (row,) = rows([episode])
    on = row.sampled
    scores = {"old_logprobs": [-1.0, -1.2, -0.9], "teacher_logprobs": [-3.0, -1.1, -0.2]}
    for name, values in scores.items():
        stream = np.full(len(row), np.nan, np.float32)
        stream[on] = values
        row = replace(row, **{name: stream})
    groups = [EpisodeGroup(id="g", task=TASK, episodes=(episode,))]
    before, after = (
        assign([row], groups, {"t": PolicyGradientTerm(**settings)}, 0).samples[0].streams() for settings in (plain, plain | changes)
    )
    assert {name for name in before if not np.array_equal(before[name], after[name], equal_nan=before[name].dtype.kind == "f")} == moved
