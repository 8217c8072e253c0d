from __future__ import annotations

from pydantic import BaseModel

from verifiers.v1.runtimes import SubprocessConfig


class AgentConfig(BaseModel):
    runtime: SubprocessConfig
