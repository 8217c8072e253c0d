"""What all schedules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from agentdistill.types import Record

State = dict[str, float]
"""What an adaptive schedule has heard so far. Plain numbers, so that it goes through JSON."""
Steps = Annotated[int, Field(ge=1)]


class Schedule(Record):
    """Base of all kinds; as it stands, of those that follow from the step alone."""

    model_config = ConfigDict(allow_inf_nan=False)

    adaptive: ClassVar[bool] = False
    """Whether the value depends on what was observed, not on the step alone."""

    def at(self, step: int) -> float:
        """Value at 0-based ``step``; of an adaptive kind, its start."""
        raise NotImplementedError

    def begin(self) -> State:
        """State before the first step. Empty: nothing to store."""
        return {}

    def observe(self, state: Mapping[str, float], metrics: Mapping[str, float]) -> State:
        """State after a step that gave ``metrics``."""
        return dict(state)

    def zero(self) -> bool:
        """Whether the value is 0 at every step, by construction."""
        raise NotImplementedError

    def describe(self) -> str:
        """In a few words, for reports: ``0.005 → 0.001 over 200 steps``."""
        raise NotImplementedError


def limited(value: float, increment: float, limit: float | None) -> float:
    if limit is None:
        return value
    return min(value, limit) if increment >= 0 else max(value, limit)


def require_towards(start: float, increment: float, limit: float | None) -> None:
    if limit is not None and (limit - start) * increment < 0:
        raise ValueError(f"increments of {increment:g} lead from start={start:g} away from limit={limit:g}; change the sign of one of them")


def up_to(limit: float | None) -> str:
    return "" if limit is None else f", up to {limit:g}"
