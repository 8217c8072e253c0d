"""env=gymnasium plays what strangers wrote, and says what it cannot play."""

from __future__ import annotations

import json
import random

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from agentdistill.env import check_env
from agentdistill.errors import ConfigError, PluginError, TaskError
from agentdistill.interop.gymnasium_env import GymnasiumConfig, GymnasiumEnv
from agentdistill.interop.spoken import NoAction, Speech
from agentdistill.types import Message, ToolCall

WORLDS = "interop.worlds"


def make(cls: str = "", **fields) -> GymnasiumEnv:
    config = GymnasiumConfig(**{"count": 5, **({"id": f"{WORLDS}:{cls}"} if cls else {}), **fields})
    env = GymnasiumEnv(config)
    env.reset(options={"task": GymnasiumEnv.load_tasks(config, "train")[0]})
    return env


@pytest.mark.parametrize("id", ["FrozenLake-v1", "Taxi-v4", "Blackjack-v1", "CliffWalking-v1", "CartPole-v1", "MountainCarContinuous-v0"])
def test_gymnasiums_own_worlds_keep_the_contract_and_play_twenty_episodes(id):
    config = GymnasiumConfig(id=id, count=20)
    check_env(GymnasiumEnv, config=config)
    env = GymnasiumEnv(config)
    ends = 0
    for task in GymnasiumEnv.load_tasks(config, "test"):
        _, info = env.reset(options={"task": task})
        space = env._world.speech.space
        space.seed(task.data["seed"])
        while not env.over:
            info = env.step(str(space.sample()))[4]
            assert "invalid" not in info["reward_parts"]
        ends += info["stop"] is not None
    assert ends == 20


@pytest.mark.parametrize("cls", ["Echo", "Strict", "GlobalChance", "Scalars", "OldGym", "Nested", "Endless", "Huge", "Pictures"])
def test_strangers_worlds_keep_the_contract(cls):
    check_env(GymnasiumEnv, config=GymnasiumConfig(id=f"{WORLDS}:{cls}", count=5, max_turns=9))


def test_a_registered_id_is_found_behind_its_module_with_its_own_arguments_and_step_limit():
    env = make(id=f"{WORLDS}:tests/Echo-v1")
    assert "'halt'" in env.messages[-1].content
    results = [env.step("x") for _ in range(3)]
    assert [result[2:4] for result in results] == [(False, False), (False, False), (False, True)]
    assert results[-1][4]["stop"].truncated
    assert results[-1][4]["success"] is False
    env = make(id=f"{WORLDS}:tests/Echo-v1", kwargs={"word": "whoa"})
    _, reward, over, _, info = env.step("whoa")
    assert (reward, over, info["success"]) == (1.0, True, True)


def test_the_text_goes_in_as_it_is_and_a_refusal_costs_a_turn():
    env = make("Strict")
    observation, reward, over, _, info = env.step("no blanks!")
    assert observation[0].content == "That is no action: letters and digits only"
    assert (reward, over, info["reward_parts"]) == (0.0, False, {"invalid": 0.0})
    assert env.step("stop")[4]["success"] is True


def test_a_reply_that_is_no_action_can_end_the_episode_and_cost():
    env = make(id="FrozenLake-v1", on_invalid="end", invalid_reward=-1.0)
    observation, reward, over, _, info = env.step("hmm")
    assert "left, down, right, up" in observation[0].content
    assert (reward, over, info["success"]) == (-1.0, True, False)


def test_what_the_process_shares_is_as_it_was():
    random.seed(5)
    np.random.seed(5)
    np.random.normal()  # leaves half a pair behind
    before = random.getstate(), str(np.random.get_state())
    env, other = make("GlobalChance"), make("GlobalChance")
    said = [(env.step("x")[0], other.step("x")[0]) for _ in range(4)]
    assert (random.getstate(), str(np.random.get_state())) == before
    assert all(one == two for one, two in said)
    assert len({one[0].content for one, _ in said}) == 4


