"""What the schema itself decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from agentdistill.config import schema
from agentdistill.config.method import resolved, schedules
from agentdistill.config.schedule import Linear
from agentdistill.config.schema import DivergenceTerm, MethodConfig, PolicyGradientTerm, SamplerConfig, TrainConfig, at


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


def test_a_weight_that_does_not_act_yet_is_no_part_of_the_term() -> None:
    """Also one that only the kernel computes, and those of the teacher's part alone."""
    gate = {"kind": "teacher_entropy", "above": 0.8, "from_step": 3, "until_step": 5}
    term = DivergenceTerm.model_validate({"token_weights": [gate, {"kind": "last_token"}]})
    assert [len(resolved(term, step).token_weights) for step in (0, 2, 3, 4, 5)] == [1, 1, 2, 2, 1]
    hybrid = PolicyGradientTerm.model_validate({"teacher": 1.0, "signal": {"weights": [{"kind": "turn_drift", "until_step": 2}]}})
    assert [len(resolved(hybrid, step).signal.weights) for step in (1, 2)] == [1, 0]


def test_a_schedule_anywhere_in_a_term_is_a_number_at_a_step() -> None:
    term = DivergenceTerm.model_validate(
        {
            "divergence": "alpha_beta",
            "alpha": {"start": 1.0, "end": 0.0, "steps": 4},
            "target": {"kind": "skew", "amount": {"kind": "cosine", "start": 1, "end": 0.5, "steps": 2}},
        }
    )
    assert set(schedules(term)) == {"alpha", "target.amount"}
    at_two = resolved(term, 2)
    assert (at_two.alpha, at_two.target.amount) == (0.5, 0.5)
    assert schedules(at_two) == {}
