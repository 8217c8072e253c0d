"""What our layer costs a step, over the environment's own time, in process CPU time.

python tests/benchmarks/bench_env.py [--steps 20000] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
from gymnasium import spaces

from agentdistill.env import AgentEnv, Reply, ToolEnv, tool
from agentdistill.interop.gymnasium_env import GymnasiumConfig, GymnasiumEnv
from agentdistill.types import Message, Task, ToolCall

STEPS = 20_000
_SAID = (Message.user("ok"),)
_PARTS = {"x": 0.0}


class Trivial(AgentEnv):
    """Does nothing."""

    name = "trivial"

    def respond(self, message: Message) -> Reply:
        return Reply(messages=_SAID, parts=_PARTS)


class Tool(ToolEnv):
    """Has a tool that does nothing."""

    name = "tool"

    @tool
    def look(self, where: str) -> str:
        """Look."""
        return where


class Echo(gymnasium.Env[str, str]):
    """A trivial foreign environment."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    observation_space = action_space = spaces.Text(100)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        return "hello", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "ok", 0.0, False, False, {}


def per_step(make: Callable[[], AgentEnv], task: Task, action: Message | str, steps: int = STEPS, repeats: int = 5) -> float:
    """Microseconds of process CPU time a step, the best of ``repeats``."""
    env = make()
    best = float("inf")
    for _ in range(repeats):
        env.reset(options={"task": task})
        began = time.process_time()
        for _ in range(steps):
            env.step(action)
        best = min(best, (time.process_time() - began) / steps)
    return best * 1e6


def cases(steps: int = STEPS) -> dict[str, Callable[[], float]]:
    """What is measured, by name."""
    limits = {"max_turns": 10**9}
    call = Message.assistant("", ToolCall(id="a", name="look", arguments={"where": "x"}))

    def task(env: str) -> Task:
        return Task(id="a", env=env, prompt=(Message.user("hi"),), data={"seed": 0})

    config = GymnasiumConfig(id=f"{__name__}:Echo", **limits)
    return {
        "AgentEnv, message": lambda: per_step(lambda: Trivial(limits), task("trivial"), Message.assistant("x"), steps),
        "AgentEnv, text": lambda: per_step(lambda: Trivial(limits), task("trivial"), "x", steps),
        "ToolEnv, one call": lambda: per_step(lambda: Tool(limits), task("tool"), call, steps),
        "env=gymnasium, text": lambda: per_step(lambda: GymnasiumEnv(config), task("gymnasium"), Message.assistant("x"), steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    for name, measure in cases(arguments.steps).items():
        print(json.dumps({"case": name, "us_per_step": round(measure(), 2)}))  # noqa: T201
        if arguments.profile:
            with cProfile.Profile() as profiler:
                measure()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(15)


if __name__ == "__main__":
    main()
