"""What the schema itself decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from agentdistill.config import schema
from agentdistill.config.schedule import Linear
from agentdistill.config.schema import DivergenceTerm, MethodConfig, SamplerConfig, TrainConfig, at


@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(1, 50), st.integers(0, 100))
def test_a_schedule_starts_at_start_moves_in_a_line_and_stays_at_end(start: float, end: float, steps: int, step: int) -> None:
    schedule = Linear(start=start, end=end, steps=steps)
    assert schedule.at(0) == start
    assert schedule.at(steps + step) == pytest.approx(end)
    assert min(start, end) - 1e-9 <= schedule.at(step) <= max(start, end) + 1e-9


def test_a_coefficient_is_a_number_or_a_schedule() -> None:
    assert at(0.3, 99) == 0.3
    assert at(Linear(start=1, end=0, steps=4), 1) == 0.75


def test_a_constant_normaliser_needs_its_constant_and_only_it_does() -> None:
    assert DivergenceTerm(normaliser="constant", constant=8).constant == 8
    for fields in ({"normaliser": "constant"}, {"constant": 8.0}):
        with pytest.raises(ValidationError, match="needs constant=<number>"):
            DivergenceTerm.model_validate(fields)


def test_shares_of_players_sum_to_one() -> None:
    assert SamplerConfig(student=0.25, teacher=0.5, expert=0.25).teacher == 0.5
    with pytest.raises(ValidationError, match=r"sum to 1.5, not 1"):
        SamplerConfig(teacher=0.5)


def test_the_batch_is_a_multiple_of_the_group() -> None:
    with pytest.raises(ValidationError, match=r"rollout.batch=128 is not a multiple of method.group_size=3"):
        TrainConfig.model_validate({"env": {}, "teacher": {}, "method": MethodConfig(group_size=3)})


def test_every_model_is_frozen_and_closed() -> None:
    models = [kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, BaseModel)]
    assert len(models) > 10
    for model in models:
        assert model.model_config["frozen"], model
        assert model.model_config["extra"] == "forbid", model
