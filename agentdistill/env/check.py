"""Does an environment keep its contract? ``check_env(MyEnv)`` raises with what is broken and what to do about it.

    check_env ─> declaration ─> task sets ─> one episode ─> determinism ─> limits ─> hostile actions ─> expert ─> Gymnasium's own checker

Run it in your own tests, or as ``agentdistill env check NAME``.
"""

from __future__ import annotations

import inspect
import math
import random
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as check_gymnasium

from agentdistill.clock import SYSTEM_CLOCK, Clock, ManualClock
from agentdistill.env.base import SPLITS, AgentEnv, EnvConfig, Expert
from agentdistill.env.promises import RESET_KEYS, Promises, hostile_actions
from agentdistill.errors import PluginError, TaskError, unknown
from agentdistill.mirror import gymnasium_id, mirror_environments
from agentdistill.types import Message, Task, ToolCall, ToolSpec

if TYPE_CHECKING:
    from agentdistill.taskset import TaskSet


def check_env(env: str | type[AgentEnv] | AgentEnv, *, config: EnvConfig | None = None, tasks: int = 20) -> None:
    """Check everything that the rest of the package relies on.

    Args:
        env: a class, an instance (its class is checked, with its configuration), or the name of an installed environment.
        config: the configuration to check with. ``None``: the instance's own, or the defaults.
        tasks: how many tasks to play with the expert, where there is one.

    Raises:
        PluginError: the first promise that is broken, and the remedy.
    """
    kind = _class_of(env)
    if config is None:
        config = env.config if isinstance(env, AgentEnv) else _default_config(kind)
    check = _Check(kind, config)
    check.declaration()
    check.task_sets()
    check.episode()
    check.determinism()
    check.isolation()
    check.limits()
    check.hostile_actions()
    check.expert(tasks)
    check.gymnasium()