def test_numpy_scalars_bytes_and_the_worlds_own_verdict():
    env = make("Scalars", success_at=99)
    assert env.messages[-1].content == "café �"
    observation, reward, over, _, info = env.step("end")
    assert (observation[0].content, reward, over, info["success"]) == ("seen", 0.25, True, True)


def test_an_old_gym_is_seeded_stepped_and_cut():
    env = make("OldGym", actions=["a", "b", "c"])
    assert env.messages[-1].content == "left: 3\nstart: 0\ngrid:\n[1, 0]\n[0, 1]"
    assert env.step("I take b")[1] == 0.5
    assert env.step("action: 5")[1] == 0.5
    _, _, over, cut, info = env.step("c")
    assert (over, cut, info["success"]) == (False, True, True)


def test_composite_actions_are_json():
    env = make("Nested", options={"hard": True})
    assert env._world._env.told == {"hard": True}
    assert "where: [3, [0.5, -1]]" in env.messages[-1].content
    assert "JSON object" in env.step("push")[0][0].content
    said = {"move": [2, 3], "push": [[0.5, -1], "ok"], "jump": [1]}
    observation, reward, over, _, _ = env.step(f"So [1] or {{}}: ```{json.dumps(said)}```")
    assert (reward, over) == (1.0, True)
    assert "say: ok" in observation[0].content
    for wrong in ({"move": [2, 4]}, {"push": [[0.5, 2], "ok"]}, {"push": [[1], "ok"]}, {"jump": ["x"]}, {"move": None}, {"push": 3}):
        assert "invalid" in make("Nested").step(json.dumps(said | wrong))[4]["reward_parts"]
    assert "invalid" in make("Nested").step("{" * 4000)[4]["reward_parts"]


def test_an_endless_world_is_cut_and_judged_by_its_return():
    env = make("Endless", max_turns=3, success_at=3)
    results = [env.step("x") for _ in range(3)]
    assert results[-1][3]
    assert results[-1][4]["success"] is True
    env = make("Endless", max_turns=3, success_at=4)
    assert [env.step("x")[4]["success"] for _ in range(3)] == [None, None, False]


@pytest.mark.parametrize(
    ("cls", "kind", "words"),
    [
        ("Raises", RuntimeError, "floor"),
        ("BadStep", Exception, "five things"),
        ("NotANumber", Exception, "must be a number, got str 'much'"),
    ],
)
def test_a_world_that_fails_says_so(cls, kind, words):
    with pytest.raises(kind, match=words):
        make(cls).step("x y")
    with pytest.raises(PluginError, match=words):
        check_env(GymnasiumEnv, config=GymnasiumConfig(id=f"{WORLDS}:{cls}", count=3))


def test_a_reward_that_is_not_finite_is_refused():
    with pytest.raises(Exception, match="finite"):
        make("NotANumber").step("nan")


def test_large_observations_are_summed_up_or_cut():
    env = make("Huge")
    assert env.messages[-1].content == "array of shape 80×80×3, from 0 to 0"
    assert env.step("x")[0][0].content.endswith("[output cut: 4000 of 100000 characters shown]")


def test_a_coloured_drawing_keeps_what_the_colours_say():
    env = make("Pictures")
    assert env.messages[-1].content == "[A]B{blue}C"
    assert make("Pictures", show="both").messages[-1].content == "[A]B{blue}C\n[0, 0]"
    assert make("Pictures", show="observation").messages[-1].content == "[0, 0]"
    assert env.step("about [.5, -0.25]")[1] == 0.25
    assert "invalid" in env.step("3 4")[4]["reward_parts"]
    assert env.step("1 1")[3]


