"""Traps of sampled tokens that stand in public code: each is named, and shown to fail what our form passes.

The prefix is fixed and the vocabulary has three tokens, so means and variances over y ∼ q are sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from traps import tells_apart

from agentdistill.config.terms import KLTerm
from agentdistill.errors import ConfigError
from agentdistill.losses import divergence, kl_estimate, policy_gradient, score_advantage

Loss = Callable[[Tensor, Tensor], Tensor]
"""(ln p, ln q) of each token -> the loss of sampling it."""


def gradients(loss: Loss, p: Tensor, q: Tensor) -> Tensor:
    """∂ loss / ∂z of each token that may be sampled: [V, V]."""
    logits = q.clone().requires_grad_()
    losses = loss(p, logits.log_softmax(-1))
    return torch.stack([torch.autograd.grad(each, logits, retain_graph=True)[0] for each in losses])


def mean(loss: Loss, p: Tensor, q: Tensor) -> Tensor:
    return (q.exp()[:, None] * gradients(loss, p, q)).sum(0)


def variance(loss: Loss, p: Tensor, q: Tensor) -> float:
    """Trace of the covariance of the gradient."""
    found = gradients(loss, p, q)
    return float((q.exp()[:, None] * (found - mean(loss, p, q)) ** 2).sum())


def of(name: str, p: Tensor, q: Tensor) -> Tensor:
    """∂D/∂z."""
    logits = q.clone().requires_grad_()
    (found,) = torch.autograd.grad(divergence(name, p, logits), logits)
    return found


def as_reward(reward: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The policy gradient of a reward that is a number."""
    return lambda p, q: policy_gradient(q, reward(p, q.detach())).loss


def log_ratio(p: Tensor, q: Tensor) -> Tensor:
    return score_advantage("reverse_kl", p - q) + 1


def k3(p: Tensor, q: Tensor) -> Tensor:
    return torch.expm1(p - q) - (p - q)


# --- Estimates that are differentiated, or rewarded -----------------------------------------------------------------------


@pytest.mark.parametrize("ours", ["k2", "k3_plus"])
@pytest.mark.parametrize(
    ("trapped", "really"),
    [(lambda p, q: q - p, None), (k3, "forward_kl")],
    ids=["k1", "k3"],
)
def test_backpropagation_through_an_estimate_that_is_only_a_value(
    ours: str, trapped: Loss, really: str | None, pair: tuple[Tensor, Tensor]
) -> None:
    """k1's mean gradient is 0 (AReaL's joint loss; verl forbids it). k3's, verl's default file, is that of forward KL, not of reverse."""

    def check(loss: Loss) -> None:
        torch.testing.assert_close(mean(loss, *pair), of("reverse_kl", *pair), rtol=0, atol=1e-9)

    tells_apart(check, ours=lambda p, q: kl_estimate(ours, q, p), trapped=trapped)
    expected = torch.zeros(3, dtype=torch.float64) if really is None else of(really, *pair)
    torch.testing.assert_close(mean(trapped, *pair), expected, rtol=0, atol=1e-9)


def test_k1_is_refused_where_a_gradient_is_wanted_and_cannot_be_configured(pair: tuple[Tensor, Tensor]) -> None:
    p, q = pair
    with pytest.raises(ConfigError, match="mean of its gradient is zero"):
        kl_estimate("k1", q.clone().requires_grad_(), p)
    with pytest.raises(ValueError, match="k2"):
        KLTerm(against="teacher", estimator="k1")  # type: ignore[arg-type]  # that is the point


def test_k3_as_a_reward(pair: tuple[Tensor, Tensor]) -> None:
    """verl's dataclass defaults (k3 with a policy gradient): ∇RKL − ∇FKL, which vanishes to second order near the teacher."""

    def check(loss: Loss) -> None:
        torch.testing.assert_close(mean(loss, *pair), of("reverse_kl", *pair), rtol=0, atol=1e-9)

    trapped = as_reward(lambda p, q: -k3(p, q))
    tells_apart(check, ours=as_reward(log_ratio), trapped=trapped)
    torch.testing.assert_close(mean(trapped, *pair), of("reverse_kl", *pair) - of("forward_kl", *pair), rtol=0, atol=1e-9)


def test_a_log_ratio_as_reward_that_keeps_its_gradient(pair: tuple[Tensor, Tensor]) -> None:
    """TRL's MiniLLM does not detach its advantage: the mean is right, the variance twelve times as large."""

    def check(loss: Loss) -> None:
        torch.testing.assert_close(mean(loss, *pair), of("reverse_kl", *pair), rtol=0, atol=1e-9)
        assert variance(loss, *pair) == pytest.approx(0.0850, abs=1e-4)

    def ours(p: Tensor, q: Tensor) -> Tensor:
        return policy_gradient(q, p - q).loss  # an advantage with a graph behind it

    def trapped(p: Tensor, q: Tensor) -> Tensor:
        return -(q - q.detach()).exp() * (p - q)

    tells_apart(check, ours=ours, trapped=trapped)
    assert variance(trapped, *pair) == pytest.approx(1.0386, abs=1e-4)


@pytest.mark.parametrize("name", ["forward_kl", "jsd", "chi2_pearson", "hellinger", "skew_kl", "skew_reverse_kl"])
def test_minus_f_as_the_reward_of_a_token_for_its_own_position(name: str, pair: tuple[Tensor, Tensor]) -> None:
    """−f(u) is the credit of later positions; at its own A_f(u) is, and only for reverse KL the two differ by a constant."""
    f = {
        "forward_kl": lambda u: u * u.log(),
        "jsd": lambda u: 0.5 * u * (2 * u / (u + 1)).log() - 0.5 * ((u + 1) / 2).log(),
        "chi2_pearson": lambda u: (u - 1) ** 2,
        "hellinger": lambda u: (u.sqrt() - 1) ** 2 / 2,
        "skew_kl": lambda u: u * (u / (0.1 * u + 0.9)).log(),
        "skew_reverse_kl": lambda u: -(0.9 * u + 0.1).log(),
    }[name]

    def check(loss: Loss) -> None:
        torch.testing.assert_close(mean(loss, *pair), of(name, *pair), rtol=0, atol=1e-9)

    ours = as_reward(lambda p, q: score_advantage(name, p - q))
    tells_apart(check, ours=ours, trapped=as_reward(lambda p, q: -f((p - q).exp())))


# --- Ratios --------------------------------------------------------------------------------------------------------------


def test_processed_log_probabilities_as_denominators(pair: tuple[Tensor, Tensor]) -> None:
    """trl#6945: log-probabilities after temperature and top-p are of another distribution, and no ratio to them is 1 on policy."""
    _, q = pair
    processed = (q / 0.7).log_softmax(-1).masked_fill(torch.tensor([False, False, True]), -math.inf).log_softmax(-1)
    advantages = torch.ones_like(q)

    def check(old: Tensor) -> None:
        found = policy_gradient(q.clone().requires_grad_(), advantages, old_logprobs=old, ppo_clip=(0.2, 0.2))
        assert torch.allclose(found.ratio, torch.ones_like(q)), "the policy has not moved"
        assert not found.clipped.any()

    tells_apart(check, ours=q, trapped=processed)
