"""The contract, and the rules of this world."""

import numpy as np
from agentdistill.env import check_env
from agentdistill.types import Message, ToolCall

from my_world import MyWorldEnv, MyWorldExpert
from my_world.tasks import SPLITS, trail_of


def play(expert: MyWorldExpert, index: int) -> tuple[float, int]:
    """(return, turns) of one episode."""
    env = MyWorldEnv()
    env.reset(options={"task": env.load_tasks(env.config, "test")[index]})
    rng, total = np.random.default_rng(index), 0.0
    while not env.over:
        total += env.step(expert.act(env.task, tuple(env.messages), rng))[1]
    return total, env.turn


def test_the_environment_keeps_its_contract() -> None:
    check_env(MyWorldEnv)


def test_the_expert_needs_one_turn_a_box_and_one_for_the_answer() -> None:
    tasks = MyWorldEnv.load_tasks(MyWorldEnv.Config(), "test")
    for index in range(20):
        assert play(MyWorldExpert(), index) == (1.0, len(trail_of(tasks[index])) + 1)


def test_bad_habits_cost_success() -> None:
    clumsy = MyWorldExpert(**MyWorldEnv.bad_habits)
    assert sum(play(clumsy, index)[0] for index in range(50)) < 20


def test_no_trail_is_in_two_splits() -> None:
    config = MyWorldEnv.Config()
    trails = [trail_of(task) for split in SPLITS for task in MyWorldEnv.load_tasks(config, split)]
    assert len(trails) == len(set(trails)) > 2000


def test_a_box_off_the_trail_is_empty_and_a_wrong_answer_ends_the_episode() -> None:
    env = MyWorldEnv()
    env.reset(seed=1)
    stray = next(box for box in "abcdefgh" if box not in env.trail)
    said, reward, *_ = env.step(Message.assistant("", ToolCall(id="1", name="look", arguments={"box": stray})))
    assert (said[0].content, reward) == ("the box is empty", 0.0)
    assert env.step("no idea")[1:3] == (0.0, True)