def test_calls_of_tools_that_it_does_not_have_are_answered():
    observation, *_, info = make("Echo").step(Message.assistant("", ToolCall(id="a", name="x")))
    assert observation[0].role == "tool"
    assert info["tool_results"][0].error == "unknown_tool"


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"id": "FrozenLak-v1"}, ConfigError, "did you mean 'FrozenLake-v1'"),
        ({"id": "no_such_module:X-v0"}, ConfigError, "no module 'no_such_module'"),
        ({"id": "FrozenLake-v1", "kwargs": {"size": 3}}, ConfigError, "cannot be made with env.kwargs={'size': 3}"),
        ({"id": "FrozenLake-v1", "actions": ["a"]}, ConfigError, "1 names, and the space Discrete.4. has 4"),
        ({"id": "FrozenLake-v1", "actions": ["a", "b", "c", "A"]}, ConfigError, "two actions alike"),
        ({"id": f"{WORLDS}:Echo", "actions": ["a"]}, ConfigError, "leave it out"),
        ({"id": f"{WORLDS}:Echo", "show": "ansi"}, ConfigError, "render modes: none"),
        ({"id": f"{WORLDS}:Unsayable"}, ConfigError, "text cannot say the actions"),
        ({"id": f"{WORLDS}:NoSpace"}, ConfigError, "no Gymnasium action_space"),
        ({"id": f"{WORLDS}:Boom"}, PluginError, "OSError: no display"),
        ({"id": f"{WORLDS}:Nope"}, ConfigError, "no Gymnasium environment 'Nope'"),
    ],
)
def test_what_cannot_be_played_is_told_before_anything_is_played(fields, kind, words):
    with pytest.raises(kind, match=words):
        GymnasiumEnv.load_tasks(GymnasiumConfig(**fields), "train")


def test_a_withdrawn_version_plays_as_its_newest_one_with_a_warning():
    with pytest.warns(UserWarning, match="Taxi-v4 is played"):
        GymnasiumEnv.load_tasks(GymnasiumConfig(id="Taxi-v3", kwargs={"is_rainy": True}), "train")


def test_splits_are_apart_and_named():
    config = GymnasiumConfig(count=3)
    seeds = [{task.data["seed"] for task in GymnasiumEnv.load_tasks(config, split)} for split in ("train", "val", "test")]
    assert len(set.union(*seeds)) == 9
    with pytest.raises(TaskError, match="train"):
        GymnasiumEnv.load_tasks(config, "dev")


def test_a_module_that_does_not_import_is_told(tmp_path, monkeypatch):
    (tmp_path / "sour.py").write_text("raise RuntimeError('bad milk')")
    (tmp_path / "wants.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="RuntimeError: bad milk"):
        GymnasiumEnv.load_tasks(GymnasiumConfig(id="sour:X-v0"), "train")
    with pytest.raises(PluginError, match="not_there_at_all"):
        GymnasiumEnv.load_tasks(GymnasiumConfig(id="wants:X-v0"), "train")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("right", 2),
        ("2", 2),
        ("I go right.", 2),
        ("not left. Action: right\nsure", 2),
        ("**Right**", 2),
        ("RIGHT!", 2),
        ("action is: 3", 3),
    ],
)
def test_a_named_action_is_found(text, action):
    assert Speech(spaces.Discrete(4), ("left", "down", "right", "up")).read(text) == action


@pytest.mark.parametrize("text", ["", "left or right", "7", "-1", "2.5", "upright", "1 2", "9" * 60, "1e30"])
def test_a_reply_that_names_none_or_several_is_no_action(text):
    with pytest.raises(NoAction, match=r"one action: left, down, right, up \(or its number, 0 to 3\)"):
        Speech(spaces.Discrete(4), ("left", "down", "right", "up")).read(text)


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([[2, 3]]),
        spaces.Box(-1, 1, (2, 2)),
        spaces.MultiBinary(3),
        spaces.Box(0, 9, (), dtype=np.int64),
        spaces.Discrete(3, start=-1),
    ],
)
def test_every_member_of_a_space_can_be_said(space):
    space.seed(0)
    speech = Speech(space)
    for _ in range(20):
        member = space.sample()
        assert np.array_equal(speech.read(str(np.asarray(member).tolist())), member)
    assert speech.help.startswith("Reply with one") or "numbers" in speech.help
    with pytest.raises(NoAction):
        speech.read("1e400 nothing 0.5")


def test_gymnasium_makes_it_by_our_id():
    env = gymnasium.make("agentdistill/gymnasium-v0", config={"id": "Blackjack-v1"})
    assert env.reset(seed=1)[0][0].role == "system"
