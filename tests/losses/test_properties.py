"""For any logits that floating point holds: a finite loss has a finite gradient, and no loss is negative where theory says so."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentdistill.losses import DIVERGENCES, divergence, pathwise

INF = math.inf

DIALS: dict[tuple[str, str], tuple[float, ...]] = {
    ("jsd", "beta"): (0.5, 0.1, 0.9, 1e-9, 1 - 1e-9),
    ("alpha", "alpha"): (0.5, 0.0, 1.0, 1e-12, 1 - 1e-12, -1.0, 2.0, -7.5, 12.0),
    ("renyi", "alpha"): (0.5, 1.0, 1 + 1e-12, 1e-6, 2.0, 30.0, INF),
    ("skew_kl", "alpha"): (0.1, 0.0, 1e-12, 0.99),
    ("skew_reverse_kl", "alpha"): (0.1, 0.0, 1e-12, 0.99),
    ("alpha_beta", "alpha"): (0.5, 0.0, 1.0, 1e-12, -0.5, 2.0, -4.0),
    ("alpha_beta", "beta"): (0.5, 0.0, 1.0, 1e-12, -0.5, 1e-3, 5.0, -2.0),
    ("adaptive_kl", "mu"): (0.5, 1e-9, 1.0, 0.9),
    ("todi", "beta"): (1.0, 0.0, -1.0, 30.0, 1e-9),
}
"""Values of each parameter that are drawn from, limits and neighbours of limits among them."""

ROUTES: tuple[dict[str, Any], ...] = (
    {},
    {"route": "topk", "k": 2},
    {"route": "topk", "k": 1, "support": "union", "renormalise": True},
    {"route": "topk", "k": 2, "support": "student", "renormalise": "teacher"},
    {"route": "topk", "k": 2, "support": "intersection", "tail": False},
    {"route": "topk", "k": 2, "support": "student", "form": "score"},
)

ROWS = 4
"""Pairs of rows in an example, each a case of its own."""

logit = st.one_of(
    st.floats(-30, 30, width=32), st.floats(-1e4, 1e4, width=32), st.sampled_from([0.0, -INF, -1e30, 88.0, -103.0, 3e38, -3e38])
)
rows = st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(logit, min_size=n, max_size=n), min_size=2 * ROWS, max_size=2 * ROWS))
dial = st.integers(0, 2**16)


def parameters_of(name: str, turn: int) -> dict[str, float]:
    """A value of each parameter, the same for the same ``turn``."""
    found = {}
    for (owner, key), values in DIALS.items():
        if owner == name:
            found[key] = values[turn % len(values)]
            turn //= len(values)
    return found


def check(name: str, logits: list[list[float]], turn: int) -> None:
    """Each logit as drawn; in float32, where overflow is near."""
    teacher, student = torch.tensor(logits[:ROWS]), torch.tensor(logits[ROWS:], requires_grad=True)
    parameters, choices = parameters_of(name, turn), ROUTES[turn % len(ROUTES)]
    value = divergence(name, teacher, student, **choices, **parameters)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    detail = (name, parameters, choices, value, gradient)
    finite = value.detach().isfinite()
    assert bool(gradient[finite].isfinite().all()), detail
    says_nothing = teacher.isneginf().all(-1)
    assert not bool(value[says_nothing].any()), detail
    speaks = ~student.detach().isneginf().all(-1)  # a student of nothing but −inf is no distribution
    assert not bool(value[speaks].isnan().any()), detail
    if DIVERGENCES[name].overflows:  # computed in float64 there, but in what it is given here
        bare, slopes = pathwise(name, *(side.detach().log_softmax(-1) for side in (teacher, student)), parameters)
        assert bool(slopes[bare.isfinite()].isfinite().all()), (detail, bare, slopes)
        assert not bool(bare[speaks & ~says_nothing].isnan().any()), (detail, bare)
    if choices.get("renormalise") is True or choices.get("k") is None or choices == ROUTES[1]:
        assert not bool((value < 0).any()), detail


@settings(max_examples=200 // ROWS, deadline=None)
@given(rows, dial)
def test_a_finite_loss_has_a_finite_gradient_and_is_not_negative(logits: list[list[float]], turn: int) -> None:
    for name in DIVERGENCES:
        check(name, logits, turn)


@pytest.mark.ci
@settings(max_examples=5_000 // ROWS, deadline=None)
@given(rows, dial)
def test_five_thousand_losses_of_each_divergence(logits: list[list[float]], turn: int) -> None:
    for name in DIVERGENCES:
        check(name, logits, turn)


@pytest.mark.nightly
@settings(max_examples=50_000 // ROWS, deadline=None)
@given(rows, dial)
def test_fifty_thousand_losses_of_each_divergence(logits: list[list[float]], turn: int) -> None:
    for name in DIVERGENCES:
        check(name, logits, turn)
