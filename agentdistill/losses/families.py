"""The mathematics of each divergence: its value, and its pull q A.

Every function takes the two :class:`Sides` and returns :data:`Parts`. Nothing here divides by a probability; a token that neither
side has contributes nothing, and one that only one side has contributes what the definition's limit says, infinity included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agentdistill.losses.powers import alpha_beta_pull, alpha_beta_terms


@dataclass(frozen=True)
class Sides:
    """Two distributions over the same symbols, [..., V]."""

    teacher: Tensor
    """ln p; −inf where there is no mass."""
    student: Tensor
    """ln q."""
    probs: Tensor
    """q."""
    normalised: bool = True
    """Whether both sum to 1. Not so where part of the vocabulary is left out and nothing stands for it."""


class Parts(NamedTuple):
    """What a divergence says of a row."""

    value: Tensor
    """[...]"""
    pull: Tensor
    """q (A − constant), [..., V], in memory of its own."""
    constant: Tensor | float = 0.0
    """What A_v = −∂D/∂q_v has besides, the same for every token, or [..., 1]: a baseline unless part of the vocabulary is left out."""


def _zero_where(empty: Tensor, values: Tensor) -> Tensor:
    """0 · ln 0 = 0: entries without mass contribute nothing, whatever the logarithm is."""
    return values.masked_fill_(empty, 0.0)


def _towards(probs: Tensor, logprobs: Tensor, other: Tensor) -> Tensor:
    """Σ a ln(a/b)."""
    return _zero_where(probs == 0, probs * (logprobs - other)).sum(-1)


def _mixed(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """ln(weight · a + (1 − weight) · b)."""
    return torch.logaddexp(first + math.log(weight), second + math.log1p(-weight))


def forward_kl(sides: Sides) -> Parts:
    p = sides.teacher.exp()
    return Parts(_towards(p, sides.teacher, sides.student), p)  # q A = q u = p


def reverse_kl(sides: Sides) -> Parts:
    pull = _zero_where(sides.probs == 0, (sides.teacher - sides.student).mul_(sides.probs))
    return Parts(-pull.sum(-1), pull, -1.0)  # A = ln u − 1


def jeffreys(sides: Sides) -> Parts:
    forward, backward = forward_kl(sides), reverse_kl(sides)
    return Parts(forward.value + backward.value, backward.pull.add_(forward.pull), -1.0)  # A = u + ln u − 1


def jsd(sides: Sides, *, beta: float) -> Parts:
    mixture = _mixed(sides.teacher, sides.student, beta)
    pull = _zero_where(sides.probs == 0, (mixture - sides.student).mul_(sides.probs)).mul_(1 - beta)  # A = (1−β) ln(M/q)
    return Parts(beta * _towards(sides.teacher.exp(), sides.teacher, mixture) - pull.sum(-1), pull)


def skew_kl(sides: Sides, *, alpha: float) -> Parts:
    if alpha == 0:
        return forward_kl(sides)
    mixture = _mixed(sides.teacher, sides.student, alpha)
    p = sides.teacher.exp()
    value = _towards(p, sides.teacher, mixture)
    pull = (sides.student - mixture).exp_().mul_(p).mul_(1 - alpha)  # A = (1−α) p/M
    return Parts(value, _zero_where((p == 0) | (sides.probs == 0), pull))


def skew_reverse_kl(sides: Sides, *, alpha: float) -> Parts:
    if alpha == 0:
        return reverse_kl(sides)
    mixture = _mixed(sides.student, sides.teacher, alpha)
    from_mixture = mixture - sides.student
    value = -_zero_where(sides.probs == 0, from_mixture * sides.probs).sum(-1)
    share = (from_mixture * -1).exp_().mul_(alpha)  # αq/M; A = ln(M/q) + αq/M − 1
    return Parts(value, _zero_where(sides.probs == 0, share.add_(from_mixture).mul_(sides.probs)), -1.0)


def tvd(sides: Sides) -> Parts:
    p = sides.teacher.exp()
    difference = p - sides.probs
    return Parts(0.5 * difference.abs().sum(-1), difference.sign().mul_(sides.probs).mul_(0.5))  # A = ½ sign(u − 1)


def hellinger(sides: Sides) -> Parts:
    root = (0.5 * sides.student).exp_()
    difference = (0.5 * sides.teacher).exp_().sub_(root)
    return Parts(0.5 * difference.square().sum(-1), difference.mul_(root).mul_(0.5))  # A = ½ (√u − 1)


def alpha_beta(sides: Sides, *, alpha: float, beta: float, total: float | None = None, factor: float = 1.0) -> Parts:
    total = alpha + beta if total is None else total
    value = alpha_beta_terms(sides.teacher, sides.student, alpha, beta, total).sum(-1)
    pull = alpha_beta_pull(sides.teacher, sides.student, alpha, beta, total)
    return Parts(value, pull) if factor == 1 else Parts(value * factor, pull.mul_(factor))


def alpha(sides: Sides, *, alpha: float) -> Parts:
    return alpha_beta(sides, alpha=alpha, beta=1 - alpha, total=1.0)  # A = (u^α − 1)/α


def chi2_pearson(sides: Sides) -> Parts:
    return alpha_beta(sides, alpha=2.0, beta=-1.0, factor=2.0)  # A = u² − 1


def chi2_neyman(sides: Sides) -> Parts:
    return alpha_beta(sides, alpha=-1.0, beta=2.0, factor=2.0)  # A = 2 − 2/u


def renyi(sides: Sides, *, alpha: float) -> Parts:
    """By the logarithm of Σ p^a q^{1−a}; where that sum is close to 1, by its distance from 1, which does not cancel as a → 1."""
    if alpha == 1:
        return forward_kl(sides)
    if math.isinf(alpha):
        return _largest_ratio(sides)
    absent = sides.teacher.isneginf() & sides.student.isneginf()
    if alpha < 1:
        exponents = alpha * sides.teacher + (1 - alpha) * sides.student
    else:  # as the sum of a product that overflows towards its own sign
        exponents = (sides.teacher - sides.student).mul_(alpha - 1).add_(sides.teacher)
    exponents.masked_fill_(absent, -math.inf)
    log_sum = exponents.logsumexp(-1, keepdim=True)
    value = log_sum[..., 0] / (alpha - 1)
    if sides.normalised:
        distance = alpha_beta_terms(sides.teacher, sides.student, alpha, 1 - alpha, 1.0).sum(-1) * (alpha * (alpha - 1))
        close = (distance.abs() < 0.5) & (log_sum[..., 0].abs() < 1)
        value = torch.where(close, torch.log1p(distance) / (alpha - 1), value)
    pull = (exponents - log_sum.masked_fill(log_sum.isneginf(), 0.0)).exp_()  # A = u^a / Σ p^a q^{1−a}
    return Parts(value, pull)


def _largest_ratio(sides: Sides) -> Parts:
    """ln max p/q, a subgradient where several tokens share the maximum."""
    ratio = _zero_where(sides.teacher.isneginf() & sides.student.isneginf(), sides.teacher - sides.student)
    ratio = ratio.masked_fill_(sides.teacher.isneginf(), -math.inf)
    value = ratio.amax(-1, keepdim=True)
    largest = ((ratio == value) & ~sides.teacher.isneginf()).to(ratio.dtype)
    ties = largest.sum(-1, keepdim=True)
    value = value.masked_fill((ties == 0) & ~value.isnan(), 0.0)
    return Parts(value[..., 0], largest.div_(ties.clamp_min(1)))


def adaptive_kl(sides: Sides, *, mu: float) -> Parts:
    """Forward KL weighs as much as the head's share of Σ|p − q|, reverse KL as much as the tail's. The weights have no gradient."""
    head = _head(sides.teacher.exp(), mu)
    gap = (sides.teacher.exp() - sides.probs).abs()
    in_head, in_tail = gap.masked_fill(~head, 0.0).sum(-1), gap.masked_fill(head, 0.0).sum(-1)
    forward_weight = torch.where(in_head + in_tail == 0, 0.5, in_head / (in_head + in_tail))
    backward_weight = 1 - forward_weight
    forward, backward = forward_kl(sides), reverse_kl(sides)
    weighted = [_zero_where(weight == 0, weight * each.value) for weight, each in ((forward_weight, forward), (backward_weight, backward))]
    pull = forward.pull.mul_(forward_weight[..., None])
    pull.add_(_zero_where((backward_weight == 0)[..., None], backward.pull.mul_(backward_weight[..., None])))
    return Parts(weighted[0] + weighted[1], pull, -backward_weight[..., None])


def _head(p: Tensor, mu: float) -> Tensor:
    """The most likely token, and those down to which the teacher's mass, summed from the top, is at most μ. A few ulp more still are."""
    if mu == 1:
        return torch.ones_like(p, dtype=torch.bool)
    ordered, ids = p.sort(dim=-1, descending=True, stable=True)
    within = ordered.cumsum(-1, dtype=torch.float64) <= mu + 8 * torch.finfo(p.dtype).eps
    within[..., 0] = True
    return torch.zeros_like(within).scatter_(-1, ids, within)


def todi(sides: Sides, *, beta: float) -> Parts:
    """α depends on the token, so that no part of A is a constant: A = α u + (1−α)(ln u − 1)."""
    p, q = sides.teacher.exp(), sides.probs
    log_ratio = _zero_where((p == 0) & (q == 0), sides.teacher - sides.student)
    sharp = log_ratio * beta if beta else torch.zeros_like(log_ratio)
    forward, backward = p * torch.sigmoid(sharp), q * torch.sigmoid(-sharp)
    terms = _zero_where(forward == 0, forward * log_ratio) - _zero_where(backward == 0, backward * log_ratio)
    pull = forward + _zero_where(backward == 0, backward * (log_ratio - 1))
    return Parts(terms.sum(-1), pull)
