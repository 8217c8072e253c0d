"""Tokens, positions and turns: what cuts an episode, and what its record then says."""

from __future__ import annotations

from typing import Any

import pytest

from agentdistill.env import EnvConfig, Reply
from agentdistill.policy.protocol import Request
from agentdistill.policy.scripted import ScriptedPolicy
from agentdistill.render import Renderer
from agentdistill.rollout import play
from agentdistill.types import Episode, Limits, Message, Sampling, Status, StopReason

from .toys import Count, Cutting, Stage, chatter, players, plays


def one(renderer: Renderer, *, turns: int = 3, stage: Stage | None = None, limits: Limits | None = None, **changes: Any) -> Episode:
    (episode,) = play(plays(1, turns, limits=limits or Limits()), players(renderer, stage, **changes))
    return episode


def cut(episode: Episode) -> tuple[StopReason, Status, bool | None, int]:
    return episode.stop, episode.status, episode.success, len(episode.turns)


def long(request: Request, rng: Any) -> str:
    return "seven " * 9


def test_a_completion_at_its_own_limit_ends_the_episode_and_the_environment_is_not_asked(renderer: Renderer) -> None:
    stage = Stage()
    policies = {"student": Cutting(long, renderer, author="student")}
    episode = one(renderer, stage=stage, policies=policies, sampling=Sampling(max_new_tokens=4))
    assert cut(episode) == (StopReason.MAX_TOKENS, Status.TRUNCATED, False, 1)
    (turn,) = episode.turns
    assert len(turn.completion.token_ids) == 4
    assert (turn.reply, turn.reward, episode.reward_parts) == ((), 0.0, {})
    assert stage.envs[0].heard == []


@pytest.mark.parametrize("by", ["run", "task"])
def test_the_episodes_tokens_are_counted_over_prompt_replies_and_completions(renderer: Renderer, by: str) -> None:
    whole = one(renderer)
    sizes = [len(turn.context_ids) + len(turn.completion.token_ids) for turn in whole.turns]

    def limited(tokens: int) -> Episode:
        if by == "run":
            return one(renderer, max_tokens=tokens, policies={"student": chatter(renderer, Cutting)})
        return one(renderer, limits=Limits(tokens=tokens), policies={"student": chatter(renderer, Cutting)})

    assert cut(limited(sum(sizes))) == cut(whole) == (StopReason.COMPLETED, Status.OK, True, 3)
    assert cut(limited(sum(sizes) - 1)) == (StopReason.MAX_TOKENS, Status.TRUNCATED, False, 3)
    room = sum(sizes[:2]) + len(whole.turns[2].context_ids)
    assert cut(limited(room + 1)) == (StopReason.MAX_TOKENS, Status.TRUNCATED, False, 3), "one token of the third turn"
    assert cut(limited(room)) == (StopReason.MAX_TOKENS, Status.TRUNCATED, False, 2), "no token of it"
    short = limited(len(whole.turns[0].context_ids))
    assert cut(short) == (StopReason.MAX_TOKENS, Status.TRUNCATED, False, 0), "not even a first one"
    assert short.prompt == whole.prompt
    for tokens in (room + 1, room, sizes[0]):
        assert limited(tokens).tokens <= tokens


def test_the_smaller_of_run_and_task_limits_counts(renderer: Renderer) -> None:
    assert one(renderer, max_tokens=10_000, limits=Limits(tokens=1)).turns == ()
    assert one(renderer, max_tokens=1, limits=Limits(tokens=10_000)).turns == ()


def test_a_completion_gets_no_more_than_what_is_left_and_no_more_than_its_own_limit(renderer: Renderer) -> None:
    asked: list[int] = []

    def act(request: Request, rng: Any) -> str:
        asked.append(request.sampling.max_new_tokens)
        return "7"

    whole = one(renderer, policies={"student": ScriptedPolicy.saying(["7"], renderer)})
    first, second = (len(turn.context_ids) for turn in whole.turns[:2])
    said = len(whole.turns[0].completion.token_ids)
    tokens = first + said + second + 5
    one(renderer, policies={"student": ScriptedPolicy(act, renderer)}, max_tokens=tokens, sampling=Sampling(max_new_tokens=20))
    assert asked == [min(20, said + second + 5), 5]


