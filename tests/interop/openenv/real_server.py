"""A server of the package openenv: ``python real_server.py say|move|mcp PORT``. The recorded frames are from it, version 0.10.0."""

from __future__ import annotations

import random
import sys
from typing import Any

import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_app
from pydantic import Field


class MoveAction(Action):
    x: int = Field(description="column")
    label: str = "a"


class SayAction(Action):
    message: str


class Seen(Observation):
    text: str = ""
    seen: int = 0


class Base(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self.number, self.now = 0, State(episode_id="e", step_count=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Observation:
        self.number, self.now = random.Random(seed).randrange(10), State(episode_id=episode_id or "e", step_count=0)
        return Seen(text=f"Say {self.number}")

    @property
    def state(self) -> State:
        return self.now


class Say(Base):
    def step(self, action: SayAction, timeout_s: float | None = None, **_: Any) -> Observation:
        self.now.step_count += 1
        if action.message == "boom":
            raise RuntimeError("boom happened")
        right = action.message.strip() == str(self.number)
        return Seen(
            text="right" if right else "wrong", seen=self.now.step_count, done=right or self.now.step_count >= 3, reward=float(right)
        )


class Move(Base):
    def step(self, action: MoveAction, timeout_s: float | None = None, **_: Any) -> Observation:
        self.now.step_count += 1
        right = action.x == self.number
        return Seen(text=f"{action.label}{action.x}", seen=self.now.step_count, done=right, reward=1.0 if right else -0.1)


def tools_app() -> Any:
    from fastmcp import FastMCP
    from openenv.core.env_server.mcp_environment import MCPEnvironment
    from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation

    class Tools(MCPEnvironment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            server = FastMCP("m")

            @server.tool
            def add(a: int, b: int = 1) -> int:
                """Add two numbers."""
                return a + b

            @server.tool
            def fail(why: str) -> str:
                """Fails."""
                raise ValueError(why[:50])

            super().__init__(server)
            self.now = State(episode_id="e", step_count=0)

        def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Observation:
            return Observation(done=False, reward=0.0, metadata={"status": "ready"})

        def _step_impl(self, action: Any, timeout_s: float | None = None, **_: Any) -> Observation:
            return Observation(done=False, reward=0.0, metadata={"error": f"unknown {type(action).__name__}"})

        @property
        def state(self) -> State:
            return self.now

    return create_app(Tools, CallToolAction, CallToolObservation, env_name="m", max_concurrent_envs=32)


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    kinds = {"say": (Say, SayAction), "move": (Move, MoveAction)}
    app = tools_app() if kind == "mcp" else create_app(*kinds[kind], Seen, env_name=kind, max_concurrent_envs=32)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
