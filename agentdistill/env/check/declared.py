"""What an environment says of itself before anything is played: its name, spaces and tools, and its task sets."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from agentdistill.env.base import SPLITS
from agentdistill.env.check import hooks
from agentdistill.env.check.promises import FOREIGN, Promises
from agentdistill.errors import TaskError
from agentdistill.types import Message, Task, ToolSpec


def declaration(check: Promises) -> None:
    """Name, spaces, tools."""
    if not re.fullmatch(r"[\w.-]+", check.kind.name):
        check.broken(f"its name is {check.kind.name!r}", "set the class attribute 'name' to the name of its entry point")
    hooks.kinds(check)
    env = check.make()
    remedy = "leave the spaces that AgentEnv.__init__ sets, or use MessageSpace"
    for space, who, message in ((env.action_space, "action", Message.assistant("é数🙂")), (env.observation_space, "observation", ())):
        with check.guarded(f"asking its {who} space", remedy):
            if message not in space:
                check.broken(f"its {who} space does not hold messages", remedy)
    _tools(check, check.tools(env))
    hooks.tool_kinds(check, env)


def _tools(check: Promises, tools: Any) -> None:
    if not isinstance(tools, tuple) or not all(isinstance(tool, ToolSpec) for tool in tools):
        check.broken("'tools' is not a tuple of ToolSpec", "return a tuple of ToolSpec, or use ToolEnv and @tool")
    names = [tool.name for tool in tools]
    if len(set(names)) != len(names):
        check.broken(f"two tools have one name: {', '.join(names)}", "rename one")
    for tool in tools:
        if tool.parameters.get("type") != "object" or not isinstance(tool.parameters.get("properties"), dict):
            check.broken(f"the parameters of tool {tool.name!r} are no JSON schema of an object", "use ToolEnv and @tool, which derive it")
        if not tool.description:
            check.broken(f"tool {tool.name!r} has no description", "write a docstring: it is all that the model is told")


def task_sets(check: Promises) -> None:
    """Every split: there, the same each time, and apart from the others."""
    seen: dict[str, str] = {}
    for split in SPLITS:
        tasks = check.tasks(split)
        with check.reading(f"reading the tasks of {split!r}"):
            if tasks.hash != check.tasks(split).hash:
                check.broken(
                    f"loading {split!r} twice gives different tasks", "make tasks a function of the configuration and the split alone"
                )
            for task in tasks:
                _task(check, task, split)
                if seen.setdefault(task.id, split) != split:
                    _in_two(check, task, seen[task.id], split)
    _unknown_split(check)


def _task(check: Promises, task: Any, split: str) -> None:
    if not isinstance(task, Task):
        check.broken(f"the tasks of {split!r} hold a {type(task).__name__}", "put agentdistill.types.Task into the TaskSet")
    if task.env != check.kind.name:
        check.broken(f"task {task.id!r} of {split!r} says env={task.env!r}", f"set Task.env to {check.kind.name!r}")
    if not task.prompt or task.prompt[-1].role == "assistant":
        check.broken(f"the prompt of task {task.id!r} of {split!r} leaves nothing to answer", "end it with a message of the user's")


def _in_two(check: Promises, task: Task, first: str, second: str) -> NoReturn:
    promise, remedy = f"task {task.id!r} is in {first!r} and in {second!r}", "keep the splits apart: give no task to two"
    if check.configured:
        raise TaskError(f"the tasks chosen for environment {check.name!r}: {promise}; {remedy}")
    check.broken(promise, remedy)


def _unknown_split(check: Promises) -> None:
    remedy = f"raise TaskError naming {', '.join(SPLITS)}"
    try:
        check.kind.load_tasks(check.config, "no-such-split")
    except TaskError as error:
        if not all(split in str(error) for split in SPLITS):
            check.broken(f"the error for an unknown split does not name the valid ones: {error}", remedy)
    except FOREIGN as error:
        check.broken(f"load_tasks with an unknown split raised {type(error).__name__}", remedy, error)
    else:
        check.broken("load_tasks accepts an unknown split", remedy)
