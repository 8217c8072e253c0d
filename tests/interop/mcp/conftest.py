from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentdistill.interop.mcp import MCPConfig, MCPEnv
from agentdistill.interop.mcp.env import close_shared
from agentdistill.types import Message, Task

HERE = Path(__file__).parent
Make = Callable[..., MCPEnv]


def command(mode: str = "good") -> tuple[str, ...]:
    return (sys.executable, "-S", "-I", str(HERE / "tiny.py"), mode)


def begin(env: MCPEnv) -> None:
    """An episode of a task that is from nowhere."""
    env.reset(options={"task": Task(id="t", env="mcp", prompt=(Message.user("q"),), answer="1", data={"n": 1})})


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tasks") / "sums.jsonl"
    path.write_text("\n".join(json.dumps({"question": f"What is {n}+2?", "answer": str(n + 2), "n": n}) for n in range(30)))
    return path


@pytest.fixture
def config(questions: Path) -> Callable[..., MCPConfig]:
    def make(mode: str = "good", **changes: Any) -> MCPConfig:
        settings: dict[str, Any] = {"command": command(mode), "tasks": str(questions), "start_timeout": 10.0, "call_timeout": 10.0}
        return MCPConfig(**{**settings, **changes})

    return make


@pytest.fixture
def make(config: Callable[..., MCPConfig]) -> Iterator[Make]:
    made: list[MCPEnv] = []

    def make(mode: str = "good", **changes: Any) -> MCPEnv:
        made.append(MCPEnv(config(mode, **changes)))
        return made[-1]

    yield make
    for env in made:
        env.close()
    close_shared()