def test_a_context_that_the_model_has_no_positions_for_ends_the_episode(renderer: Renderer) -> None:
    whole = one(renderer)
    first = whole.turns[0]
    before_second = len(first.context_ids) + len(first.completion.token_ids) + len(whole.turns[1].context_ids)

    def windowed(window: int) -> Episode:
        policy = chatter(renderer)
        policy.context_window = window
        return one(renderer, policies={"student": policy})

    assert cut(windowed(before_second)) == (StopReason.CONTEXT_OVERFLOW, Status.TRUNCATED, False, 1)
    assert len(windowed(before_second + 1).turns) == 2, "one position for the completion is enough to ask"
    assert cut(windowed(len(first.context_ids))) == (StopReason.CONTEXT_OVERFLOW, Status.TRUNCATED, False, 0)


def test_the_environments_own_limit_on_turns_is_recorded_as_such(renderer: Renderer) -> None:
    episode = one(renderer, turns=9, stage=Stage(config=EnvConfig(max_turns=2)))
    assert cut(episode) == (StopReason.MAX_TURNS, Status.TRUNCATED, False, 2)
    assert episode.reward > 0, "what it was paid stays"
    assert cut(one(renderer, turns=9, limits=Limits(turns=3))) == (StopReason.MAX_TURNS, Status.TRUNCATED, False, 3)


class Undecided(Count):
    success_when_cut = None


@pytest.mark.parametrize("changes", [{"max_tokens": 40}, {}])
def test_where_there_is_no_notion_of_success_a_cut_episode_has_no_verdict(renderer: Renderer, changes: dict[str, int]) -> None:
    stage = Stage(config=EnvConfig(max_turns=2))
    wanted = players(renderer, stage, **changes)
    wanted.make_env = lambda: Undecided(stage.trouble, stage.config, stage.clock)
    (episode,) = play(plays(1, turns=9), wanted)
    assert (episode.status, episode.success) == (Status.TRUNCATED, None)


def test_a_verdict_given_before_the_cut_stands(renderer: Renderer) -> None:
    class Early(Count):
        def respond(self, message: Message) -> Reply:
            return Reply(messages=(Message.user("Right. Go on."),), success=True if self.turn == 1 else None)

    stage = Stage()
    wanted = players(renderer, stage, max_tokens=60)
    wanted.make_env = lambda: Early(stage.trouble, stage.config, stage.clock)
    (episode,) = play(plays(1), wanted)
    assert (episode.stop, episode.success) == (StopReason.MAX_TOKENS, True)


@pytest.mark.parametrize(
    ("terminated", "truncated", "stop", "expected"),
    [
        (True, True, StopReason.MAX_TURNS, StopReason.COMPLETED),
        (False, True, StopReason.TIME_LIMIT, StopReason.TIME_LIMIT),
        (False, True, None, StopReason.MAX_TURNS),
        (False, True, "a word", StopReason.MAX_TURNS),
    ],
)
def test_what_a_foreign_environment_says_of_the_end_is_read_as_gymnasium_has_it(
    renderer: Renderer, terminated: bool, truncated: bool, stop: Any, expected: StopReason
) -> None:
    class Foreign(Count):
        def step(self, action: Message | str) -> Any:
            return (), 1.0, terminated, truncated, {"stop": stop}

    stage = Stage()
    wanted = players(renderer, stage)
    wanted.make_env = lambda: Foreign(stage.trouble, stage.config, stage.clock)
    (episode,) = play(plays(1), wanted)
    assert episode.stop is expected
    assert episode.status is (Status.OK if terminated else Status.TRUNCATED)
