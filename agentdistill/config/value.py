"""A learned value of states: how its advantages are formed, and how it is fitted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentdistill.config.base import Settings


class Gae(Settings):
    """Generalised advantages of a learned value V, and the fit of V: ½(V − target)² by a linear head on the student's final hidden states,
    which it never changes. "High-Dimensional Continuous Control Using Generalized Advantage Estimation", arXiv 1506.02438."""

    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount per step."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """0: trust the value one step on. 1: wait for the end, so that the value is a baseline and nothing else."""
    level: Literal["token", "turn"] = "token"
    """What a step is: a token that the student sampled, or a turn of its, which has one value and one advantage."""
    value_lr: float = Field(default=1e-3, gt=0)
    """Of the head's own AdamW, without warm-up and decay."""
    value_coefficient: float = Field(default=1.0, gt=0)
    """Of the head's loss."""