@dataclass
class _Check(Promises):
    config: EnvConfig

    def make(self, clock: Clock = SYSTEM_CLOCK) -> AgentEnv:
        with self.guarded("building it", "take (config, *, clock, render_mode) and hand them to super().__init__"):
            return self.kind(self.config, clock=clock)

    # ---- declaration ----------------------------------------------------------------------------------------------

    def declaration(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.kind.name):
            self.broken(f"its name is {self.kind.name!r}", "set the class attribute 'name' to the name of its entry point")
        env = self.make()
        for space, who, message in ((env.action_space, "action", Message.assistant("é数🙂")), (env.observation_space, "observation", ())):
            with self.guarded(f"asking its {who} space", "leave the spaces that AgentEnv.__init__ sets, or use MessageSpace"):
                if message not in space:
                    self.broken(
                        f"its {who} space does not hold messages", "leave the spaces that AgentEnv.__init__ sets, or use MessageSpace"
                    )
        with self.guarded("listing its tools", "make every tool a function with typed, named parameters"):
            tools = env.tools
        self._tools(tools)

    def _tools(self, tools: Any) -> None:
        if not isinstance(tools, tuple) or not all(isinstance(tool, ToolSpec) for tool in tools):
            self.broken("'tools' is not a tuple of ToolSpec", "return a tuple of ToolSpec, or use ToolEnv and @tool")
        names = [tool.name for tool in tools]
        if len(set(names)) != len(names):
            self.broken(f"two tools have one name: {', '.join(names)}", "rename one")
        for tool in tools:
            if tool.parameters.get("type") != "object" or not isinstance(tool.parameters.get("properties"), dict):
                self.broken(
                    f"the parameters of tool {tool.name!r} are no JSON schema of an object", "use ToolEnv and @tool, which derive it"
                )
            if not tool.description:
                self.broken(f"tool {tool.name!r} has no description", "write a docstring: it is all that the model is told")

    # ---- tasks ----------------------------------------------------------------------------------------------------

    def tasks(self, split: str) -> TaskSet:
        with self.guarded(f"load_tasks(config, {split!r})", f"return a TaskSet for each of {', '.join(SPLITS)}"):
            return self.kind.load_tasks(self.config, split)

    def task_sets(self) -> None:
        seen: dict[str, str] = {}
        for split in SPLITS:
            tasks = self.tasks(split)
            if len(tasks) == 0:
                self.broken(f"the split {split!r} is empty", "give every split at least one task")
            if tasks.hash != self.tasks(split).hash:
                self.broken(
                    f"loading {split!r} twice gives different tasks", "make tasks a function of the configuration and the split alone"
                )
            for task in tasks:
                self._task(task, split)
                if task.id in seen and seen[task.id] != split:
                    self.broken(f"task {task.id!r} is in {seen[task.id]!r} and in {split!r}", "keep the splits apart: give no task to two")
                seen[task.id] = split
        self._unknown_split()

    def _task(self, task: Task, split: str) -> None:
        if task.env != self.kind.name:
            self.broken(f"task {task.id!r} of {split!r} says env={task.env!r}", f"set Task.env to {self.kind.name!r}")
        if not task.prompt or task.prompt[-1].role == "assistant":
            self.broken(f"the prompt of task {task.id!r} of {split!r} leaves nothing to answer", "end it with a message of the user's")

    def _unknown_split(self) -> None:
        remedy = f"raise TaskError naming {', '.join(SPLITS)}"
        try:
            self.kind.load_tasks(self.config, "no-such-split")
        except TaskError as error:
            if not all(split in str(error) for split in SPLITS):
                self.broken(f"the error for an unknown split does not name the valid ones: {error}", remedy)
        except Exception as error:
            self.broken(f"load_tasks with an unknown split raised {type(error).__name__}", remedy, error)
        else:
            self.broken("load_tasks accepts an unknown split", remedy)

    # ---- one episode ----------------------------------------------------------------------------------------------

    def episode(self) -> None:
        env = self.make()
        task = self.tasks("train")[0]
        with self.guarded("reset(options={'task': task})", "begin the given task, without outside resources that may be absent"):
            observation, info = env.reset(options={"task": task})
        self.observation(observation, env, "reset")
        if not observation:
            self.broken("reset returns no messages", "return the task's prompt from begin()")
        self.info(info, RESET_KEYS, "reset")
        if info["task"] != task:
            self.broken("reset plays another task than the one in options", "play options['task']; leave reset to AgentEnv")
        action = self._first_action(env)
        before = len(env.messages)
        self.step(env, action)
        if len(env.messages) <= before or env.messages[before] != action:
            self.broken("the action is not recorded in 'messages'", "leave step to AgentEnv and override respond()")
        for _ in range(env.config.max_turns):
            if env.over:
                break
            self.step(env, action)
        try:
            env.step(action)
        except ResetNeeded:
            return
        except Exception as error:
            self.broken(
                f"step after the end raised {type(error).__name__}", "raise gymnasium.error.ResetNeeded; leave step to AgentEnv", error
            )
        self.broken("step after the end goes on", "raise gymnasium.error.ResetNeeded; leave step to AgentEnv")

    def _first_action(self, env: AgentEnv) -> Message:
        """A call of the first tool where there is one, so that results are looked at too."""
        return Message.assistant("", ToolCall(id="call_0", name=env.tools[0].name)) if env.tools else Message.assistant("")

    # ---- the same again -------------------------------------------------------------------------------------------

    def determinism(self) -> None:
        remedy = "draw all chance from self.np_random, which reset(seed=…) seeds"
        state, numbers = random.getstate(), str(np.random.get_state())
        first, second = self._script(self.make(), 7), self._script(self.make(), 7)
        if first != second:
            place = next(index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
            self.broken(f"two episodes with one seed and the same actions differ, first at call {place} (0 is reset)", remedy)
        again = self.make()
        self._script(again, 3)
        if self._script(again, 7) != first:
            self.broken("an episode depends on the one before it in the same environment", "set all state up in begin()")
        if random.getstate() != state or str(np.random.get_state()) != numbers:
            self.broken("it draws from a random generator that the whole process shares", remedy)

    def _script(self, env: AgentEnv, seed: int, *, beside: AgentEnv | None = None) -> list[Any]:
        """A comparable record of an episode of arbitrary actions, with another environment playing between them."""
        env.action_space.seed(seed)
        observation, info = env.reset(seed=seed)
        record: list[Any] = [(observation, info["task"].hash, info["anchor"], info["views"])]
        for action in (self._first_action(env), *(env.action_space.sample() for _ in range(6))):
            if beside is not None and not beside.over:
                beside.step(self._first_action(beside))
            if not env.over:
                record.append(_comparable(self.step(env, action)))
        return record

    def isolation(self) -> None:
        other = self.make()
        other.reset(seed=8)
        if self._script(self.make(), 7, beside=other) != self._script(self.make(), 7):
            self.broken("two environments of one process disturb each other", "keep state in the instance, not in the class or the module")

    # ---- limits ---------------------------------------------------------------------------------------------------

    def limits(self) -> None:
        remedy = "leave step to AgentEnv: it counts turns and reads the clock"
        config = self.config.model_copy(update={"max_turns": 1, "time_limit": None, "tries": 99})
        env = self._limited(config, SYSTEM_CLOCK)
        stop = self.step(env, self._first_action(env))[4]["stop"]
        if stop is None:
            self.broken("an episode goes on after max_turns=1", remedy)
        clock = ManualClock()
        env = self._limited(self.config.model_copy(update={"max_turns": 9, "time_limit": 5.0, "tries": 99}), clock)
        clock.advance(6.0)
        if self.step(env, self._first_action(env))[4]["stop"] is None:
            self.broken("an episode goes on after its time_limit", remedy)

    def _limited(self, config: EnvConfig, clock: Clock) -> AgentEnv:
        env = self.kind(config, clock=clock)
        env.reset(options={"task": self.tasks("train")[0]})
        return env

    def hostile_actions(self) -> None:
        env = self.make()
        task = self.tasks("train")[0]
        for action in hostile_actions(env.tools):
            with self.guarded("reset", "begin any task of its own at any time"):
                env.reset(options={"task": task})
            self.step(env, action)

    # ---- the expert -----------------------------------------------------------------------------------------------

    def expert(self, tasks: int) -> None:
        try:
            expert = self.kind.expert(self.config)
        except NotImplementedError:
            return
        env = self.make()
        for task in self.tasks("val").take(tasks):
            self._play(env, task, expert)

    def _play(self, env: AgentEnv, task: Task, expert: Expert) -> None:
        rng = np.random.default_rng(0)
        _, info = env.reset(options={"task": task})
        promised = info["views"].value if info["views"] is not None else None
        total, success = 0.0, None
        while not env.over:
            with self.guarded(f"the expert, on task {task.id!r},", "let it act from any conversation"):
                action = expert.act(task, tuple(env.messages), rng)
            _, reward, _, _, info = self.step(env, action)
            total, success = total + reward, info["success"]
        if success is False:
            self.broken(f"its expert fails task {task.id!r}", "mend the expert, the grader or the limits: demonstrations come from it")
        if promised is not None and not math.isclose(total, promised, abs_tol=1e-6):
            self.broken(
                f"views() promises a value of {promised} for task {task.id!r}, and the expert gets {total}",
                "give the exact return of optimal play, or None",
            )

    def gymnasium(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with self.guarded("Gymnasium's checker", "keep to the Gymnasium interface; its message says where"):
                check_gymnasium(self.make(), skip_render_check=True)


# --------------------------------------------------------------------------------------------------------------------


def _class_of(env: str | type[AgentEnv] | AgentEnv) -> type[AgentEnv]:
    if isinstance(env, str):
        mirror_environments()
        id = gymnasium_id(env)
        if id not in gymnasium.registry:
            names = [
                known.removeprefix("agentdistill/").rsplit("-v", 1)[0] for known in gymnasium.registry if known.startswith("agentdistill/")
            ]
            raise PluginError(unknown("env", env, names))
        kind: Any = gymnasium.envs.registration.load_env_creator(str(gymnasium.registry[id].entry_point))
    else:
        kind = env if inspect.isclass(env) else type(env)
    if not (inspect.isclass(kind) and issubclass(kind, AgentEnv)):
        raise PluginError(f"{kind!r} is no environment of AgentDistill; derive it from agentdistill.env.AgentEnv or ToolEnv")
    if not (inspect.isclass(kind.Config) and issubclass(kind.Config, EnvConfig)):
        raise PluginError(f"the Config of {kind.__name__} is no EnvConfig; derive it from agentdistill.env.EnvConfig")
    return kind


def _default_config(kind: type[AgentEnv]) -> EnvConfig:
    try:
        return kind.Config()
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise PluginError(f"{kind.__name__}.Config cannot be built without arguments ({reason}); give every field a default") from error


def _comparable(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """A step's result without its timings."""
    observation, reward, terminated, truncated, info = result
    results = tuple(result.model_copy(update={"seconds": 0.0}) for result in info["tool_results"])
    return observation, reward, terminated, truncated, {**info, "tool_results": results}
