"""What breaks costs its own episode, and its record says where."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from agentdistill.clock import ThreadExecutor
from agentdistill.env import Reply
from agentdistill.errors import AgentDistillError, EnvError, SandboxError, TaskError
from agentdistill.render import Renderer
from agentdistill.rollout import play
from agentdistill.types import Episode, Failure, Message, Status, StopReason

from .test_play import timeless
from .toys import Count, Slow, Stage, at, chatter, players, plays


def broken(renderer: Renderer, trouble: Any, **changes: Any) -> tuple[Episode, Stage]:
    """Three plays, of which that of task t1 breaks; the others must be as if it had not."""
    stage = Stage(trouble)
    before, episode, after = play(plays(3), players(renderer, stage, **changes))
    whole = play(plays(3), players(renderer))
    assert timeless([before, after]) == timeless([whole[0], whole[2]])
    assert stage.closed == [1] * len(stage.envs)
    return episode, stage


@pytest.mark.parametrize(("moment", "turn"), [("reset", None), ("step", 0)])
def test_an_environment_that_always_raises_is_recorded_with_every_try(renderer: Renderer, moment: Any, turn: int | None) -> None:
    episode, stage = broken(renderer, at(moment, "t1", RuntimeError("the roof fell in")), retries=2)
    where = "reset" if turn is None else "step of turn 0"
    told = f"{where}: RuntimeError: the roof fell in"
    assert episode.failure == Failure(stage=moment, type="RuntimeError", message=told, turn=turn, attempts=(told, told))
    assert (episode.stop, episode.status, episode.success) == (StopReason.ERROR, Status.ENV_ERROR, None)
    assert not episode.status.trainable
    assert episode.turns == ()
    assert bool(episode.prompt) == (moment == "step")
    assert len(stage.envs) == 2 + 3


def test_a_failure_in_a_later_turn_keeps_the_turns_before_it(renderer: Renderer) -> None:
    def trouble(moment: str, env: Count) -> None:
        if moment == "step" and env.task.id == "t1" and env.turn == 2:
            raise OSError("gone")

    episode, _ = broken(renderer, trouble, retries=0)
    assert episode.failure == Failure(stage="step", type="OSError", message="step of turn 1: OSError: gone", turn=1)
    assert len(episode.turns) == 1
    assert episode.reward == episode.turns[0].reward > 0


def test_a_try_that_works_leaves_the_episode_that_had_no_trouble(renderer: Renderer) -> None:
    failed: list[int] = []

    def trouble(moment: str, env: Count) -> None:
        if moment == "step" and env.task.id == "t1" and env.turn == 2 and not failed:
            failed.append(1)
            raise OSError("gone")

    episode, stage = broken(renderer, trouble, retries=1)
    assert timeless([episode]) == timeless(play(plays(3), players(renderer)))[1:2]
    assert len(stage.envs) == 4, "in a fresh environment"


def test_a_try_begins_with_a_policy_that_has_forgotten_the_episode(renderer: Renderer) -> None:
    policy = chatter(renderer)
    log: list[str] = []
    release, submit = policy.release, policy.submit
    policy.release = lambda id: (log.append(f"release {id}"), release(id))
    policy.submit = lambda request: (log.append(f"submit {request.turn} after {request.prefix_length > 0}"), submit(request))
    play(plays(1), players(renderer, Stage(at("step", "t0", OSError())), policies={"student": policy}))
    assert log == ["submit 0 after False", "release train-0-0-0"] * 2


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (SandboxError("no answer from docker"), Status.SANDBOX_ERROR, "SandboxError"),
        (EnvError("told so itself"), Status.ENV_ERROR, "EnvError"),
        (TaskError("row 7 has no answer"), Status.ENV_ERROR, "TaskError"),
        (AgentDistillError("anything of ours"), Status.ENV_ERROR, "AgentDistillError"),
    ],
)
def test_our_own_errors_from_an_environment_are_its_failures_too(renderer: Renderer, error: Exception, status: Status, kind: str) -> None:
    for moment in ("reset", "step"):
        episode, _ = broken(renderer, at(moment, "t1", error))
        assert episode.status is status
        assert episode.failure is not None
        assert episode.failure.type == kind
        assert str(error) in episode.failure.message


def test_an_environment_that_cannot_be_made_is_a_failed_reset(renderer: Renderer) -> None:
    stage = Stage()
    wanted = players(renderer, stage, retries=1)
    calls: list[int] = []

    def make() -> Any:
        calls.append(1)
        if len(calls) in (2, 4):  # the second play, and its second try
            raise MemoryError("too big")
        return stage.make()

    wanted.make_env = make
    first, second, third = play(plays(3), wanted)
    assert second.failure is not None
    assert (second.failure.stage, second.failure.type, len(second.failure.attempts)) == ("reset", "MemoryError", 1)
    assert (first.status, third.status) == (Status.OK, Status.OK)


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -float("inf"), None, "much"])
@pytest.mark.parametrize("where", ["reward", "part"])
def test_a_reward_that_is_no_finite_number_is_the_environments_failure(renderer: Renderer, reward: Any, where: str) -> None:
    class Generous(Count):
        def step(self, action: Message | str) -> Any:
            observation, total, terminated, truncated, info = super().step(action)
            if self.task.id == "t1" and self.turn == 2:
                return (
                    (observation, reward, terminated, truncated, info)
                    if where == "reward"
                    else (
                        *(observation, total, terminated, truncated),
                        {**info, "reward_parts": {"luck": reward}},
                    )
                )
            return observation, total, terminated, truncated, info

    stage = Stage()
    wanted = players(renderer, stage)
    wanted.make_env = lambda: Generous(stage.trouble, stage.config, stage.clock)
    group = play(plays(3), wanted)
    assert [episode.status for episode in group] == [Status.OK, Status.ENV_ERROR, Status.OK]
    assert group[1].failure is not None
    assert (group[1].failure.stage, group[1].failure.turn, len(group[1].turns)) == ("step", 1, 1)
    assert set(group[1].reward_parts) == {"luck", "turn"}
    assert group[1].reward == sum(group[1].reward_parts.values()), "nothing of the broken turn is counted"


@pytest.mark.parametrize(
    "result",
    [None, ((), 0.0, True), ("a text", 0.0, True, False, {}), ((), 0.0, False, True, None), ((Message.user("x"), 7), 0.0, True, False, {})],
)
def test_a_step_of_another_shape_is_the_environments_failure(renderer: Renderer, result: Any) -> None:
    class Odd(Count):
        def step(self, action: Message | str) -> Any:
            return result if self.task.id == "t1" else super().step(action)

    stage = Stage()
    wanted = players(renderer, stage)
    wanted.make_env = lambda: Odd(stage.trouble, stage.config, stage.clock)
    assert [episode.status for episode in play(plays(3), wanted)] == [Status.OK, Status.ENV_ERROR, Status.OK]


def test_tools_that_cannot_be_listed_fail_the_reset_and_harm_no_record(renderer: Renderer) -> None:
    class Toolless(Count):
        @property
        def tools(self) -> Any:
            raise AttributeError("begin() sets them up")

        def respond(self, message: Message) -> Reply:
            raise AssertionError("nobody can have asked it anything")

    stage = Stage()
    wanted = players(renderer, stage)
    wanted.make_env = lambda: Toolless(stage.trouble, stage.config, stage.clock)
    (episode,) = play(plays(1), wanted)
    assert episode.failure is not None
    assert (episode.failure.stage, episode.failure.type) == ("reset", "AttributeError")


def test_an_environment_that_cannot_be_closed_warns_and_its_episode_stands(renderer: Renderer) -> None:
    stage = Stage(at("close", "t1", OSError("stuck")))
    with pytest.warns(RuntimeWarning, match="'train-0-1-0' failed: OSError"):
        episodes = play(plays(3), players(renderer, stage))
    assert timeless(episodes) == timeless(play(plays(3), players(renderer)))
    assert stage.closed == [1, 1, 1]


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["reset", "step", "on_episode", "policy"])
def test_an_interruption_passes_and_leaves_nothing_open(renderer: Renderer, moment: str) -> None:
    policy = chatter(renderer, Slow)  # one turn at a time: the others are queued when it happens
    inner = policy.act

    def act(request: Any, rng: Any) -> Any:
        if moment == "policy" and request.turn == 1:
            interrupt()
        return inner(request, rng)

    policy.act = act
    on_episode: Callable[[Episode], None] | None = (lambda episode: interrupt()) if moment == "on_episode" else None
    stage = Stage(at(moment, "t1", interrupt))
    with pytest.raises(KeyboardInterrupt):
        play(plays(3), players(renderer, stage, policies={"student": policy}), on_episode=on_episode)
    assert stage.envs
    assert stage.closed == [1] * len(stage.envs)
    policy.act = inner
    again = play(plays(3), players(renderer, policies={"student": policy}))
    assert timeless(again) == timeless(play(plays(3), players(renderer))), "the policy has forgotten the interrupted turns"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_environment_that_wants_to_end_the_process_only_ends_its_episode(renderer: Renderer, workers: int) -> None:
    executor = {"executor": ThreadExecutor(workers)} if workers else {}
    episode, _ = broken(renderer, at("step", "t1", lambda: sys.exit(3)), retries=0, **executor)
    assert episode.failure == Failure(stage="step", type="SystemExit", message="step of turn 0: SystemExit: 3", turn=0)
    assert episode.status is Status.ENV_ERROR


def test_leaving_from_close_or_from_the_tools_is_a_failure_like_any_other(renderer: Renderer) -> None:
    class Leaving(Count):
        @property
        def tools(self) -> Any:
            return sys.exit(4) if self.task.id == "t1" else ()

    stage = Stage()
    wanted = players(renderer, retries=0)
    wanted.make_env = lambda: Leaving(stage.trouble, stage.config, stage.clock)
    episodes = play(plays(3), wanted)
    assert [episode.status for episode in episodes] == [Status.OK, Status.ENV_ERROR, Status.OK]
    assert episodes[1].failure is not None
    assert episodes[1].failure.message == "reset: SystemExit: 4"
    with pytest.warns(RuntimeWarning, match="closing the environment of episode .* failed: SystemExit"):
        assert [each.status for each in play(plays(2), players(renderer, Stage(at("close", "t1", lambda: sys.exit(5)))))] == [Status.OK] * 2
