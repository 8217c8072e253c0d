"""The promises that every reset and every step keeps, and how a foreign exception becomes a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.env.base import SPLITS, AgentEnv, EnvConfig
from agentdistill.env.check import hooks
from agentdistill.errors import PluginError, UsageError
from agentdistill.types import Message, Task, ToolResult, ToolSpec, Views

if TYPE_CHECKING:
    from agentdistill.taskset import TaskSet

FOREIGN = (Exception, SystemExit)
"""What an author's code may raise: a ``sys.exit`` in it must not end the process that checks it."""
RESET_KEYS = ("task", "anchor", "views")
STEP_KEYS = ("tool_results", "reward_parts", "stop", "success", "anchor", "views")
_TASK_SET = ("__getitem__", "__iter__", "__len__", "hash", "take")


@dataclass
class Promises:
    """One environment class under test. Raises :class:`PluginError`, with a remedy, where a promise is broken."""

    kind: type[AgentEnv]
    config: EnvConfig
    _made: list[AgentEnv] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.kind.name or self.kind.__name__

    @property
    def configured(self) -> bool:
        """Whether the configuration differs from the defaults, so that its tasks may be the user's own."""
        chosen_by = {"name", "plugin"}
        try:
            return self.config.model_dump(exclude=chosen_by) != self.kind.Config().model_dump(exclude=chosen_by)
        except FOREIGN:
            return True

    def broken(self, promise: str, remedy: str, cause: BaseException | None = None) -> NoReturn:
        raise PluginError(f"environment {self.name!r}: {promise}; {remedy}") from cause

    @contextmanager
    def guarded(self, doing: str, remedy: str, *, let: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Any foreign exception inside is a broken promise, except those to ``let`` through."""
        try:
            with hooks.patience(self, doing):
                yield
        except FOREIGN as error:
            if isinstance(error, (PluginError, *let)):
                raise
            self.broken(f"{doing} raised {type(error).__name__}: {error}", remedy, error)

    def reading(self, doing: str) -> AbstractContextManager[None]:
        """Around whatever loads or makes tasks: an error about the user's own choice of tasks stays what it is."""
        remedy = f"return a TaskSet for each of {', '.join(SPLITS)}"
        return self.guarded(doing, remedy, let=(UsageError,) if self.configured else ())

    # ---- the environment's own parts, guarded ----------------------------------------------------------------------

    def make(self, config: EnvConfig | None = None, *, clock: Clock = SYSTEM_CLOCK, render_mode: str | None = None) -> AgentEnv:
        with self.guarded("building it", "take (config, *, clock, render_mode) and hand them to super().__init__"):
            made = self.kind(config or self.config, clock=clock, render_mode=render_mode)
        self._made.append(hooks.watch(self, made))
        return made

    def close(self) -> None:
        """Close every environment that was made; Gymnasium's checker is the one that complains."""
        for env in self._made:
            with suppress(*FOREIGN):
                env.close()

    def tools(self, env: AgentEnv) -> tuple[ToolSpec, ...]:
        with self.guarded("listing its tools", "make every tool a function with typed, named parameters"):
            try:
                return env.tools
            except PluginError as error:  # of one tool, with its remedy
                raise PluginError(f"environment {self.name!r}: {error}") from error

    def tasks(self, split: str) -> TaskSet:
        with self.reading(f"load_tasks(config, {split!r})"):
            tasks = self.kind.load_tasks(self.config, split)
        if not all(hasattr(type(tasks), name) for name in _TASK_SET):
            remedy = f"return TaskSet(name, tasks, split={split!r}) of agentdistill.taskset"
            self.broken(f"load_tasks(config, {split!r}) returned a {type(tasks).__name__}", remedy)
        return tasks

    # ---- every reset, every step -----------------------------------------------------------------------------------

    def reset(self, env: AgentEnv, task: Task | None = None, *, seed: int | None = None) -> tuple[tuple[Message, ...], dict[str, Any]]:
        """One reset, with every promise about what it returns. ``task=None``: one of its own choice."""
        doing = "reset(options={'task': task})" if task is not None else f"reset(seed={seed})"
        with self.guarded(doing, "begin any task of its own at any time, without outside resources that may be absent"):
            result = env.reset(seed=seed, options=None if task is None else {"task": task})
        if not isinstance(result, tuple) or len(result) != 2:
            self.broken("reset does not return two things", "return observation, info; leave reset to AgentEnv")
        observation, info = result
        self.observation(observation, env, "reset")
        self.info(info, RESET_KEYS, "reset")
        if not isinstance(info["task"], Task):
            self.broken(f"info['task'] of reset is a {type(info['task']).__name__}", "leave reset to AgentEnv")
        return observation, info

    def step(self, env: AgentEnv, action: Message) -> tuple[Any, ...]:
        """One step, with every promise about what it returns."""
        remedy = "answer an agent's mistake with a message, or raise ToolError in the tool"
        with self.guarded(f"step on {_summary(action)}", remedy):
            result = env.step(action)
        if not isinstance(result, tuple) or len(result) != 5:
            self.broken(
                "step does not return five things", "return observation, reward, terminated, truncated, info; leave step to AgentEnv"
            )
        observation, reward, terminated, truncated, info = result
        self.observation(observation, env, "step")
        self.info(info, STEP_KEYS, "step")
        if not isinstance(reward, float) or not math.isfinite(reward):
            self.broken(f"the reward is {reward!r}", "give finite numbers in Reply.parts")
        if not isinstance(info["reward_parts"], dict) or not math.isclose(math.fsum(info["reward_parts"].values()), reward, abs_tol=1e-9):
            self.broken(
                f"the reward {reward} is not the sum of its parts {info['reward_parts']}", "put every reward into Reply.parts, under a name"
            )
        self._stop(terminated, truncated, info)
        self._results(action, observation, info)
        return result

    def observation(self, observation: Any, env: AgentEnv, where: str) -> None:
        if not isinstance(observation, tuple) or not all(isinstance(message, Message) for message in observation):
            self.broken(f"{where} returns an observation that is no tuple of Message", "return a tuple of the new messages")
        if any(message.role == "assistant" for message in observation):
            self.broken(
                f"{where} returns a message of role 'assistant'", "speak as system, user or tool: the assistant's words are the agent's"
            )
        with self.guarded("asking its observation space", "leave the spaces that AgentEnv.__init__ sets, or use MessageSpace"):
            inside = observation in env.observation_space
        if not inside:
            self.broken(
                f"{where} returns an observation outside the observation space", "raise the bounds of its MessageSpace, or say less"
            )

    def info(self, info: Any, keys: tuple[str, ...], where: str) -> None:
        missing = [key for key in keys if not isinstance(info, dict) or key not in info]
        if missing:
            self.broken(f"the info of {where} lacks {', '.join(missing)}", f"keep what AgentEnv.{where} puts there")
        if not isinstance(info["anchor"], str | None):
            self.broken(f"anchor() returned a {type(info['anchor']).__name__}", "return a string that is equal for equal states, or None")
        views = info["views"]
        if not isinstance(views, Views | None):
            self.broken(f"views() returned a {type(views).__name__}", "return Views, or None")
        if views is not None and views.value is not None and not math.isfinite(views.value):
            self.broken(f"the value in views() is {views.value}", "give a finite number, or None where it is not known")

    def _stop(self, terminated: Any, truncated: Any, info: dict[str, Any]) -> None:
        if not isinstance(terminated, bool) or not isinstance(truncated, bool) or (terminated and truncated):
            self.broken(f"terminated={terminated!r} and truncated={truncated!r}", "return two bools, of which at most one is True")
        stop = info["stop"]
        told = (False, False) if stop is None else (stop.terminated, stop.truncated)
        if told != (terminated, truncated):
            self.broken(
                f"info['stop'] is {stop!r} with {terminated=} and {truncated=}", "leave step to AgentEnv: it derives the three together"
            )
        if not isinstance(info["success"], bool | None):
            self.broken(f"success is {info['success']!r}", "give True, False, or None where there is no verdict")

    def _results(self, action: Message, observation: tuple[Message, ...], info: dict[str, Any]) -> None:
        results = info["tool_results"]
        if not isinstance(results, tuple) or not all(isinstance(result, ToolResult) for result in results):
            self.broken("info['tool_results'] is no tuple of ToolResult", "put one ToolResult a call into Reply.tool_results")
        calls = [call.id for call in action.tool_calls]
        replies = [message.tool_call_id for message in observation if message.role == "tool"]
        if replies != calls or [result.call_id for result in results] != calls:
            self.broken(
                f"the calls {calls} were answered by tool messages for {replies} and results for {[result.call_id for result in results]}",
                "answer every call, in order, with one ToolResult and its Message.tool(result); ToolEnv does so",
            )


def _summary(action: Message) -> str:
    text = json.dumps(action.model_dump(mode="json", exclude_defaults=True), ensure_ascii=True)
    return text if len(text) <= 160 else f"{text[:160]}…"
