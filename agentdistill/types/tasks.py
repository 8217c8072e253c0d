"""What is asked."""

from __future__ import annotations

import hashlib
import json

from pydantic import Field, JsonValue

from agentdistill.types.base import Record
from agentdistill.types.messages import Message


class Limits(Record):
    """Where an episode is cut. ``None``: no limit of this kind beyond the run's own."""

    turns: int | None = Field(default=None, ge=1)
    """Completions."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of the whole episode, prompt and replies included. Held by the rollout."""
    seconds: float | None = Field(default=None, gt=0)


class Task(Record):
    """One problem. ``answer`` and ``data`` are hidden from the student; graders, experts and privileged teachers may see them."""

    id: str
    env: str
    prompt: tuple[Message, ...]
    answer: JsonValue = None
    data: dict[str, JsonValue] = Field(default_factory=dict)
    """What the environment needs to play the task (a seed, an expression, a start state)."""
    limits: Limits = Limits()
    tags: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Hex digest of the content: equal tasks have equal hashes on every machine."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]
