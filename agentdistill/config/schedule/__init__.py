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

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from agentdistill.config.schedule.adaptive import Adaptive, Plateau, Taid
from agentdistill.config.schedule.base import Schedule, State
from agentdistill.config.schedule.fixed import Const, Cosine, Every, Exponential, Linear, Step

__all__ = [
    "KINDS",
    "Adaptive",
    "Coefficient",
    "Const",
    "Cosine",
    "Every",
    "Exponential",
    "Linear",
    "Plateau",
    "Schedule",
    "State",
    "Step",
    "Taid",
    "at",
    "is_zero",
]

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
