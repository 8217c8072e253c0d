"""check_env passes good environments, and names the broken promise and its remedy for bad ones."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from agentdistill_envs.math import MathConfig, MathEnv

from agentdistill.env import AgentEnv, Reply, check_env
from agentdistill.env.check import hooks
from agentdistill.env.check.actions import call
from agentdistill.errors import ConfigError, PluginError, TaskError
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, ToolSpec, Views

from . import broken_hooks, broken_play, broken_setup
from .breaks import BROKEN
from .toys import Shop, ShopConfig

GALLERIES = (broken_hooks, broken_play, broken_setup)
"""Importing them fills BROKEN."""


def test_a_good_environment_passes_as_class_instance_and_name():
    check_env(Shop)
    check_env(Shop(ShopConfig(max_turns=3)))
    check_env(Shop, config=ShopConfig(tries=1))
    check_env("math", tasks=3)


def test_every_class_of_the_galleries_that_breaks_a_promise_is_tried():
    assert {kind.__module__.rsplit(".", 1)[-1] for kind in BROKEN} == {gallery.__name__.rsplit(".", 1)[-1] for gallery in GALLERIES}
    assert len(BROKEN) > 70


@pytest.mark.parametrize(("kind", "words"), BROKEN.items(), ids=[kind.__name__ for kind in BROKEN])
def test_a_broken_promise_is_named_with_its_remedy(kind, words):
    with pytest.raises(PluginError, match=words):
        check_env(kind)


def test_calls_to_the_end_are_ones_that_the_schema_allows():
    properties = {
        "kind": {"enum": ["pen", "cup"]},
        "count": {"type": "integer"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "fixed": {"const": 3},
        "odd": True,
        "rest": {"type": "array", "default": ["a"]},
    }
    said = call(ToolSpec(name="buy", description="Buys.", parameters={"type": "object", "properties": properties}))
    assert said.tool_calls[0].name == "buy"
    assert said.tool_calls[0].arguments == {"kind": "pen", "count": 1, "note": "x", "fixed": 3, "odd": None, "rest": ["a"]}


def test_an_environment_without_an_expert_passes():
    class Alone(Shop):
        @classmethod
        def expert(cls, config, *, flaws=None):
            raise NotImplementedError

    check_env(Alone)


def test_what_is_no_environment_is_refused():
    with pytest.raises(PluginError, match=r"derive it from agentdistill.env.AgentEnv"):
        check_env(dict)
    with pytest.raises(ConfigError, match=r"no env 'maht'; available: .*math.*did you mean 'math'"):
        check_env("maht")


def test_files_that_the_user_chose_and_that_are_bad_are_the_users_to_mend(tmp_path):
    with pytest.raises(TaskError, match=r"no task file .*nope\.jsonl"):
        check_env(MathEnv, config=MathConfig(tasks=str(tmp_path / "no" / "nope.jsonl")))
    rows = [json.dumps({"id": f"row-{index}", "question": f"{index}+1?", "answer": f"#### {index + 1}"}) for index in range(4)]
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    with pytest.raises(
        TaskError, match="tasks chosen for environment 'math': task 'row-0' is in 'train' and in 'val'; keep the splits apart"
    ):
        check_env(MathEnv, config=MathConfig(tasks=str(tmp_path)))


def test_a_bad_row_that_is_only_read_when_its_task_is_wanted_is_the_users_too():
    class Lazy(Shop):
        @classmethod
        def load_tasks(cls, config, split):
            super().load_tasks(config, split)

            def make(index):
                raise TaskError(f"{config.tasks}:{index + 1}: no day")

            return TaskSet.from_source("shop", make, 3, split=split)

    with pytest.raises(TaskError, match=r"^mine\.jsonl:1: no day$"):
        check_env(Lazy, config=ShopConfig(tasks="mine.jsonl"))
    with pytest.raises(PluginError, match="reading the tasks of 'train' raised TaskError: nano:1: no day; return a TaskSet"):
        check_env(Lazy)


def test_every_environment_that_was_made_is_closed_again():
    opened = []

    class Door(Shop):
        def __init__(self, config=None, **kwargs):
            super().__init__(config, **kwargs)
            opened.append(self)

        def close(self):
            if self in opened:
                opened.remove(self)

    check_env(Door)
    assert opened == []


def test_an_environment_without_render_modes_passes():
    class Plain(Shop):
        metadata = {"render_modes": []}  # noqa: RUF012

        def render(self):
            raise NotImplementedError

    check_env(Plain)


def test_a_long_episode_is_played_for_a_while_only():
    class Patient(Shop):
        def answer(self, message):
            right = message.content == self.task.answer
            return Reply(parts={"answer": float(right)}, done=right, success=right or None)

    check_env(Patient, config=ShopConfig(max_turns=10**6), tasks=1)


def test_an_observation_outside_its_space_is_refused():
    class Verbose(AgentEnv):
        name = "shop"
        load_tasks = Shop.load_tasks

        def respond(self, message):
            return Reply(messages=(Message.user("x" * (1 << 21)),))

    with pytest.raises(PluginError, match="outside the observation space; raise the bounds"):
        check_env(Verbose)


class Lottery(Shop):
    """Pays for half of the right answers."""

    promise = 0.5

    def answer(self, message: Message) -> Reply:
        if not message.content.strip().isdigit():
            return super().answer(message)
        won = bool(self.np_random.random() < 0.5)
        return Reply(parts={"luck": float(won)}, done=True, success=won)

    def views(self) -> Views:
        return Views(value=0.0 if self.over else self.promise)


class CrookedLottery(Lottery):
    promise = 0.9


def test_a_value_is_an_expectation_where_chance_has_a_part():
    check_env(Lottery)
    with pytest.raises(PluginError, match=r"promises a value of 0.9 .* gets 0\.\d\d on average over 64 seeds"):
        check_env(CrookedLottery)


def test_a_call_that_hangs_is_named_with_the_line_where_it_is(monkeypatch):
    class Hanging(Shop):
        def answer(self, message):
            while True:
                pass

    real = hooks.patience
    monkeypatch.setattr(hooks, "patience", lambda check, doing: real(check, doing, 0.3))
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(PluginError, match=r"step on .* has not returned for 0.3 s \(it is at .*test_check\.py:\d+\); bound its loops"):
        check_env(Hanging)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_outside_the_main_thread_it_is_checked_without_a_limit():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(check_env, Shop, tasks=1).result() is None
