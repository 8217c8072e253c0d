"""The gradient of a preset depends on what it says that it listens to: another teacher, another gradient.

AReaL's joint loss differentiates ln q − sg ln p of the sampled token, whose gradient is ∇ln q whoever the teacher is: verl refuses the
same form as k1. Nothing about such a run looks wrong but that it learns nothing.
"""

from __future__ import annotations

import pytest
import torch

from agentdistill.config.schema import DivergenceTerm, PolicyGradientTerm
from agentdistill.errors import ConfigError
from agentdistill.methods import Objective

from .preset_batch import models
from .preset_dense import over_tokens
from .preset_run import Found, by_the_library, by_the_paper, distance, method_of
from .preset_table import Table
from .presets import PRESETS, preset

ANOTHER = 4
HEARD = [name for name in PRESETS if method_of(name).needs.teacher_logprobs or method_of(name).needs.teacher_dense]
UNHEARD = [name for name in PRESETS if name not in HEARD]


def moves(one: Found, other: Found) -> bool:
    """Whether a gradient changed by more than rounding."""
    return distance((0.0, {}, one[2]), (0.0, {}, other[2])) > 1e-6


@pytest.mark.parametrize("name", HEARD)
def test_another_teacher_has_another_gradient(name: str) -> None:
    assert moves(by_the_library(name), by_the_library(name, teacher_seed=ANOTHER))


@pytest.mark.parametrize("name", UNHEARD)
def test_a_teacher_that_is_not_asked_changes_nothing(name: str) -> None:
    assert not moves(by_the_library(name), by_the_library(name, teacher_seed=ANOTHER))


def test_the_joint_loss_that_no_teacher_can_change() -> None:
    """The trapped form fails the property; its value, which is what a run shows, follows the teacher all the same."""

    def trapped(t: Table, step: int) -> dict[str, tuple[float, torch.Tensor]]:
        return {"teacher": (1.0, over_tokens(t.lq - t.told, t.by_student))}

    one, other = by_the_paper(trapped), by_the_paper(trapped, teacher_seed=ANOTHER)
    assert abs(one[0] - other[0]) > 0.1
    assert not moves(one, other)


@pytest.mark.parametrize("name", HEARD)
def test_a_term_that_is_told_not_to_listen_is_refused(name: str) -> None:
    """The teacher's coefficient at 0, or the term's, where nothing else is left to train on."""
    config = preset(name)
    silenced = {}
    for key, term in config.terms.items():
        if isinstance(term, PolicyGradientTerm) and term.teacher:
            silenced[key] = term.model_copy(update={"teacher": 0.0, "outcome": 0.0})
        elif isinstance(term, DivergenceTerm) or "teacher" in key:
            silenced[key] = term.model_copy(update={"weight": 0.0})
    assert silenced
    for key, term in silenced.items():
        with pytest.raises(ConfigError, match=f"method.terms.{key}"):
            Objective(config.model_copy(update={"terms": {**config.terms, key: term}}))


def test_both_teachers_are_teachers() -> None:
    one, other = models(1).teacher, models(ANOTHER).teacher
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
