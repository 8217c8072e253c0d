"""A method: who plays, and a sum of terms. A published one is one file under ``configs/method``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from agentdistill.config.base import Settings
from agentdistill.config.schedule import Coefficient, Schedule, State, at
from agentdistill.config.terms import Term
from agentdistill.config.weights import Weight
from agentdistill.types import Author, PluginConfig


class SamplerConfig(Settings):
    """Who plays. The shares are probabilities per task and sum to one; where the student's follows a schedule, expert and teacher share the
    rest in proportion."""

    student: Coefficient = 1.0
    expert: float = Field(default=0.0, ge=0, le=1)
    """The environment's scripted expert."""
    teacher: float = Field(default=0.0, ge=0, le=1)
    demonstrations: int | None = Field(default=None, ge=1)
    """Expert and teacher play this many episodes, once, and every step draws from those. ``None``: fresh ones each step."""
    only_successes: bool = True
    """Leave out expert and teacher episodes that did not succeed."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if isinstance(self.student, Schedule):
            if self.expert + self.teacher == 0:
                raise ValueError("the student's share follows a schedule, and nobody plays the rest; set expert or teacher above 0")
            return self
        if not 0 <= self.student <= 1:
            raise ValueError(f"student={self.student:g} is no share; it must be within [0, 1]")
        total = self.student + self.expert + self.teacher
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of student, expert and teacher sum to {total:g}, not 1")
        return self

    def shares(self, student: float) -> dict[Author, float]:
        """Who plays with what probability, where the student's is ``student``."""
        student = min(max(student, 0.0), 1.0)
        rest = (1 - student) / ((self.expert + self.teacher) or 1.0)
        return {"student": student, "expert": self.expert * rest, "teacher": self.teacher * rest}


class MethodConfig(PluginConfig):
    """A published method: who plays, and a sum of terms."""

    plugin: str = "objective"
    title: str = ""
    paper: str = ""
    signal: str = ""
    access: str = ""
    granularity: str = ""
    group_size: int = Field(default=1, ge=1)
    """Plays of one task in a step, compared with each other."""
    sampler: SamplerConfig = SamplerConfig()
    terms: dict[str, Term] = Field(default_factory=dict)
    published_with: dict[str, float | int | str] = Field(default_factory=dict)
    """Settings of other groups that the paper used, by their keys (``learner.lr``). They are shown, and not applied: they belong to its
    models and data."""


def schedules(settings: Settings, path: str = "") -> dict[str, Schedule]:
    """Every schedule below ``settings``, by dotted path."""
    found: dict[str, Schedule] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Schedule):
            found[f"{path}{name}"] = value
        elif isinstance(value, Settings):
            found |= schedules(value, f"{path}{name}.")
    return found


def resolved(settings: Any, step: int, states: Mapping[str, State] | None = None, path: str = "") -> Any:
    """``settings`` at 0-based ``step``: every schedule replaced by its value, and weights that do not act then left out. ``states``: of
    adaptive schedules, by dotted path."""
    changes: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value, here = getattr(settings, name), f"{path}{name}"
        if isinstance(value, Schedule):
            changes[name] = at(value, step, (states or {}).get(here))
        elif isinstance(value, Settings):
            changes[name] = resolved(value, step, states, f"{here}.")
        elif isinstance(value, tuple):
            changes[name] = tuple(each for each in value if not isinstance(each, Weight) or each.acts(step))
    return settings.model_copy(update=changes) if changes else settings
