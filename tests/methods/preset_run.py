"""One accumulation of a preset on the batch: by the library, and by its paper."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from agentdistill.config.schema import DivergenceTerm
from agentdistill.config.terms import learned_values
from agentdistill.methods import Objective
from agentdistill.types import Sample

from .preset_batch import SPECIAL, Dense, batch, groups, learner, models
from .preset_dense import Reference
from .preset_table import table
from .presets import preset

Found = tuple[float, dict[str, float], dict[str, torch.Tensor]]


def credited(name: str, step: int = 0, teacher_seed: int = 1) -> list[Sample]:
    """The batch after credit."""
    return method_of(name).credit(batch(teacher_seed), groups(), step).samples


def method_of(name: str) -> Objective:
    method = Objective(preset(name))
    method.special_ids = SPECIAL
    return method


def by_the_library(name: str, step: int = 0, teacher_seed: int = 1, samples: Sequence[Sample] | None = None, **choices: Any) -> Found:
    """Total, terms and gradients; of ``samples`` in place of :func:`credited` ones."""
    terms = method_of(name).terms_at(step)
    found = learner(models().student, values=learned_values(terms), **choices)
    samples = credited(name, step, teacher_seed) if samples is None else samples
    teacher = Dense(models(teacher_seed).teacher) if any(isinstance(term, DivergenceTerm) for term in terms.values()) else None
    report = found.accumulate(found.pack(samples, terms, step), terms, step, teacher)
    return report.total, report.components, {name: parameter.grad.clone() for name, parameter in found.trained.items()}


def by_the_paper(reference: Reference, step: int = 0, teacher_seed: int = 1) -> Found:
    model = copy.deepcopy(models().student)
    losses = reference(table(model, teacher_seed), step)
    total = sum((weight * loss for weight, loss in losses.values()), torch.zeros((), dtype=torch.float64))
    total.backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    return float(total.detach()), {name: float(loss.detach()) for name, (_, loss) in losses.items()}, gradients


def distance(found: Found, expected: Found) -> float:
    """The largest difference of total, terms and gradients, each relative to its own size."""
    assert found[1].keys() == expected[1].keys()
    assert found[2].keys() == expected[2].keys()
    numbers = [(found[0], expected[0]), *((found[1][name], value) for name, value in expected[1].items())]
    values = [abs(one - other) / max(abs(other), 1e-3) for one, other in numbers]
    scale = max(float(gradient.abs().max()) for gradient in expected[2].values())
    gradients = [float((found[2][name] - gradient).abs().max()) / scale for name, gradient in expected[2].items()]
    return float(np.max(values + gradients))  # which is NaN where one of them is
