"""Schedules that follow from the step alone."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from agentdistill.config.schedule.base import Schedule, Steps, limited, require_towards, up_to


class Const(Schedule):
    """The same at every step. A bare number means this."""

    kind: Literal["const"] = "const"
    value: float

    def at(self, step: int) -> float:
        return self.value

    def zero(self) -> bool:
        return self.value == 0

    def describe(self) -> str:
        return f"{self.value:g}"


class _Ramp(Schedule):
    start: float
    end: float
    """Reached at ``steps`` and kept from there on."""
    steps: Steps

    def zero(self) -> bool:
        return self.start == self.end == 0

    def describe(self) -> str:
        return f"{self.start:g} → {self.end:g} over {self.steps} steps"

    def _along(self, step: int) -> float:
        return min(step / self.steps, 1.0)


class Linear(_Ramp):
    """In a straight line. The kind that is meant where none is named."""

    kind: Literal["linear"] = "linear"

    def at(self, step: int) -> float:
        return self.start + (self.end - self.start) * self._along(step)


class Cosine(_Ramp):
    """Half a cosine wave: level at both ends, steepest in the middle."""

    kind: Literal["cosine"] = "cosine"

    def at(self, step: int) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * self._along(step))) / 2

    def describe(self) -> str:
        return f"{super().describe()} (cosine)"


class Exponential(_Ramp):
    """By the same factor every step."""

    kind: Literal["exp"] = "exp"

    @model_validator(mode="after")
    def _one_sign(self) -> Self:
        if self.start * self.end <= 0:
            raise ValueError(
                f"an exp schedule goes by factors, so start={self.start:g} and end={self.end:g} must both be above or both below 0; "
                "use kind=linear to go through 0"
            )
        return self

    def at(self, step: int) -> float:
        along = self._along(step)
        return math.copysign(abs(self.start) ** (1 - along) * abs(self.end) ** along, self.start)

    def describe(self) -> str:
        return f"{super().describe()} (exp)"


class Step(Schedule):
    """Constant between points: a switch of phase."""

    kind: Literal["step"] = "step"
    start: float
    """Before the first point."""
    points: dict[Annotated[int, Field(ge=0)], float] = Field(min_length=1)
    """Value from each 0-based step on."""

    def at(self, step: int) -> float:
        reached = [point for point in self.points if point <= step]
        return self.points[max(reached)] if reached else self.start

    def zero(self) -> bool:
        return not any(self.points.values()) and (self.start == 0 or 0 in self.points)

    def describe(self) -> str:
        return ", ".join([f"{self.start:g}", *(f"{self.points[point]:g} from step {point}" for point in sorted(self.points))])


class Every(Schedule):
    """One increment more every ``period`` steps. TCOD's horizon is start 1, increment 1, period 5, limit 30: k = min(30, 1 + ⌊t/5⌋).

    See "TCOD: Exploring Temporal Curriculum in On-Policy Distillation for Multi-turn Autonomous Agents", Wang et al., arXiv 2604.24005.
    """

    kind: Literal["every"] = "every"
    start: float
    increment: float
    period: Steps
    limit: float | None = None
    """Not passed. ``None``: no limit."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        require_towards(self.start, self.increment, self.limit)
        return self

    def at(self, step: int) -> float:
        return limited(self.start + self.increment * (step // self.period), self.increment, self.limit)

    def zero(self) -> bool:
        return self.start == 0 and (self.increment == 0 or self.limit == 0)

    def describe(self) -> str:
        return f"{self.start:g}, {self.increment:+g} every {self.period} steps{up_to(self.limit)}"
