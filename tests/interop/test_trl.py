"""Our environments for TRL, by the shape that its trainers ask for."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import pytest
from agentdistill_envs.math import MathEnv
from transformers.utils import get_json_schema

from agentdistill.env import EnvConfig, Reply, ToolEnv, tool
from agentdistill.errors import ConfigError, TaskError
from agentdistill.interop.trl import make_trl_environment, tool_method_name, trl_hand_in, trl_rows
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task


class Desk(ToolEnv):
    """Tools with all kinds of parameters."""

    name = "desk"
    config: EnvConfig

    @classmethod
    def load_tasks(cls, config: Any, split: str) -> TaskSet:
        return TaskSet("desk", [Task(id="a", env="desk", prompt=(Message.user("Hi"),))], split=split)

    def begin(self, task: Task) -> tuple[Message, ...]:
        return (Message.system("Rules."), Message.user(f"State {task.id}."))

    @tool
    def file(
        self,
        what: Literal["a", "b"],
        note: str | None = None,
        sizes: list[int] = [1],  # noqa: B006
        many: dict[str, float] | int = 2,
        up: bool = False,
    ) -> str:
        """File a thing.

        Args:
            what: which
            sizes: how large
        """
        return f"{what} {note} {sizes} {many} {up}"

    @tool
    def submit(self) -> str:
        """Begin again."""
        return "again"

    def answer(self, message: Message) -> Reply:
        return Reply(parts={"said": float(message.content == "done")}, done=True, success=True)


def public(kind: type) -> set[str]:
    """What TRL takes for tools."""
    members = inspect.getmembers(kind, predicate=inspect.isfunction)
    return {name for name, _ in members if not name.startswith("_") and name not in ("reset", "get_reward")}


def test_tools_are_methods_whose_schema_transformers_reads_as_ours():
    kind = make_trl_environment("math")
    assert public(kind) == {"calculator", "submit"}
    told = get_json_schema(kind().calculator)["function"]
    assert told["name"] == "calculator"
    assert told["description"] == "Does one operation."
    assert told["parameters"] == dict(MathEnv().tools[0].parameters)
    assert get_json_schema(kind().submit)["function"]["parameters"]["required"] == ["answer"]


def test_an_episode_is_played_by_calls_and_paid():
    rows = trl_rows("math", 3, split="val")
    env = make_trl_environment("math")()
    assert env.reset(**rows[0]) is None
    assert env.calculator(expression="2+3") == "5"
    assert env.calculator("2*4") == "8"
    assert "Error" in env.calculator(expression="two")
    assert env.get_reward() == 0.0
    answer = str(MathEnv.load_tasks(MathEnv.Config(), "val")[0].answer)
    assert env.submit(answer=answer) == "The episode is over."
    assert env.get_reward() == 1.0
    assert env.calculator("1+1") == "The episode is over."
    env.reset(**rows[1])
    assert env.get_reward() == 0.0


def test_a_last_message_without_calls_is_handed_in_as_the_answer():
    kind = make_trl_environment("math", {"tries": 1})
    rows = trl_rows("math", 5)
    answers = [str(task.answer) for task in MathEnv.load_tasks(MathEnv.Config(), "train").take(5)]
    environments = [kind() for _ in rows]
    for env, row in zip(environments, rows, strict=True):
        env.reset(**row)
    completions = [
        [{"role": "assistant", "content": answers[0]}],
        [{"role": "assistant", "content": [{"type": "text", "text": answers[1]}]}],
        answers[2],
        [{"role": "assistant", "content": "x", "tool_calls": [{}]}],
        [{"role": "assistant", "content": None}],
    ]
    assert trl_hand_in(environments=environments, completions=completions, prompts=[]) == [0.0] * 5
    assert [env.get_reward() for env in environments] == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert [env._env.over for env in environments] == [True, True, True, False, True]


def test_optional_and_nested_parameters_and_names_that_are_taken():
    kind = make_trl_environment(Desk)
    assert public(kind) == {"file", "submit_", "submit"}
    env = kind()
    assert env.reset(**trl_rows(Desk, 1)[0]) == "State a."
    signature = inspect.signature(kind.file)
    assert list(signature.parameters) == ["self", "what", "note", "sizes", "many", "up"]
    assert signature.parameters["what"].annotation == Literal["a", "b"]
    assert signature.parameters["sizes"].default is None, "left out, so that the tool's own default counts"
    schema = get_json_schema(env.file)["function"]["parameters"]
    assert schema["properties"]["what"]["enum"] == ["a", "b"]
    assert schema["properties"]["sizes"]["items"] == {"type": "integer"}
    assert schema["required"] == ["what"]
    assert env.file("b", sizes=[3, 4]) == "b None [3, 4] 2 False"
    assert env.submit_() == "again"


def test_a_row_without_a_task_draws_one_and_a_foreign_task_is_refused():
    env = make_trl_environment(Desk)()
    assert env.reset(prompt=[]) == "State a."
    with pytest.raises(TaskError, match="make rows with trl_rows"):
        env.reset(**trl_rows("math", 1)[0])
    with pytest.raises(TaskError, match="cannot be played by 'desk'"):
        env.reset(task="{}")
    with pytest.raises(ConfigError, match="did you mean 'math'"):
        make_trl_environment("maht")


def test_names_of_tools_become_names_of_methods():
    names = {"a-b": "a_b", "submit": "submit_", "1x": "tool_1x", "_x": "tool_x", "class": "tool_class"}
    assert {name: tool_method_name(name) for name in names} == names
