"""Schedules: each kind's values, what it refuses, and adaptive kinds as pure functions of a small state."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from agentdistill.config.schedule import (
    KINDS,
    Adaptive,
    Coefficient,
    Const,
    Cosine,
    Every,
    Exponential,
    Linear,
    Plateau,
    Schedule,
    Step,
    Taid,
    at,
    is_zero,
)

READ = TypeAdapter(Coefficient)
ONE_OF_EACH: list[Schedule] = [
    Const(value=0.3),
    Linear(start=1, end=0, steps=4),
    Cosine(start=1, end=0, steps=4),
    Exponential(start=1, end=0.01, steps=4),
    Step(start=0, points={3: 1.0, 10: 0.5}),
    Every(start=1, increment=1, period=5, limit=30),
    Plateau(watch="eval/loss", epsilon=0.1),
    Taid(watch="loss/teacher", steps=100),
]
numbers = st.floats(-10, 10)


@given(numbers, numbers, st.integers(1, 50), st.integers(0, 100), st.sampled_from([Linear, Cosine]))
def test_a_ramp_starts_at_start_stays_between_and_ends_at_end(start: float, end: float, steps: int, step: int, kind: type) -> None:
    schedule = kind(start=start, end=end, steps=steps)
    assert schedule.at(0) == pytest.approx(start, abs=1e-12)
    assert schedule.at(steps + step) == pytest.approx(end, abs=1e-12)
    assert min(start, end) - 1e-9 <= schedule.at(step) <= max(start, end) + 1e-9


def test_linear_is_the_line_and_cosine_is_level_at_both_ends():
    assert [Linear(start=1, end=0, steps=4).at(step) for step in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]
    wave = Cosine(start=1, end=0, steps=4)
    assert [wave.at(step) for step in range(6)] == pytest.approx([1, 0.853553390593, 0.5, 0.146446609407, 0, 0], abs=1e-12)


@given(st.floats(1e-3, 10), st.floats(1e-3, 10), st.sampled_from([1, -1]), st.integers(2, 50))
def test_exp_moves_by_the_same_factor_every_step(start: float, end: float, sign: int, steps: int) -> None:
    schedule = Exponential(start=sign * start, end=sign * end, steps=steps)
    values = [schedule.at(step) for step in range(steps + 3)]
    factors = [after / before for before, after in pairwise(values[: steps + 1])]
    assert factors == pytest.approx([(end / start) ** (1 / steps)] * steps)
    assert values[steps:] == pytest.approx([sign * end] * 3)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_exp_refuses_zero_and_a_change_of_sign(start, end):
    with pytest.raises(ValidationError, match="both be above or both below 0; use kind=linear"):
        Exponential(start=start, end=end, steps=3)


def test_step_holds_each_value_until_the_next_point_in_whatever_order_they_are_written():
    schedule = Step(start=9, points={10: 2.0, 3: 1.0})
    assert [schedule.at(step) for step in (0, 2, 3, 9, 10, 1000)] == [9, 9, 1, 1, 2, 2]


def test_every_is_the_horizon_of_a_temporal_curriculum():
    horizon = Every(start=1, increment=1, period=5, limit=30)
    assert [horizon.at(step) for step in range(400)] == [min(30, 1 + step // 5) for step in range(400)]
    assert Every(start=1, increment=-0.25, period=1, limit=0).at(9) == 0
    assert Every(start=1, increment=2, period=1).at(9) == 19


@pytest.mark.parametrize("kind", [Every, Plateau])
def test_increments_away_from_the_limit_are_refused(kind):
    more = {"period": 1} if kind is Every else {"watch": "x"}
    with pytest.raises(ValidationError, match=r"lead from start=1 away from limit=0"):
        kind(start=1, increment=0.1, limit=0, **more)


def test_plateau_raises_when_the_metric_is_not_below_its_previous_value_plus_epsilon():
    schedule = Plateau(watch="eval/loss", epsilon=0.1)
    state, seen = schedule.begin(), []
    for loss in (2.0, 1.0, 1.05, 1.16, 1.16, 1.4, 1.6):
        state = schedule.observe(state, {"eval/loss": loss, "other": 0.0})
        seen.append(at(schedule, 0, state))
    assert seen == pytest.approx([0, 0, 0, 0.1, 0.1, 0.2, 0.3])


def test_plateau_stops_at_its_limit_and_goes_down_as_well_as_up():
    up, down = Plateau(watch="m", increment=0.4), Plateau(watch="m", start=1, increment=-0.4, limit=0)
    for schedule, limit in ((up, 1.0), (down, 0.0)):
        state = schedule.begin()
        for _ in range(6):
            state = schedule.observe(state, {"m": 1.0})
        assert at(schedule, 6, state) == limit


def test_patience_counts_only_plateaus_in_a_row():
    schedule = Plateau(watch="m", patience=2)
    state, seen = schedule.begin(), []
    for loss in (1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5):
        state = schedule.observe(state, {"m": loss})
        seen.append(state["value"])
    assert seen == pytest.approx([0, 0, 0, 0, 0.1, 0.1, 0.2])


def test_taid_is_at_least_linear_and_follows_the_recursion():
    schedule = Taid(watch="loss", steps=50, rate=0.08, momentum=0.9)
    losses = [2.0 * 0.9**step for step in range(30)]
    state, tau, momentum = schedule.begin(), 0.4, 0.0
    for step, loss in enumerate(losses):
        assert at(schedule, step, state) == pytest.approx(tau, abs=1e-12)
        state = schedule.observe(state, {"loss": loss})
        if step:
            momentum = 0.9 * momentum + 0.1 * (losses[step - 1] - loss) / losses[step - 1]
            tau = tau + 0.08 / (1 + math.exp(-momentum)) * (1 - tau)
        tau = min(1.0, max(0.4 + 0.6 * (step + 1) / 50, tau))
    assert tau > 0.4 + 0.6 * 30 / 50


def test_taid_goes_faster_while_the_loss_falls_than_while_it_grows():
    schedule = Taid(watch="loss", steps=10_000, rate=0.05, momentum=0.5)
    taus = []
    for factor in (0.5, 2.0):
        state = schedule.begin()
        for step in range(8):
            state = schedule.observe(state, {"loss": factor**step})
        taus.append(at(schedule, 8, state))
    assert taus[0] > taus[1] > Linear(start=0.4, end=1, steps=10_000).at(8)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), max_size=30))
def test_taid_never_falls_nor_leaves_its_range_whatever_it_hears(losses: list[float | None]) -> None:
    schedule = Taid(watch="loss", steps=20, rate=0.3)
    state, previous = schedule.begin(), 0.0
    for step, loss in enumerate(losses):
        tau = at(schedule, step, state)
        assert 0.4 <= tau <= 1
        assert tau >= previous
        previous = tau
        state = schedule.observe(state, {} if loss is None else {"loss": loss})


@pytest.mark.parametrize("schedule", [each for each in ONE_OF_EACH if isinstance(each, Adaptive)])
def test_a_state_that_went_through_json_goes_on_as_the_same_and_observing_leaves_the_old_one_alone(schedule):
    state = schedule.begin()
    for step in range(6):
        state = schedule.observe(state, {schedule.watch: 1.0 + step % 2})
    before = dict(state)
    stored = json.loads(json.dumps(state))
    ahead = schedule.observe(state, {schedule.watch: 5.0})
    assert state == before
    assert schedule.observe(stored, {schedule.watch: 5.0}) == ahead
    assert ahead != before


@pytest.mark.parametrize("metrics", [{}, {"eval/loss": math.nan}, {"eval/loss": math.inf}, {"loss": 9.0}])
def test_a_step_without_the_metric_teaches_a_plateau_nothing(metrics):
    schedule = Plateau(watch="eval/loss")
    state = schedule.observe(schedule.begin(), {"eval/loss": 1.0})
    assert schedule.observe(state, metrics) == state


def test_an_adaptive_schedule_without_its_state_is_at_its_start():
    assert at(Taid(watch="x", steps=2), 50) == 0.4
    assert at(Plateau(watch="x", start=0.2), 50) == 0.2
    assert at(0.3, 99) == 0.3
    assert at(Linear(start=1, end=0, steps=4), 1, {"unrelated": 1.0}) == 0.75


@pytest.mark.parametrize("schedule", ONE_OF_EACH)
def test_every_kind_can_be_written_down_read_back_driven_and_described(schedule):
    assert READ.validate_python(schedule.model_dump(mode="json")) == schedule
    assert READ.validate_json(schedule.model_dump_json()) == schedule
    state = schedule.observe(schedule.begin(), {"loss": 1.0})
    assert (state != {}) == schedule.adaptive
    assert math.isfinite(at(schedule, 1, state))
    assert schedule.describe()


def test_every_kind_has_its_example_and_every_schedule_is_frozen_and_closed():
    assert [schedule.kind for schedule in ONE_OF_EACH] == list(KINDS)  # type: ignore[attr-defined]
    for schedule in ONE_OF_EACH:
        assert schedule.model_config["frozen"]
        assert schedule.model_config["extra"] == "forbid"


def test_a_mapping_without_a_kind_is_a_line_and_a_number_stays_a_number():
    assert READ.validate_python({"start": 0.005, "end": 0.001, "steps": 200}) == Linear(start=0.005, end=0.001, steps=200)
    assert READ.validate_python(0.5) == 0.5
    assert READ.validate_python(2) == 2.0
    assert READ.validate_python({"kind": "step", "start": 0, "points": {"5": 1}}) == Step(start=0, points={5: 1.0})


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "lineer", "start": 0, "end": 1, "steps": 2},
        {"kind": 3},
        {"start": 0, "end": 1},
        {"start": 0, "end": 1, "steps": 0},
        {"start": 0, "end": math.inf, "steps": 2},
        {"start": 0, "end": 1, "steps": 2, "ends": 1},
        {"kind": "step", "start": 0, "points": {}},
        {"kind": "plateau"},
        {"kind": "plateau", "watch": ""},
        {"kind": "taid", "watch": "x", "steps": 5, "start": 0.9, "end": 0.5},
        "often",
    ],
)
def test_what_is_no_schedule_is_refused(wrong):
    with pytest.raises(ValidationError):
        READ.validate_python(wrong)


def test_a_wrong_kind_is_answered_with_the_kinds_there_are():
    with pytest.raises(ValidationError) as caught:
        READ.validate_python({"kind": "lineer"})
    (detail,) = caught.value.errors()
    assert detail["type"] == "union_tag_invalid"
    assert "'plateau'" in detail["ctx"]["expected_tags"]


def test_the_place_of_a_wrong_value_names_the_kind_and_the_field():
    class Term(BaseModel):
        weight: Coefficient = 1.0

    with pytest.raises(ValidationError) as caught:
        Term.model_validate({"weight": {"start": "a", "end": 0, "steps": 2}})
    assert [detail["loc"] for detail in caught.value.errors()] == [("weight", "linear", "start")]


@pytest.mark.parametrize(
    ("coefficient", "zero"),
    [
        (0.0, True),
        (0.1, False),
        (Const(value=0), True),
        (Linear(start=0, end=0, steps=3), True),
        (Linear(start=0, end=1, steps=3), False),
        (Linear(start=1, end=0, steps=3), False),
        (Exponential(start=1e-9, end=1e-9, steps=3), False),
        (Step(start=0, points={5: 0.0}), True),
        (Step(start=1, points={0: 0.0}), True),
        (Step(start=1, points={1: 0.0}), False),
        (Step(start=0, points={5: 1.0}), False),
        (Every(start=0, increment=0, period=1), True),
        (Every(start=0, increment=1, period=1, limit=0), True),
        (Every(start=0, increment=1, period=1), False),
        (Plateau(watch="x"), False),
        (Plateau(watch="x", limit=0), True),
        (Taid(watch="x", steps=3, start=0, end=0), True),
        (Taid(watch="x", steps=3, start=0), False),
    ],
)
def test_zero_is_said_only_of_what_is_zero_at_every_step(coefficient, zero):
    assert is_zero(coefficient) is zero
    if zero:
        assert not any(at(coefficient, step) for step in range(20))
