"""A coefficient over the steps of a run: a number, or one of eight schedules told apart by their ``kind``.

    kind       fields                                          value at step t, with x = min(t / steps, 1)
    const      value                                           value
    linear     start, end, steps                               start + (end − start) x
    cosine     start, end, steps                               end + (start − end) (1 + cos πx) / 2
    exp        start, end, steps                               start (end / start)ˣ
    step       start, points {step: value}                     that of the last point reached
    every      start, increment, period, limit                 start + increment ⌊t / period⌋, up to limit
    plateau    start, increment, limit, watch, epsilon, …      one increment more whenever the watched metric stops falling
    taid       start, end, steps, watch, rate, momentum        at least linear, faster while the watched loss falls

The last two listen to a metric and keep nothing themselves: what they have heard is a small mapping of numbers that the run stores.

    state = schedule.begin() ──> at(schedule, step, state) ──> the step is taken ──> state = schedule.observe(state, metrics) ──┐
                                     └────────────────────────────────────────────────────────────────────────────────────────┘

All kinds have ``begin`` and ``observe``, so whoever drives them need not ask which is which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

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


# --------------------------------------------------------------------------------------------------------------------
# By the step alone
# --------------------------------------------------------------------------------------------------------------------


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
        _towards(self.start, self.increment, self.limit)
        return self

    def at(self, step: int) -> float:
        return _limited(self.start + self.increment * (step // self.period), self.increment, self.limit)

    def zero(self) -> bool:
        return self.start == 0 and (self.increment == 0 or self.limit == 0)

    def describe(self) -> str:
        return f"{self.start:g}, {self.increment:+g} every {self.period} steps{_up_to(self.limit)}"


# --------------------------------------------------------------------------------------------------------------------
# By what was observed
# --------------------------------------------------------------------------------------------------------------------


class Adaptive(Schedule):
    """Listens to one metric. A step without it, or one where it is not finite, teaches nothing."""

    adaptive: ClassVar[bool] = True

    watch: str = Field(min_length=1)
    """Name of the metric, for instance ``eval/loss``."""

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
        _towards(self.start, self.increment, self.limit)
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
        return {"value": _limited(state["value"] + self.increment, self.increment, self.limit), "waited": 0, "previous": heard}

    def value(self, state: Mapping[str, float], step: int) -> float:
        return state["value"]

    def zero(self) -> bool:
        return self.start == 0 and (self.increment == 0 or self.limit == 0)

    def describe(self) -> str:
        return f"{self.start:g}, {self.increment:+g} whenever {self.watch} stops falling{_up_to(self.limit)}"


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
                change = (before - heard) / abs(before)
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


# --------------------------------------------------------------------------------------------------------------------
# A number or a schedule
# --------------------------------------------------------------------------------------------------------------------

KINDS = ("const", "linear", "cosine", "exp", "step", "every", "plateau", "taid")


def _tag(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return value.get("kind", "linear") if isinstance(value.get("kind", "linear"), str) else None
    return getattr(value, "kind", "float") if isinstance(value, Schedule) else "float"


class _Hashable(dict[str, Any]):
    """``Coefficient | None`` makes a set of its members, and with them of what they are annotated with."""

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        return hash(tuple(self.items()))


Coefficient = Annotated[
    Annotated[float, Tag("float")]
    | Annotated[Const, Tag("const")]
    | Annotated[Linear, Tag("linear")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[Exponential, Tag("exp")]
    | Annotated[Step, Tag("step")]
    | Annotated[Every, Tag("every")]
    | Annotated[Plateau, Tag("plateau")]
    | Annotated[Taid, Tag("taid")],
    Discriminator(
        _tag,
        custom_error_type="union_tag_invalid",
        custom_error_context=_Hashable(discriminator="'kind'", tag="?", expected_tags=", ".join(f"'{kind}'" for kind in KINDS)),
    ),
]
"""A number, or a mapping with the fields of one kind; without ``kind`` it is ``linear``."""


def at(coefficient: float | Schedule, step: int, state: Mapping[str, float] | None = None) -> float:
    """Value of a coefficient at 0-based ``step``. An adaptive one without its state is at its start."""
    if not isinstance(coefficient, Schedule):
        return coefficient
    if isinstance(coefficient, Adaptive) and state is not None:
        return coefficient.value(state, step)
    return coefficient.at(step)


def is_zero(coefficient: float | Schedule) -> bool:
    """Whether the coefficient is 0 at every step, by construction: then what it multiplies need not be computed, ever."""
    return coefficient.zero() if isinstance(coefficient, Schedule) else coefficient == 0


def _limited(value: float, increment: float, limit: float | None) -> float:
    if limit is None:
        return value
    return min(value, limit) if increment >= 0 else max(value, limit)


def _towards(start: float, increment: float, limit: float | None) -> None:
    if limit is not None and (limit - start) * increment < 0:
        raise ValueError(f"increments of {increment:g} lead from start={start:g} away from limit={limit:g}; change the sign of one of them")


def _up_to(limit: float | None) -> str:
    return "" if limit is None else f", up to {limit:g}"


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
