"""VerifiersEnv: a task of a taskset of verifiers, one answer, and the taskset's own rewards.

    system     <task.data.system_prompt>
    user       <task.data.prompt>
    assistant  the answer                     await task.score(trace): the end

Without harness, without runtime: a conversation becomes a trace, and the rewards that need no runtime are computed from it.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from agentdistill.env import AgentEnv, EnvConfig, Observation, Reply
from agentdistill.errors import ConfigError, EnvError
from agentdistill.interop.verifiers.load import Loaded, load, prompt_of
from agentdistill.interop.verifiers.score import rewards
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task, ToolCall, ToolResult, Views


class VerifiersConfig(EnvConfig):
    """What env=verifiers can be told."""

    taskset: str = ""
    """Id of an installed taskset, or a module that exports one, as verifiers resolves it."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of the taskset's own config."""
    count: int = Field(default=1000, ge=3)
    """Tasks that are read at most; eight of ten are train, one is val, one is test."""
    score_timeout: float = Field(default=120.0, gt=0)
    """Seconds that the rewards of an episode may take."""
    success_at: float = 1.0
    """Reward from which on an episode counts as success."""


class VerifiersEnv(AgentEnv):
    """Tasks of verifiers."""

    Config = VerifiersConfig
    name = "verifiers"
    config: VerifiersConfig

    @classmethod
    def load_tasks(cls, config: VerifiersConfig, split: str) -> TaskSet:
        loaded = _loaded(config)
        return TaskSet(config.taskset, [_task(loaded, index) for index in loaded.indices(split)], split=split)

    def begin(self, task: Task) -> Observation:
        loaded, index = _loaded(self.config), task.data["index"]
        assert isinstance(index, int), "made by _task"
        self._foreign = loaded.tasks[index] if index < len(loaded.tasks) else None
        if self._foreign is None or self._foreign.hash != task.data["hash"]:
            raise EnvError(f"the taskset {self.config.taskset!r} has another task at {index} than when {task.id!r} was made")
        if loaded.skipped:
            _warn_of(self.config.taskset, loaded.skipped)
        return task.prompt

    def respond(self, message: Message) -> Reply:
        if message.tool_calls:
            return _no_tools(message)
        prompt = len(self.task.prompt)
        parts = rewards(self._foreign, self.messages[:prompt], self.messages[prompt:], self.config.score_timeout)
        success = sum(parts.values()) >= self.config.success_at - 1e-9
        return Reply(parts=parts, done=True, success=success)

    def views(self) -> Views:
        answer = self.task.answer
        return Views(answer=None if answer is None else str(answer))


def _loaded(config: VerifiersConfig) -> Loaded:
    if not config.taskset:
        raise ConfigError("env 'verifiers' needs a taskset: set env.taskset to the id of an installed one, or to a module")
    return load(config.taskset, config.options, config.count)


def _task(loaded: Loaded, index: int) -> Task:
    foreign = loaded.tasks[index]
    return Task(
        id=f"{index}-{foreign.data.id or foreign.hash[:12]}",
        env="verifiers",
        prompt=prompt_of(foreign),
        answer=_plain(getattr(foreign.data, "answer", None)),
        data={"index": index, "hash": foreign.hash},
    )


def _plain(answer: Any) -> JsonValue:
    try:
        found: JsonValue = TypeAdapter(JsonValue).validate_python(answer)
    except ValidationError:
        return None
    return found


def _no_tools(message: Message) -> Reply:
    """There are none, and each call is told so."""
    results = tuple(_told(call) for call in message.tool_calls)
    return Reply(messages=tuple(Message.tool(result) for result in results), tool_results=results)


def _told(call: ToolCall) -> ToolResult:
    if call.error is not None:
        return ToolResult(call_id=call.id, name=call.name, content=f"Error: malformed tool call: {call.error}", error="malformed_call")
    return ToolResult(call_id=call.id, name=call.name, content="Error: there are no tools; reply with the answer", error="unknown_tool")


@lru_cache(maxsize=32)
def _warn_of(taskset: str, skipped: tuple[str, ...]) -> None:
    """Once."""
    told = f"the taskset {taskset!r}: not computed, because they need a runtime: {', '.join(skipped)}"
    warnings.warn(told, RuntimeWarning, stacklevel=3)
