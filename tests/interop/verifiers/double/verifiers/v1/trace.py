from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from verifiers.v1.configs.agent import AgentConfig
from verifiers.v1.graph import MessageNode
from verifiers.v1.state import State


class AgentInfo(BaseModel):
    config: AgentConfig


class TraceTask(BaseModel):
    type: str
    data: Any
    key: str | None = None
    hash: str | None = None


class Reward(BaseModel):
    score: float
    weight: float = 1.0

    @property
    def value(self) -> float:
        return self.score * self.weight


class Trace(BaseModel):
    task: TraceTask
    agent: AgentInfo
    nodes: list[MessageNode] = Field(default_factory=list)
    rewards: dict[str, Reward | None] = Field(default_factory=dict)
    metrics: dict[str, float | None] = Field(default_factory=dict)
    state: State = Field(default_factory=State, exclude=True)
    is_completed: bool = False
    ok: bool = False
    stop_condition: str | None = None

    def stop(self, condition: str) -> None:
        self.is_completed = True
        self.stop_condition = condition
