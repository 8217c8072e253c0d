"""Our environments as a Gymnasium vector environment."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from agentdistill.errors import ConfigError
from agentdistill.interop.vector import make_vec
from agentdistill.types import Message


def texts(vec, right: bool) -> list[str]:
    return [str(task.answer) if right and index == 0 else "x" for index, task in enumerate(vec.get_attr("task"))]


def test_the_next_episode_begins_in_the_step_that_ends_the_last():
    vec = make_vec("math", 3, {"tries": 5})
    assert isinstance(vec, gymnasium.vector.VectorEnv)
    first, infos = vec.reset(seed=[1, 2, 3])
    assert first in vec.observation_space
    assert [observation[-1].role for observation in first] == ["user"] * 3
    before = infos["task"][0]
    observations, rewards, over, cut, infos = vec.step(texts(vec, True))
    assert rewards.tolist() == [1.0, 0.0, 0.0]
    assert over.tolist() == [True, False, False]
    assert not cut.any()
    assert infos["final_info"][0]["success"] is True
    assert infos["task"][0] != before
    assert infos["_success"].tolist() == [False, True, True]
    assert infos["success"].tolist() == [None, None, None], "None stays None, and does not become False"
    assert observations[1][0].content == "Wrong. Try again."
    assert observations[0][0].role == "system"
    vec.close()


def test_next_step_spends_a_step_on_a_reset_and_disabled_leaves_it_to_the_caller():
    vec = make_vec("math", 2, autoreset="NEXT_STEP")
    vec.reset(seed=0)
    assert vec.step(texts(vec, True))[2].tolist() == [True, False]
    observations, rewards, over, _, _ = vec.step([Message.assistant("x")] * 2)
    assert (observations[0][0].role, rewards[0], over[0]) == ("system", 0.0, False)
    vec = make_vec("math", 2, autoreset="disabled")
    vec.reset(seed=0)
    over = vec.step(texts(vec, True))[2]
    observations, _ = vec.reset(options={"reset_mask": over})
    assert observations[0][0].role == "system"
    assert np.array_equal(over, [True, False])


def test_seeds_decide_the_episodes():
    told = []
    for _ in range(2):
        vec = make_vec("gymnasium", 2, {"id": "FrozenLake-v1", "count": 9})
        vec.reset(seed=5)
        told.append([vec.step(["down", "right"])[0] for _ in range(4)])
    assert told[0] == told[1]


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'math'"):
        make_vec("maht", 2)
    with pytest.raises(ConfigError, match="at least one"):
        make_vec("math", 0)
    with pytest.raises(ConfigError, match=r"no autoreset mode 'same-step'.*SAME_STEP"):
        make_vec("math", 1, autoreset="same-step")
