"""What an environment is: a real ``gymnasium.Env`` whose actions and observations are chat messages.

    observation, info = env.reset(options={"task": task})     # the task's prompt; without options a training task is drawn
    while True:
        observation, reward, terminated, truncated, info = env.step(message)      # a Message, or text
                                                          └ the new messages only: tool results, verdicts

An author writes a subclass with three parts: ``load_tasks``, :meth:`~AgentEnv.begin` and :meth:`~AgentEnv.respond`.
Limits, the record of the conversation and the shape of ``info`` are kept here. Nothing needs a try/except: an exception that an
environment lets through costs that episode, never the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from pydantic import Field

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.env.space import MessageSpace
from agentdistill.errors import unknown
from agentdistill.types import Message, NameOrPath, PluginConfig, StopReason, Task, ToolResult, ToolSpec, Views

if TYPE_CHECKING:
    import networkx

    from agentdistill.taskset import TaskSet

SPLITS = ("train", "val", "test")

Observation = tuple[Message, ...]


class EnvConfig(PluginConfig):
    """What every environment can be told. Subclasses add their own fields and defaults."""

    tasks: NameOrPath = "nano"
    """Which task set: a name that the environment knows, or a path."""
    max_turns: int = Field(default=8, ge=1)
    """Completions of one episode; a task's own limit can only lower it."""
    time_limit: float | None = Field(default=None, gt=0)
    """Seconds of wall time of one episode. ``None``: no limit."""
    tries: int = Field(default=2, ge=1)
    """Final answers an episode may give, in environments that judge them at once."""
    max_output_chars: int = Field(default=4000, ge=16)
    """Longest tool output that is shown; the rest is cut, with a note."""
    max_calls: int = Field(default=16, ge=1)
    """Tool calls of one message that are run."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the environment says and decides after one message of the agent."""

    messages: tuple[Message, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)
    """The reward by cause; the reward is their sum. Empty: 0."""
    done: bool = False
    """The task is over: nothing the agent says could still count."""
    cut: bool = False
    """A limit of the environment's own ended the episode (a board that allows so many moves): truncated, not over."""
    success: bool | None = None
    """The verdict, once there is one. ``None``: not decided by this message."""
    tool_results: tuple[ToolResult, ...] = ()


class Expert(Protocol):
    """A scripted player. It reads the task's hidden parts, and continues sensibly from any conversation."""

    def act(self, task: Task, messages: tuple[Message, ...], rng: np.random.Generator) -> Message: ...


