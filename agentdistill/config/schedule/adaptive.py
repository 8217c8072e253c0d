"""Schedules that answer to what was observed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from agentdistill.config.schedule.base import Schedule, State, Steps, limited, require_towards, up_to

FURTHEST = 1e9
"""Bound of a relative change: a loss next to 0 that moves must not leave the range of numbers."""


class Adaptive(Schedule):
    """Listens to one metric. A step without it, or one where it is not finite, teaches nothing."""

    adaptive: ClassVar[bool] = True

    watch: str = Field(min_length=1)
    """Name of the metric, for instance ``loss/teacher``."""

    def value(self, state: Mapping[str, float], step: int) -> float:
        """Value at 0-based ``step``, after ``state``."""
        raise NotImplementedError

    def _heard(self, metrics: Mapping[str, float]) -> float | None:
        heard = metrics.get(self.watch)
        return None if heard is None or not math.isfinite(heard) else float(heard)


class Plateau(Adaptive):
    """One increment more whenever the watched metric is at least its previous value plus ``epsilon``, ``patience`` times in a row.

    DistiLLM's share of student-generated data: start 0, increment .1, limit 1, epsilon .1, on the validation loss. See "DistiLLM: Towards
    Streamlined Distillation for Large Language Models", Ko et al., arXiv 2402.03898.
    """

    kind: Literal["plateau"] = "plateau"
    start: float = 0.0
    increment: float = 0.1
    limit: float | None = 1.0
    """Not passed. ``None``: no limit."""
    epsilon: float = 0.0
    """Tolerance. Above 0, the metric has to grow by so much; below 0, falling by less counts as a plateau too."""
    patience: Steps = 1

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        require_towards(self.start, self.increment, self.limit)
        return self

    def at(self, step: int) -> float:
        return self.start

    def begin(self) -> State:
        return {"value": self.start, "waited": 0}

    def observe(self, state: Mapping[str, float], metrics: Mapping[str, float]) -> State:
        heard = self._heard(metrics)
        if heard is None:
            return dict(state)
        stuck = "previous" in state and heard >= state["previous"] + self.epsilon
        waited = state["waited"] + 1 if stuck else 0
        if waited < self.patience:
            return {"value": state["value"], "waited": waited, "previous": heard}
        return {"value": limited(state["value"] + self.increment, self.increment, self.limit), "waited": 0, "previous": heard}

    def value(self, state: Mapping[str, float], step: int) -> float:
        return state["value"]

    def zero(self) -> bool:
        return self.start == 0 and (self.increment == 0 or self.limit == 0)

    def describe(self) -> str:
        return f"{self.start:g}, {self.increment:+g} whenever {self.watch} stops falling{up_to(self.limit)}"


class Taid(Adaptive):
    """At least linear, and faster while the watched loss J falls: the bridge between student and teacher of TAID.

        mₙ = momentum · mₙ₋₁ + (1 − momentum) · (Jₙ₋₁ − Jₙ) / Jₙ₋₁
        τₙ = min(end, max(linear(n), τₙ₋₁ + rate · σ(mₙ) · (1 − τₙ₋₁)))

    See "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in Language Models", Shing et al.,
    arXiv 2501.16937. ``observe`` is called once after each step, also after one that did not give the metric: it counts steps.
    """

    kind: Literal["taid"] = "taid"
    start: float = Field(default=0.4, ge=0, le=1)
    end: float = Field(default=1.0, ge=0, le=1)
    steps: Steps
    rate: float = Field(default=5e-4, ge=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"a taid schedule rises, but start={self.start:g} is above end={self.end:g}")
        return self

    def at(self, step: int) -> float:
        return self.start

    def begin(self) -> State:
        return {"value": self.start, "momentum": 0.0, "step": 0}

    def observe(self, state: Mapping[str, float], metrics: Mapping[str, float]) -> State:
        after = {**state, "step": state["step"] + 1}
        tau, heard = state["value"], self._heard(metrics)
        if heard is not None:
            if before := state.get("previous"):
                change = max(-FURTHEST, min((before - heard) / abs(before), FURTHEST))
                after["momentum"] = self.momentum * state["momentum"] + (1 - self.momentum) * change
                tau += self.rate * _sigmoid(after["momentum"]) * (1 - tau)
            after["previous"] = heard
        after["value"] = min(self.end, max(self._linear(after["step"]), tau))
        return after

    def value(self, state: Mapping[str, float], step: int) -> float:
        return min(self.end, max(self._linear(step), state["value"]))

    def zero(self) -> bool:
        return self.end == 0

    def describe(self) -> str:
        return f"{self.start:g} → {self.end:g} within {self.steps} steps, faster while {self.watch} falls"

    def _linear(self, step: float) -> float:
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
