"""Calls that hang: each is given up at its own deadline, its episode is recorded, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from agentdistill.clock import InlineExecutor, ManualClock, ThreadExecutor
from agentdistill.env import EnvConfig
from agentdistill.errors import PolicyError
from agentdistill.policy.scripted import ScriptedPolicy
from agentdistill.render import Renderer
from agentdistill.rollout import play
from agentdistill.types import Episode, Failure, Limits, Status, StopReason

from .test_play import timeless
from .toys import Count, Impatient, Stage, at, players, plays

Make = Callable[[int], Impatient]


def drained(executor: Impatient) -> None:
    """Let go of what hangs and wait until its threads are through."""
    executor.gate.set()
    executor.close()
    for thread in executor._threads:
        thread.join(5)


@pytest.mark.parametrize(("moment", "turn"), [("reset", None), ("step", 0)])
def test_a_call_that_hangs_fails_its_episode_at_the_deadline(
    renderer: Renderer, clock: ManualClock, impatient: Make, moment: str, turn: int | None
) -> None:
    executor = impatient(2)
    stage = Stage(at(moment, "t1", executor.hang))
    episodes = play(plays(3), players(renderer, stage, executor=executor, clock=clock, call_timeout=5.0, retries=0))
    told = "the environment did not answer within 5 s"
    assert episodes[1].failure == Failure(stage=moment, type="EnvError", message=told, turn=turn)
    assert (episodes[1].status, episodes[1].stop) == (Status.ENV_ERROR, StopReason.ERROR)
    assert timeless([episodes[0], episodes[2]]) == timeless(play(plays(3), players(renderer))[::2])
    assert clock.now() == 105.0


def test_an_environment_whose_call_hangs_is_closed_at_once_and_again_when_the_call_comes_back(
    renderer: Renderer, clock: ManualClock, impatient: Make
) -> None:
    executor = impatient(1)
    stage = Stage(at("step", "t0", executor.hang))
    play(plays(1), players(renderer, stage, executor=executor, clock=clock, call_timeout=5.0, retries=0))
    assert stage.closed == [1]
    drained(executor)
    assert stage.closed == [2]


def test_an_environment_that_is_built_too_late_is_closed_too(renderer: Renderer, clock: ManualClock, impatient: Make) -> None:
    executor = impatient(1)
    stage = Stage()
    wanted = players(renderer, stage, executor=executor, clock=clock, call_timeout=5.0, retries=0)

    def make() -> Count:
        executor.hang()
        return stage.make()

    wanted.make_env = make
    (episode,) = play(plays(1), wanted)
    assert episode.status is Status.ENV_ERROR
    assert stage.envs == []
    drained(executor)
    assert stage.closed == [1]


def test_time_spent_waiting_for_a_thread_is_not_held_against_a_call(renderer: Renderer, clock: ManualClock, impatient: Make) -> None:
    def trouble(moment: str, env: Count) -> None:
        clock.advance(4.0 if moment != "close" else 0.0)  # of 5 that are allowed

    executor = impatient(1)
    episodes = play(plays(4), players(renderer, Stage(trouble), executor=executor, clock=clock, call_timeout=5.0, retries=0))
    assert [episode.status for episode in episodes] == [Status.OK] * 4
    assert {turn.timing.env for episode in episodes for turn in episode.turns} == {4.0}


def test_threads_that_hang_are_made_up_for_and_those_that_waited_are_played(
    renderer: Renderer, clock: ManualClock, impatient: Make
) -> None:
    executor = impatient(2)
    stage = Stage(lambda moment, env: executor.hang() if moment == "reset" and env.task.id in ("t0", "t1") else None)
    wanted = players(renderer, stage, executor=executor, clock=clock, call_timeout=5.0, retries=0)
    first = play(plays(4), wanted)
    assert [episode.status for episode in first] == [Status.ENV_ERROR] * 2 + [Status.OK] * 2
    assert [episode.failure and episode.failure.message for episode in first[:2]] == ["the environment did not answer within 5 s"] * 2
    stage.trouble = lambda moment, env: None
    assert [episode.status for episode in play(plays(4), wanted)] == [Status.OK] * 4, "a later call has its threads too"
    drained(executor)


def test_a_thread_that_gets_free_serves_those_that_wait(renderer: Renderer, clock: ManualClock, impatient: Make) -> None:
    executor = impatient(1)
    stage = Stage(at("reset", "t0", executor.hang))

    def on_episode(episode: Episode) -> None:
        executor.gate.set()  # closing the environment freed its thread

    wanted = players(renderer, stage, executor=executor, clock=clock, call_timeout=5.0, retries=0)
    episodes = play(plays(3), wanted, on_episode=on_episode)
    assert [episode.status for episode in episodes] == [Status.ENV_ERROR, Status.OK, Status.OK]


def test_a_second_try_has_a_deadline_of_its_own(renderer: Renderer, clock: ManualClock, impatient: Make) -> None:
    executor = impatient(2)
    stage = Stage(at("step", "t0", executor.hang))
    (episode,) = play(plays(1), players(renderer, stage, executor=executor, clock=clock, call_timeout=5.0, retries=1))
    assert episode.failure is not None
    assert episode.failure.attempts == ("the environment did not answer within 5 s",)
    assert clock.now() == 110.0


def test_a_call_that_came_back_while_its_deadline_passed_counts(renderer: Renderer, clock: ManualClock) -> None:
    class Unlucky(InlineExecutor):
        """Wakes up with nothing, at the deadline, just before the call is done."""

        missed = 0

        def wait_any(self, futures: Sequence[Future[Any]], timeout: float | None = None) -> Sequence[Future[Any]]:
            if timeout:
                self.missed += 1
                clock.advance(timeout)
                return []
            return super().wait_any(futures, timeout)

    executor = Unlucky()
    (episode,) = play(plays(1), players(renderer, executor=executor, clock=clock, call_timeout=5.0, retries=0))
    assert episode.status is Status.OK
    assert executor.missed == 3


def test_without_a_deadline_a_slow_call_is_waited_for(renderer: Renderer, clock: ManualClock, impatient: Make) -> None:
    stage = Stage(lambda moment, env: clock.advance(1e6))
    executor = ThreadExecutor(1)
    (episode,) = play(plays(1), players(renderer, stage, executor=executor, clock=clock))
    executor.close()
    assert episode.status is Status.OK


def test_a_policy_that_fails_leaves_no_environment_open_even_where_calls_are_under_way(
    renderer: Renderer, clock: ManualClock, impatient: Make
) -> None:
    executor = impatient(2)
    stage = Stage(at("reset", "t1", executor.hang))
    policy = ScriptedPolicy(lambda request, rng: 1 / 0, renderer)  # type: ignore[arg-type,return-value]
    with pytest.raises(PolicyError, match="ZeroDivisionError"):
        play(plays(3), players(renderer, stage, executor=executor, clock=clock, policies={"student": policy}, overlap=True))
    drained(executor)
    assert {env.task.id for env in stage.envs} >= {"t0", "t1"}
    assert all(stage.closed)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_environment_that_ends_itself_in_time_is_cut_by_the_limit_of_task_or_configuration(
    renderer: Renderer, clock: ManualClock, workers: int
) -> None:
    def trouble(moment: str, env: Count) -> None:
        clock.advance(1.0 if moment == "step" else 0.0)

    for config, limits in ((EnvConfig(time_limit=2.5), Limits()), (EnvConfig(time_limit=99.0), Limits(seconds=2.5))):
        stage = Stage(trouble, config=config, clock=clock)
        executor = {"executor": ThreadExecutor(workers)} if workers else {}
        (episode,) = play(plays(1, turns=8, limits=limits), players(renderer, stage, clock=clock, **executor))
        assert (episode.stop, episode.status, episode.success) == (StopReason.TIME_LIMIT, Status.TRUNCATED, False)
        assert len(episode.turns) == 3
