"""What the environments of foreign worlds share: their configuration, their words, and their verdict."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import Field

from agentdistill.env import EnvConfig, Observation, ToolEnv
from agentdistill.errors import EnvError
from agentdistill.interop.texts import readable
from agentdistill.types import Message, Task


class WorldConfig(EnvConfig):
    """What every foreign world can be told."""

    max_turns: int = Field(default=64, ge=1)
    count: int = Field(default=1000, ge=1)
    """Tasks a split; a task of a world without data is a seed."""
    system: str | None = None
    """The system prompt. ``None``: the environment's own words, where it has any; empty: no system message."""
    success_at: float | None = None
    """An episode whose rewards sum to at least this succeeded. ``None``: see the environment."""


class WorldEnv(ToolEnv):
    """Base of environments around a foreign world. It has no tools: a message with calls is told so."""

    config: Any

    def opening(self, text: str, instructions: str = "") -> Observation:
        """The first messages: the system prompt, if any, and the world's words."""
        system = self.config.system if self.config.system is not None else instructions
        said = self.said(text)
        return (Message.system(system), *said) if system else said

    def said(self, text: str) -> Observation:
        """The world's words as a message of the user's: never empty, and not longer than ``max_output_chars``."""
        return (Message.user(self._shown(text.strip("\n"))[0] or "(nothing)"),)

    def verdict(self, total: float) -> bool:
        """Whether a return is a success."""
        return total >= self.config.success_at if self.config.success_at is not None else total > 0


def stub(env: str, id: str, seed: int, what: str) -> Task:
    """A task that is a seed. What the model reads is the world's own first observation, which comes at reset."""
    return Task(id=id, env=env, prompt=(Message.user(f"{what}, seed {seed}"),), data={"seed": seed})


def number(value: Any, what: str) -> float:
    """A reward as a finite float: numbers of any kind, arrays of one, text that is one; ``None`` is 0.

    Raises:
        EnvError: it is nothing of the kind.
    """
    try:
        found = 0.0 if value is None else float(np.asarray(value).astype(float).reshape(-1).item())
    except (TypeError, ValueError) as error:
        raise EnvError(f"{what} must be a number, got {type(value).__name__} {readable(value)[:80]!r}") from error
    if not math.isfinite(found):
        raise EnvError(f"{what} must be finite, got {found}")
    return found
