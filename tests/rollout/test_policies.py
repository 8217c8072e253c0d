"""Players of every kind: slow, silent, clumsy, and those that break their protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from agentdistill.env import EnvConfig
from agentdistill.errors import PolicyError
from agentdistill.policy.protocol import Request
from agentdistill.policy.scripted import ScriptedPolicy
from agentdistill.render import Renderer
from agentdistill.rollout import play
from agentdistill.rollout.play import Players
from agentdistill.types import Completion, Episode, Message, Sampling, Status, StopReason
from tests.env.toys import Shop, ShopConfig

from .test_play import timeless
from .toys import Slow, Stage, chatter, players, plays


def test_a_policy_that_answers_fewer_turns_than_it_has_is_asked_again(renderer: Renderer) -> None:
    slow = players(renderer, policies={"student": chatter(renderer, Slow)})
    assert timeless(play(plays(4), slow)) == timeless(play(plays(4), players(renderer)))


def test_a_policy_is_left_alone_while_it_has_nothing_to_do(renderer: Renderer) -> None:
    idle = Slow(lambda request, rng: "7", renderer)
    play(plays(2), players(renderer, policies={"student": chatter(renderer), "expert": idle}))
    assert idle.asked == 0


@pytest.mark.parametrize("said", ["", " \n"])
def test_saying_nothing_is_a_turn_like_any_other(renderer: Renderer, said: str) -> None:
    stage = Stage()
    (episode,) = play(plays(1), players(renderer, stage, policies={"student": ScriptedPolicy.saying([said], renderer)}))
    assert (episode.status, len(episode.turns)) == (Status.OK, 2)
    assert stage.envs[0].heard == [Message.assistant(said)] * 2


class Wordless(ScriptedPolicy):
    def _complete(self, request: Request) -> Completion:
        return Completion(message=Message.assistant(""), token_ids=())


def test_a_completion_without_a_token_is_closed_by_the_next_context(renderer: Renderer) -> None:
    (episode,) = play(plays(1), players(renderer, policies={"student": Wordless(lambda request, rng: "", renderer)}))
    first, second = episode.turns
    assert first.completion.token_ids == ()
    (whole,) = play(plays(1), players(renderer, policies={"student": ScriptedPolicy.saying([""], renderer)}))
    spoken = [token for turn in whole.turns for token in (*turn.context_ids, *turn.completion.token_ids)]
    assert [*first.context_ids, *second.context_ids] == spoken[: len(first.context_ids) + len(second.context_ids)]


def test_an_episode_that_never_ends_runs_out_of_tokens(renderer: Renderer) -> None:
    stage = Stage(config=EnvConfig(max_turns=10_000))
    policies = {"student": Wordless(lambda request, rng: "", renderer)}
    (episode,) = play(plays(1, turns=10_000), players(renderer, stage, policies=policies, max_tokens=400))
    assert episode.stop is StopReason.MAX_TOKENS
    assert 400 - 40 < episode.tokens < 400


class Cancelling(ScriptedPolicy):
    def _complete(self, request: Request) -> Completion:
        return super()._complete(request).model_copy(update={"finish_reason": "cancelled"})


def test_a_cancelled_completion_is_recorded_and_never_reaches_the_environment(renderer: Renderer) -> None:
    stage = Stage()
    (episode,) = play(plays(1), players(renderer, stage, policies={"student": chatter(renderer, Cancelling)}))
    assert (episode.stop, episode.status, episode.success) == (StopReason.CANCELLED, Status.CANCELLED, None)
    assert len(episode.turns) == 1
    assert stage.envs[0].heard == []


# ---- calls that do not parse ----------------------------------------------------------------------------------------


class Writing(ScriptedPolicy):
    """Writes text as a model does: what it says is what parses."""

    def _complete(self, request: Request) -> Completion:
        written = self.act(request, np.random.default_rng(0))
        ids = tuple(self.renderer.template.encode_inside(str(written) + self.renderer.template.closing))
        return Completion(message=self.renderer.parse(ids), token_ids=ids)


def shop(renderer: Renderer, *words: str) -> Episode:
    policy = Writing(lambda request, rng: words[min(request.turn, len(words) - 1)], renderer)
    wanted = Players(make_env=lambda: Shop(ShopConfig()), policies={"student": policy}, renderer=renderer, sampling=Sampling())
    each = plays(1)[0]
    task = Shop.make_task(3)
    (episode,) = play([type(each)(id="p", group="g", task=task, seed=0, key=(0,))], wanted)
    return episode


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ('<tool_call>\n{"name": "price", "argume', "malformed_call"),
        ("<tool_call>\nprice(pen)\n</tool_call>", "malformed_call"),
        ('<tool_call>\n{"name": "prize", "arguments": {"item": "pen"}}\n</tool_call>', "unknown_tool"),
        ('<tool_call>\n{"name": "price", "arguments": {"item": "sofa"}}\n</tool_call>', "bad_arguments"),
        ('<tool_call>\n{"name": "price", "arguments": {"item": "pen", "count": 0}}\n</tool_call>', "tool_error"),
    ],
)
def test_a_bad_call_is_answered_and_the_episode_goes_on(renderer: Renderer, written: str, error: str) -> None:
    episode = shop(renderer, written, "21")
    first, second = episode.turns
    assert (episode.status, episode.success, episode.failure) == (Status.OK, True, None)
    assert [result.error for result in first.tool_results] == [error]
    assert first.reply[0].role == "tool"
    sampled = renderer.decode(first.completion.token_ids)
    assert sampled.startswith(written), "what was sampled stays as it was"
    assert second.completion.message == Message.assistant("21")


def test_good_and_bad_calls_of_one_message_are_each_answered(renderer: Renderer) -> None:
    good = '<tool_call>\n{"name": "price", "arguments": {"item": "pen"}}\n</tool_call>'
    episode = shop(renderer, f"{good}\n<tool_call>\n[]\n</tool_call>", "21")
    assert [result.error for result in episode.turns[0].tool_results] == [None, "malformed_call"]
    assert [tool.name for tool in episode.tools] == ["price"]


# ---- policies that break ------------------------------------------------------------------------------------------


class Twice(ScriptedPolicy):
    def advance(self) -> Sequence[tuple[str, Completion]]:
        return [answer for answer in super().advance() for _ in range(2)]


class Stranger(ScriptedPolicy):
    def advance(self) -> Sequence[tuple[str, Completion]]:
        return [("nobody", completion) for _, completion in super().advance()]


class Deaf(ScriptedPolicy):
    def submit(self, request: Request) -> None:
        raise OSError("no route to the engine")


class Crashing(ScriptedPolicy):
    def advance(self) -> Sequence[tuple[str, Completion]]:
        raise OSError("the engine is gone")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Twice, "answered for episode 'train-0-0-0', which does not wait for it"),
        (Stranger, "answered for episode 'nobody', which does not wait for it"),
        (Deaf, "policy 'scripted': OSError: no route to the engine"),
        (Crashing, "policy 'scripted': OSError: the engine is gone"),
    ],
)
def test_a_policy_that_breaks_ends_the_call_and_leaves_no_environment_open(renderer: Renderer, kind: Any, sentence: str) -> None:
    stage = Stage()
    wanted = players(renderer, stage, policies={"student": chatter(renderer, kind)})
    over: list[Episode] = []
    with pytest.raises(PolicyError, match=sentence):
        play(plays(3), wanted, on_episode=over.append)
    assert over == []
    assert stage.closed == [1, 1, 1]