class AgentEnv(gymnasium.Env[Observation, Message]):
    """Base of all environments."""

    Config: ClassVar[type[EnvConfig]] = EnvConfig
    name: ClassVar[str] = ""
    """The name under which it is registered, and that its tasks carry in ``Task.env``."""
    version: ClassVar[str] = "1"
    """Raised when the same actions would lead to other episodes than before."""
    success_when_cut: ClassVar[bool | None] = False
    """The verdict on an episode that a limit cut: failed, or ``None`` where there is no notion of success."""
    bad_habits: ClassVar[Mapping[str, float] | None] = None
    """Flaws, as :meth:`expert` takes them, of the demonstrations that a nano student learns from. ``None``: it is under-trained instead."""
    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  Gymnasium declares it so

    def __init__(
        self, config: EnvConfig | Mapping[str, Any] | None = None, *, clock: Clock = SYSTEM_CLOCK, render_mode: str | None = None
    ) -> None:
        """
        Args:
            config: the environment's own ``Config``, its fields as a mapping, or ``None`` for the defaults.
            clock: for the time limit.
            render_mode: ``"ansi"`` makes :meth:`render` return the conversation as text.
        """
        if config is None or isinstance(config, Mapping):
            config = self.Config(**(config or {}))
        if not isinstance(config, self.Config):
            raise TypeError(f"{type(self).__name__} takes a {self.Config.__name__}, got {type(config).__name__}; build one and pass it")
        if render_mode not in (None, "ansi"):
            raise ValueError(unknown("render mode", str(render_mode), ("ansi",)))
        self.config = config
        self.clock = clock
        self.render_mode = render_mode
        # Gymnasium's checker makes the environment again from its spec; ``gymnasium.make`` puts its own in place of this one.
        make: Any = type(self)
        self.spec = EnvSpec(f"agentdistill/{self.name or type(self).__name__}-v0", entry_point=make, kwargs={"config": config})
        self.action_space = MessageSpace(roles=("assistant",))
        self.observation_space = spaces.Sequence(MessageSpace(roles=("system", "user", "tool"), max_calls=0))
        self._task: Task | None = None
        self.over = True
        """No episode is running: reset comes next."""
        self._train: TaskSet | None = None
        self.messages: list[Message] = []
        """The conversation so far, prompt included."""
        self.turn = 0
        """Completions so far."""
        self._started = 0.0

    # ---- what an author writes ------------------------------------------------------------------------------------

    @classmethod
    def load_tasks(cls, config: Any, split: str) -> TaskSet:
        """The tasks of a split (``train``, ``val``, ``test``).

        Raises:
            TaskError: no such split or task set, or a bad row.
        """
        raise NotImplementedError(f"{cls.__name__} does not say where its tasks come from; override load_tasks(config, split)")

    @classmethod
    def expert(cls, config: Any, *, flaws: Any = None) -> Expert:
        """A scripted player: optimal, or with the given flaws.

        Raises:
            NotImplementedError: the environment has none for these tasks.
        """
        raise NotImplementedError(f"environment {cls.name!r} has no scripted expert")

    @classmethod
    def task_graph(cls, config: Any, task: Task) -> networkx.DiGraph[str]:
        """How a task hangs together, to be drawn: what is given, what has to be done, what comes of it.

        Node attributes: ``kind``; ``step``, the 1-based place in optimal play, of what has to be done; ``label``, where the node's own name
        is not what should be shown.

        Raises:
            NotImplementedError: the environment draws no graphs of these tasks.
        """
        raise NotImplementedError(f"environment {cls.name!r} draws no graphs of these tasks")

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What the model is told it can call."""
        return ()

    def begin(self, task: Task) -> Observation:
        """Set the environment's own state up for ``task``; returns the first messages. Chance comes from ``self.np_random``."""
        return task.prompt

    def respond(self, message: Message) -> Reply:
        """Answer one message of the agent."""
        raise NotImplementedError(f"{type(self).__name__} must override respond(message)")

    def anchor(self) -> str | None:
        """Key of the present state: equal keys, equal states. ``None``: there is none."""
        return None

    def views(self) -> Views | None:
        """What a privileged teacher may be told of the present state. ``None``: nothing."""
        return None

    # ---- what Gymnasium calls -------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: as Gymnasium has it: seeds the environment's generator; ``None`` goes on with the one it has.
            options: ``{"task": Task}`` plays that task. Without it one is drawn from the training split.

        Returns:
            The first messages, and info with ``task``, ``anchor`` and ``views``.
        """
        super().reset(seed=seed)
        task = self._choose(options or {})
        self._task, self.over, self.turn, self._started = task, False, 0, self.clock.now()
        observation = self.begin(task)
        self.messages = list(observation)
        return observation, {"task": task, **self._state()}

    def step(self, action: Message | str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hand in one message of the agent.

        Returns:
            The new messages; the reward; whether the task is over; whether a limit cut the episode; and info with ``tool_results``,
            ``reward_parts``, ``stop``, ``success``, ``anchor`` and ``views``.

        Raises:
            ResetNeeded: there is no running episode.
        """
        if self.over:
            state = "has not begun" if self._task is None else "is over"
            raise ResetNeeded(f"the episode {state}; call reset() before step()")
        message = _as_message(action)
        self.messages.append(message)
        self.turn += 1
        reply = self.respond(message)
        self.messages.extend(reply.messages)
        stop = StopReason.COMPLETED if reply.done else StopReason.MAX_TURNS if reply.cut else self._limit()
        self.over = stop is not None
        success = self.success_when_cut if stop is not None and not reply.done and reply.success is None else reply.success
        info = {
            "tool_results": reply.tool_results,
            "reward_parts": dict(reply.parts),
            "stop": stop,
            "success": success,
            **self._state(),
        }
        reward = math.fsum(reply.parts.values())
        return reply.messages, reward, bool(reply.done), stop is not None and not reply.done, info

    def render(self) -> str | None:
        """The conversation as text, in render mode ``ansi``; else ``None``."""
        if self.render_mode != "ansi":
            return None
        return "\n".join(line for message in self.messages for line in _transcript(message))

    # ---- state ----------------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """The task being played.

        Raises:
            ResetNeeded: no episode was begun.
        """
        if self._task is None:
            raise ResetNeeded("no task yet; call reset() first")
        return self._task

    @property
    def turns_left(self) -> int:
        """Completions that the limits still allow."""
        own = self.task.limits.turns
        return min(self.config.max_turns, own if own is not None else self.config.max_turns) - self.turn

    def _limit(self) -> StopReason | None:
        if self.turns_left <= 0:
            return StopReason.MAX_TURNS
        limits = [limit for limit in (self.config.time_limit, self.task.limits.seconds) if limit is not None]
        if limits and self.clock.now() - self._started >= min(limits):
            return StopReason.TIME_LIMIT
        return None

    def _state(self) -> dict[str, Any]:
        return {"anchor": self.anchor(), "views": self.views()}

    def _choose(self, options: Mapping[str, Any]) -> Task:
        for key in options:
            if key != "task":
                raise ValueError(unknown("reset option", key, ("task",)))
        if "task" not in options:
            self._train = self._train if self._train is not None else type(self).load_tasks(self.config, "train")
            return self._train[int(self.np_random.integers(len(self._train)))]
        task = options["task"]
        if not isinstance(task, Task):
            raise TypeError(f"options['task'] must be a Task, got {type(task).__name__}")
        if task.env != self.name:
            raise ValueError(f"task {task.id!r} belongs to env {task.env!r}, and this is {self.name!r}")
        return task


def _as_message(action: Message | str) -> Message:
    if isinstance(action, str):
        return Message.assistant(action)
    if not isinstance(action, Message):
        raise TypeError(f"an action is a Message or text, got {type(action).__name__}")
    if action.role != "assistant":
        raise ValueError(f"an action is what the assistant says, got a message of role {action.role!r}")
    return action


def _transcript(message: Message) -> list[str]:
    calls = [f"  -> {call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})" for call in message.tool_calls]
    return [f"{message.role}: {message.content}", *calls]
