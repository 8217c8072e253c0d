"""The straight-through estimate: the value of k3 with the gradient of k2."""

import pytest
import torch
from torch import Tensor

from agentdistill.losses import divergence, kl_estimate


def slopes(estimator: str, student: Tensor, other: Tensor) -> Tensor:
    leaf = student.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kl_estimate(estimator, leaf, other).sum(), leaf)
    return gradient


def test_k3_plus_has_the_value_of_k3_and_the_gradient_of_k2(pair: tuple[Tensor, Tensor]) -> None:
    p, q = pair
    torch.testing.assert_close(kl_estimate("k3_plus", q, p), kl_estimate("k3", q, p), rtol=0, atol=1e-15)
    torch.testing.assert_close(slopes("k3_plus", q, p), slopes("k2", q, p), rtol=0, atol=1e-15)
    assert float((slopes("k3_plus", q, p) - slopes("k3", q, p)).abs().max()) > 0.05


def test_the_mean_gradient_of_k3_plus_is_reverse_kl(pair: tuple[Tensor, Tensor]) -> None:
    p, q = pair
    leaf = q.clone().requires_grad_()
    (expected,) = torch.autograd.grad(divergence("reverse_kl", p, leaf), leaf)
    (found,) = torch.autograd.grad((q.exp() * kl_estimate("k3_plus", leaf.log_softmax(-1), p)).sum(), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("log_ratio", [-1e30, -800.0, 0.0, 80.0])
def test_a_finite_k3_plus_has_a_finite_gradient(log_ratio: float) -> None:
    student = torch.zeros(1)
    other = student + log_ratio
    assert bool(kl_estimate("k3_plus", student, other).isfinite().all())
    assert slopes("k3_plus", student, other).tolist() == [-other.item()]
