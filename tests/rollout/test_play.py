"""Many episodes at once: the record, its order, and that neither threads nor places change it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from agentdistill.clock import InlineExecutor, ManualClock, ThreadExecutor
from agentdistill.policy.protocol import Request
from agentdistill.policy.scripted import ScriptedPolicy
from agentdistill.render import Renderer
from agentdistill.rollout import plan, play
from agentdistill.rollout.play import Players
from agentdistill.types import Episode, Message, Sampling, Status, StopReason, Timing

from .toys import Count, Stage, chatter, players, plays, tasks


def timeless(episodes: list[Episode]) -> list[Episode]:
    """Without the seconds, which no two plays share."""
    return [
        episode.model_copy(update={"turns": tuple(turn.model_copy(update={"timing": Timing()}) for turn in episode.turns)})
        for episode in episodes
    ]


def test_an_episode_records_what_was_played(renderer: Renderer) -> None:
    stage = Stage()
    (wanted,) = plays(1, turns=2)
    (episode,) = play([wanted], players(renderer, stage, versions={"env": "count"}))
    (env,) = stage.envs
    first, second = episode.turns
    assert (episode.id, episode.group, episode.task, episode.seed) == (wanted.id, wanted.group, wanted.task, wanted.seed)
    assert (episode.stop, episode.status, episode.success) == (StopReason.COMPLETED, Status.OK, True)
    assert episode.prompt == wanted.task.prompt
    assert list(episode.messages()) == env.messages
    assert [turn.completion.message for turn in episode.turns] == env.heard
    assert (first.anchor, second.anchor) == ("t0/0", "t0/1"), "the state before the turn"
    assert episode.reward == first.reward + second.reward
    assert episode.reward_parts == {"luck": episode.reward - 2, "turn": 2.0}
    assert episode.versions == {"env": "count"}
    assert (first.author, second.author) == ("student", "student")


def test_the_record_holds_the_tokens_that_the_policy_was_asked_with(renderer: Renderer) -> None:
    asked: list[Request] = []

    def act(request: Request, rng: Any) -> str:
        asked.append(request)
        return "7"

    (episode,) = play(plays(1, turns=3), players(renderer, policies={"student": ScriptedPolicy(act, renderer)}))
    seen: list[int] = []
    for request, turn in zip(asked, episode.turns, strict=True):
        assert request.context_ids == turn.context_ids
        assert request.prefix_length == len(seen)
        seen += [*turn.context_ids, *turn.completion.token_ids]
    assert len(seen) == episode.tokens
    assert [request.turn for request in asked] == [0, 1, 2]
    assert len({request.key for request in asked}) == 3
    text = renderer.decode(seen)
    assert text.startswith(renderer.decode(renderer.start(episode.prompt).context()))
    assert [len(request.messages) for request in asked] == [1, 3, 5]


def test_equal_plays_give_equal_episodes_and_another_seed_does_not(renderer: Renderer) -> None:
    one, two = (timeless(play(plays(4), players(renderer))) for _ in range(2))
    assert one == two
    other = play(plays(4, seed=1), players(renderer))
    assert not {episode.reward for episode in one} & {episode.reward for episode in other}, "the environment's chance"
    words = [{str(turn.completion.message.content) for episode in played for turn in episode.turns} for played in (one, other)]
    assert words[0] != words[1], "the player's chance"


def test_siblings_play_the_task_with_chance_of_their_own(renderer: Renderer) -> None:
    episodes = play(plays(1, group_size=4), players(renderer))
    assert len({episode.reward for episode in episodes}) == 4
    assert {episode.group for episode in episodes} == {"train-0-0"}


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("in_flight", [1, 3, 128])
def test_threads_and_places_change_nothing(renderer: Renderer, workers: int, in_flight: int) -> None:
    wanted = plays(6, turns=3, group_size=2)
    executor = ThreadExecutor(workers)
    inline, threaded = (players(renderer, in_flight=in_flight, **more) for more in ({}, {"executor": executor}))
    assert timeless(play(wanted, threaded)) == timeless(play(wanted, inline)) == timeless(play(wanted, players(renderer)))
    executor.close()


def test_results_come_in_the_order_of_the_plays_and_on_episode_in_that_of_finishing(renderer: Renderer) -> None:
    over = [threading.Event() for _ in range(4)]

    def trouble(moment: str, env: Count) -> None:  # each waits for the one behind it
        number = int(env.task.id[1:])
        if moment == "step" and number < 3:
            assert over[number + 1].wait(5)

    finished: list[str] = []

    def on_episode(episode: Episode) -> None:
        finished.append(episode.task.id)
        over[int(episode.task.id[1:])].set()

    executor = ThreadExecutor(4)
    episodes = play(plays(4, turns=1), players(renderer, Stage(trouble), executor=executor, overlap=True), on_episode=on_episode)
    executor.close()
    assert [episode.task.id for episode in episodes] == ["t0", "t1", "t2", "t3"]
    assert finished == ["t3", "t2", "t1", "t0"]


@pytest.mark.parametrize("workers", [1, 3])
def test_without_overlap_threads_leave_no_trace_in_what_the_policy_sees(renderer: Renderer, workers: int) -> None:
    def batches(executor: Any) -> list[list[str]]:
        seen: list[list[str]] = []

        def trouble(moment: str, env: Count) -> None:
            if moment == "step":
                time.sleep(0.002 * (int(env.task.id[1:]) % 3))  # those behind are done before those in front

        policy = ScriptedPolicy(lambda request, rng: "7", renderer)
        submit, advance = policy.submit, policy.advance
        now: list[str] = []

        def submitted(request: Request) -> None:
            now.append(request.id)
            submit(request)

        def advanced() -> Any:
            seen.append(list(now))
            now.clear()
            return advance()

        policy.submit, policy.advance = submitted, advanced  # type: ignore[method-assign]
        play(plays(5, turns=2), players(renderer, Stage(trouble), executor=executor, policies={"student": policy}))
        executor.close()
        return seen

    assert batches(ThreadExecutor(workers)) == batches(InlineExecutor())


def test_no_more_are_in_flight_than_allowed_and_a_free_place_is_taken_while_others_wait(renderer: Renderer) -> None:
    stage = Stage()
    most, done = [0], threading.Event()

    def trouble(moment: str, env: Count) -> None:
        most[0] = max(most[0], len(stage.envs) - sum(stage.closed))
        if moment == "reset" and env.task.id == "t0":
            assert done.wait(5), "the others are played although one is still at its reset"

    def on_episode(episode: Episode) -> None:
        if episode.task.id == "t5":
            done.set()

    stage.trouble = trouble
    executor = ThreadExecutor(2)
    episodes = play(plays(6, turns=1), players(renderer, stage, executor=executor, in_flight=2, overlap=True), on_episode=on_episode)
    executor.close()
    assert [episode.status for episode in episodes] == [Status.OK] * 6
    assert len(stage.envs) == 6, "nobody waited in vain"
    assert most == [2]


def test_seconds_are_those_of_the_environment_and_of_the_player(renderer: Renderer, clock: ManualClock) -> None:
    def trouble(moment: str, env: Count) -> None:
        clock.advance({"reset": 7.0, "step": 2.0, "close": 0.0}[moment])

    def act(request: Request, rng: Any) -> str:
        clock.advance(3.0)
        return "7"

    wanted = players(renderer, Stage(trouble), policies={"student": ScriptedPolicy(act, renderer)}, clock=clock)
    (episode,) = play(plays(1), wanted)
    assert [turn.timing for turn in episode.turns] == [Timing(policy=3.0, env=2.0)] * 2


def test_each_author_plays_with_the_policy_of_that_name(renderer: Renderer) -> None:

    wanted = plan(tasks(20, turns=1), seed=0, kind="train", step=0, shares={"student": 0.5, "expert": 0.5})
    expert = ScriptedPolicy.saying(["expert here"], renderer)
    episodes = play(wanted, players(renderer, policies={"student": chatter(renderer), "expert": expert}))
    for each, episode in zip(wanted, episodes, strict=True):
        assert episode.turns[0].author == each.author
        assert (episode.turns[0].completion.message == Message.assistant("expert here")) == (each.author == "expert")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"in_flight": 0}, "at least 1"), ({"policies": {}}, "no policy of author 'student'")],
)
def test_what_cannot_be_played_is_refused_before_anything_is_opened(renderer: Renderer, change: dict[str, Any], sentence: str) -> None:
    stage = Stage()
    wanted: Players = players(renderer, stage, **change)
    with pytest.raises(ValueError, match=sentence):
        play(plays(2), wanted)
    with pytest.raises(ValueError, match="two plays have the id 'train-0-0-0'"):
        play(plays(1) * 2, players(renderer, stage))
    assert stage.envs == []


def test_nothing_to_play_gives_nothing(renderer: Renderer) -> None:
    assert play([], players(renderer)) == []


def test_the_sampling_settings_reach_the_policy(renderer: Renderer) -> None:
    (episode,) = play(plays(1), players(renderer, sampling=Sampling(temperature=0.0, max_new_tokens=5)))
    assert {turn.completion.sampling for turn in episode.turns} == {Sampling(temperature=0.0, max_new_tokens=5)}
