"""A small environment that breaks on demand, and executors and players that misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from agentdistill.clock import SYSTEM_CLOCK, Clock, ManualClock, ThreadExecutor
from agentdistill.env import AgentEnv, EnvConfig, Reply
from agentdistill.policy.protocol import Request
from agentdistill.policy.scripted import ScriptedPolicy
from agentdistill.render import Renderer
from agentdistill.rollout import Play, Players, plan
from agentdistill.types import Completion, Message, Sampling, Task

Trouble = Callable[[str, "Count"], None]
"""Called at ``reset``, ``step`` and ``close``; may raise or block."""


class Count(AgentEnv):
    """Over after ``turns`` messages; each is paid with a random number, and answered with another."""

    name = "count"

    def __init__(self, trouble: Trouble, config: EnvConfig, clock: Clock) -> None:
        super().__init__(config, clock=clock)
        self.trouble = trouble
        self.heard: list[Message] = []
        self.closed = 0

    def begin(self, task: Task) -> tuple[Message, ...]:
        self.trouble("reset", self)
        return task.prompt

    def respond(self, message: Message) -> Reply:
        self.trouble("step", self)
        self.heard.append(message)
        done = self.turn >= int(str(self.task.data["turns"]))
        says = () if done else (Message.user(f"{self.np_random.integers(1000)}"),)
        parts = {"luck": float(self.np_random.integers(1000)), "turn": 1.0}
        return Reply(messages=says, parts=parts, done=done, success=True if done else None)

    def anchor(self) -> str:
        return f"{self.task.id}/{self.turn}"

    def close(self) -> None:
        self.closed += 1
        self.trouble("close", self)


class Stage:
    """Makes the environments, and remembers them."""

    def __init__(
        self, trouble: Trouble = lambda moment, env: None, *, config: EnvConfig | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.trouble, self.config, self.clock = trouble, config or EnvConfig(), clock
        self.envs: list[Count] = []

    def make(self) -> Count:
        env = Count(self.trouble, self.config, self.clock)
        self.envs.append(env)
        return env

    @property
    def closed(self) -> list[int]:
        """How often each was closed."""
        return [env.closed for env in self.envs]


def tasks(count: int, turns: int = 2, **fields: Any) -> list[Task]:
    return [
        Task(id=f"t{index}", env="count", prompt=(Message.user(f"Go {index}"),), data={"turns": turns}, **fields) for index in range(count)
    ]


def plays(count: int, turns: int = 2, *, seed: int = 0, group_size: int = 1, **fields: Any) -> list[Play]:
    return plan(tasks(count, turns, **fields), seed=seed, kind="train", step=0, group_size=group_size)


def chatter(renderer: Renderer, kind: type[ScriptedPolicy] = ScriptedPolicy, **changes: Any) -> Any:
    """Says a number that depends only on the request's key."""
    return kind(lambda request, rng: str(rng.integers(1000)), renderer, author="student", **changes)


def players(renderer: Renderer, stage: Stage | None = None, **changes: Any) -> Players:
    settings: dict[str, Any] = {"policies": {"student": chatter(renderer)}, "sampling": Sampling(max_new_tokens=32), **changes}
    return Players(make_env=(stage or Stage()).make, renderer=renderer, **settings)


def at(moment: str, task: str, error: Exception | Callable[[], Any]) -> Trouble:
    """Trouble at one moment of one task, every time."""

    def trouble(now: str, env: Count) -> None:
        if now == moment and env.task.id == task:
            if isinstance(error, Exception):
                raise error
            error()

    return trouble


class Cutting(ScriptedPolicy):
    """A script whose words are cut at ``max_new_tokens``, as a model's are."""

    def _complete(self, request: Request) -> Completion:
        whole, limit = super()._complete(request), request.sampling.max_new_tokens
        if len(whole.token_ids) <= limit:
            return whole
        return whole.model_copy(update={"token_ids": whole.token_ids[:limit], "finish_reason": "length"})


class Slow(ScriptedPolicy):
    """Answers one turn every third time it is asked, the newest first."""

    asked = 0

    def advance(self) -> Sequence[tuple[str, Completion]]:
        self.asked += 1
        if self.asked % 3:
            return []
        id, request = self._queue.popitem()
        return [(id, self._complete(request))]


class Impatient(ThreadExecutor):
    """Real threads under a clock of its own: where everything hangs, waiting takes no time and the clock jumps to the deadline."""

    def __init__(self, workers: int, clock: ManualClock) -> None:
        super().__init__(workers)
        self.workers, self.clock = workers, clock
        self.gate = threading.Event()
        """Lets go of everything that hangs."""
        self.states: dict[Future[Any], list[str]] = {}
        self._mine = threading.local()

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        states: list[str] = []

        def run() -> Any:
            states.append("begun")
            self._mine.states = states
            return work()

        future = super().submit(run)
        self.states[future] = states
        return future

    def hang(self) -> None:
        """Called by the work that hangs."""
        self._mine.states.append("hanging")
        assert self.gate.wait(10), "nobody opened the gate"

    def wait_any(self, futures: Sequence[Future[Any]], timeout: float | None = None) -> Sequence[Future[Any]]:
        while not (done := super().wait_any(futures, 0.002)) and timeout:
            if self._stuck(futures):
                self.clock.advance(timeout)
                return []
        return done

    def _stuck(self, futures: Sequence[Future[Any]]) -> bool:
        hanging = {future for future, states in self.states.items() if "hanging" in states and not future.done()}
        return all(future in hanging or (not self.states[future] and len(hanging - self._lost) == self.workers) for future in futures)
