"""Choices that do not go together are told before the first step, and what goes together is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agentdistill.config.schema import MethodConfig
from agentdistill.errors import ConfigError
from agentdistill.methods import Objective

PG = {"kind": "policy_gradient"}
D = {"kind": "divergence"}


def built(term: dict[str, Any], group: int = 8) -> Objective:
    return Objective(MethodConfig.model_validate({"name": "tried", "group_size": group, "terms": {"t": term}}))


REFUSED: dict[str, tuple[dict[str, Any], str, int]] = {
    "bridge": (D | {"target": {"kind": "bridge", "amount": 1.5}}, "reaches 1.5, and that of a bridge target is between 0 and 1", 1),
    "bridge later": (D | {"target": {"kind": "bridge", "amount": {"start": 0.1, "end": 1.2, "steps": 5}}}, "reaches 1.2", 1),
    "skew": (D | {"target": {"kind": "skew", "amount": -0.5}}, "reaches -0.5", 1),
    "geometric": (D | {"target": {"kind": "geometric", "amount": -1}}, "is 0 or more", 1),
    "a point in between": (
        D | {"divergence": "jsd", "beta": {"kind": "step", "start": 0.1, "points": {5: 2.0, 10: 0.5}}}, "beta=2 is not strictly between", 1,
    ),
    "watch": (D | {"weight": {"kind": "plateau", "start": 0.1, "watch": "loss/teachr"}}, "watches 'loss/teachr'", 1),
    "future clipped": (PG | {"teacher": 1, "teacher_clip": 1, "signal": {"future": "full", "gamma_token": 0.9}}, "is the div", 1),
    "no future": (PG | {"teacher": 1, "signal": {"future": "full"}}, "discounted by 0", 1),
    "minillm of jsd": (PG | {"teacher": 1, "signal": {"form": "minillm", "gamma_token": 1, "divergence": "jsd"}}, "made of log-ratios", 1),
    "imitation less itself": (
        PG | {"teacher": 1, "signal": {"form": "imitation", "baseline": "batch"}, "combine": {"mode": "gate", "by": "sigmoid"}},
        "takes that away", 1,
    ),
    "to the reference": (PG | {"teacher": 1, "signal": {"extrapolation": 0}}, "the target is the reference", 1),
    "scale beyond 1": (PG | {"outcome": 1, "teacher": 2, "combine": {"mode": "scale"}}, "keep it within 0 and 1", 8),
    "drop without siblings": (PG | {"outcome": 1, "baseline": "batch_std", "flat_groups": "drop"}, "which baseline=batch_std does not", 1),
    "drop that silences": (PG | {"outcome": 1, "teacher": 1, "flat_groups": "drop"}, "would silence teacher and critic", 8),
    "maxrl below 0": (PG | {"outcome": 1, "baseline": "maxrl", "overlong": {"limit": 9, "buffer": 3}}, "overlong makes negative", 8),
    "turns of one play": (PG | {"critic": 1, "critic_signal": {"kind": "turn_rewards"}}, "but method.group_size is 1", 1),
    "belief of one play": (PG | {"critic": 1, "critic_signal": {"kind": "belief"}}, "compares siblings", 1),
    "a part of a sequence": (
        PG | {"outcome": 1, "ratio": "sequence", "token_weights": [{"kind": "last_token"}]}, "one ratio for a whole episode", 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_misfit_is_refused_in_a_sentence(name: str) -> None:
    term, sentence, group = REFUSED[name]
    with pytest.raises(ConfigError, match=sentence):
        built(term, group)


@pytest.mark.parametrize(
    "term",
    [
        PG | {"ppo_clip": [0.2, -1.5], "outcome": 1},
        PG | {"tv_mask": [-0.2, 0.2], "outcome": 1},
        PG | {"mismatch": {"band": [5, 0.5]}, "outcome": 1},
        PG | {"overlong": {"limit": 100, "buffer": 200}, "outcome": 1},
        PG | {"dual_clip": 3, "surrogate": "cispo", "outcome": 1},
        PG | {"tv_mask_symmetric": True, "outcome": 1},
        PG | {"outcome": 1, "teacher": 1, "combine": {"mode": "gate", "by": "outcome", "low": 0.8, "high": 0.2}},
        PG | {"outcome": 1, "teacher": 1, "combine": {"mode": "scale", "clip": 0}},
        PG | {"outcome": 1, "teacher": 1, "combine": {"mode": "scale", "form": "residual", "threshold": 0.6}},
        D | {"support": "student"},
        D | {"token_weights": [{"kind": "teacher_entropy"}]},
        D | {"token_weights": [{"kind": "teacher_entropy", "above": 2, "below": 1}]},
        D | {"token_weights": [{"kind": "last_token", "from_step": 5, "until_step": 5}]},
        D | {"token_weights": [{"kind": "position", "shape": "exponential"}]},
    ],
)
def test_a_number_outside_its_range_is_no_configuration(term: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        built(term)


@pytest.mark.parametrize(
    "term",
    [
        D | {"target": {"kind": "geometric", "amount": 1.25}},
        D | {"target": {"kind": "bridge", "amount": {"kind": "taid", "steps": 5, "watch": "loss/t"}}},
        D | {"weight": {"kind": "plateau", "start": 0.1, "watch": "eval/success/greedy"}},
        PG | {"teacher": 1, "teacher_clip": 1, "signal": {"gamma_token": 0.9}},
        PG | {"teacher": 1, "signal": {"future": "full", "gamma_turn": 0.5}},
        PG | {"outcome": 1, "flat_groups": "drop"},
        PG | {"critic": 1, "critic_signal": {"kind": "turn_rewards", "normalise": "none"}},
    ],
)
def test_what_fits_is_left_alone(term: dict[str, Any]) -> None:
    built(term)


def test_weights_by_the_log_ratio_of_others_tokens_ask_for_the_students_own_numbers() -> None:
    sampler = {"student": 0, "teacher": 1, "only_successes": False}
    weighed = D | {"tokens": "data", "token_weights": [{"kind": "floor", "floor": -1}]}
    needs = Objective(MethodConfig.model_validate({"sampler": sampler, "terms": {"t": weighed}})).needs
    assert needs.old_logprobs
    assert needs.teacher_logprobs
    assert not built(D | {"token_weights": [{"kind": "floor", "floor": -1}]}).needs.old_logprobs


def test_an_evaluation_does_not_move_a_schedule_that_counts_steps() -> None:
    """What a run hears between two steps comes to the method in one piece: the figures of the step with those of the evaluation."""
    tau = {"kind": "taid", "start": 0.2, "steps": 50, "rate": 0.3, "watch": "loss/t"}
    plain, evaluated = (built(D | {"target": {"kind": "bridge", "amount": tau}}) for _ in range(2))
    for step in range(20):
        plain.observe({"loss/t": 1.0 / (step + 1)})
        evaluated.observe({"loss/t": 1.0 / (step + 1), "eval/success/greedy": 0.5})
    assert plain.state() == evaluated.state()
