"""Differences of powers of two probabilities, exact where parameters meet and where probabilities do.

The α-β divergence at one token is a second divided difference, and its pull a first one, of the same function::

    g(c) = p^{s−c} q^c,  s = α + β          d(p, q) = g[0, β, s]          q A = g[s, β] = (p^α q^β − q^s) / α

With w = ln p − ln q, g(c) = p^s e^{−cw}. Evaluated in this form, the cases α = 0, β = 0 and α + β = 0 are no cases at all:
nothing is ever divided by a parameter that may vanish, so that values next to a limit run into it continuously. A divided
difference of an exponential is positive, and so is d.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

VANISHING = 1e-30
"""A gap between exponents below this is none: its effect is below rounding for any log-ratio that floating point holds."""
NARROW = 0.25
"""Below this distance of the outer exponents the closed form cancels; the Taylor series takes over near u = 1."""


def rise(gap: float, distance: Tensor) -> Tensor:
    """(1 − e^{−gap·distance}) / gap for numbers ≥ 0; its limit ``distance`` where the gap vanishes."""
    return distance if gap < VANISHING else torch.expm1(distance * -gap).div_(-gap)


def box_cox(log_ratio: Tensor, power: float) -> Tensor:
    """(u^power − 1) / power from ln u; ln u where the power vanishes."""
    return log_ratio.clone() if abs(power) < VANISHING else torch.expm1(log_ratio * power) / power


def alpha_beta_pull(
    teacher_logprobs: Tensor, student_logprobs: Tensor, alpha: float, beta: float, total: float, scale: Tensor | None = None
) -> Tensor:
    """(p^α q^β − q^{α+β}) / α at each token, times e^scale; 0 where neither side has mass.

    Args:
        teacher_logprobs: ln p, any shape; −inf where there is no mass.
        student_logprobs: ln q.
        alpha: α.
        beta: β.
        total: α + β, given because the caller may know it exactly.
        scale: exponent added before anything is exponentiated.
    """
    log_ratio, teacher, student, absent = _without_absent(teacher_logprobs, student_logprobs)
    top = torch.maximum(teacher * alpha + student * beta, student * total)
    pull = _scaled(top, scale).mul_(rise(abs(alpha), log_ratio.abs())).mul_(log_ratio.sign())
    pull.masked_fill_(log_ratio == 0, 0.0)  # 0 · overflow
    if absent is None:
        return pull
    no_teacher, no_student = absent
    alone = _scaled(student_logprobs * total, scale).mul_(-1 / alpha) if alpha > 0 else torch.full_like(pull, -math.inf)
    pull = torch.where(no_teacher & ~no_student, alone, pull)
    return pull.masked_fill_(no_student, 0.0)  # where β ≤ 0 or α+β ≤ 0 the value is infinite


def alpha_beta_terms(
    teacher_logprobs: Tensor, student_logprobs: Tensor, alpha: float, beta: float, total: float, scale: Tensor | None = None
) -> Tensor:
    """−(p^α q^β − α/(α+β) p^{α+β} − β/(α+β) q^{α+β}) / (αβ) at each token, times e^scale; never negative. Args: :func:`alpha_beta_pull`."""
    log_ratio, teacher, student, absent = _without_absent(teacher_logprobs, student_logprobs)
    terms = _second_difference(log_ratio, teacher, student, alpha, beta, total, scale)
    if absent is None:
        return terms
    no_teacher, no_student = absent
    for missing, other, present, weight in (
        (no_teacher, no_student, student_logprobs, alpha),
        (no_student, no_teacher, teacher_logprobs, beta),
    ):
        finite = weight > 0 and total > 0  # what one side lacks costs the other side's power of it
        alone = _scaled(present * total, scale).mul_(1 / (weight * total)) if finite else torch.full_like(terms, math.inf)
        terms = torch.where(missing & ~other, alone, terms)
    return terms


def _without_absent(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """ln u and both sides with ln 0 replaced by numbers that compute, and where those are."""
    no_teacher, no_student = teacher.isneginf(), student.isneginf()
    either = no_teacher | no_student
    least = -(torch.finfo(teacher.dtype).max ** 0.75)  # what is less likely still would overflow when multiplied
    teacher, student = teacher.clamp_min(least), student.clamp_min(least)
    if not bool(either.any()):
        return teacher - student, teacher, student, None
    teacher, student = teacher.masked_fill(either, 0.0), student.masked_fill(either, 0.0)
    return teacher - student, teacher, student, (no_teacher, no_student)


def _scaled(exponent: Tensor, scale: Tensor | None) -> Tensor:
    return (exponent if scale is None else exponent + scale).exp()


def _second_difference(
    log_ratio: Tensor, teacher: Tensor, student: Tensor, alpha: float, beta: float, total: float, scale: Tensor | None
) -> Tensor:
    """g[0, β, α+β] where both sides have mass."""
    gaps = {frozenset("0b"): abs(beta), frozenset("bs"): abs(alpha), frozenset("0s"): abs(total)}
    exponents = {"0": (total, 0.0), "b": (alpha, beta), "s": (0.0, total)}
    low, middle, high = sorted("0bs", key=lambda node: {"0": 0.0, "b": beta, "s": total}[node])
    ends = [teacher * exponents[node][0] + student * exponents[node][1] for node in (low, high)]
    top = _scaled(torch.maximum(*ends), scale)
    span, lower, upper = gaps[frozenset(low + high)], gaps[frozenset(low + middle)], gaps[frozenset(middle + high)]
    distance = log_ratio.abs()
    down = log_ratio < 0  # the largest of the three is g(low) where u > 1, and g(high) where u < 1
    rises = rise(lower, distance), rise(upper, distance)
    near = torch.where(down, rises[1], rises[0])
    far = torch.where(down, rises[0], rises[1])
    fall = torch.where(down, distance * -upper, distance * -lower).exp_()
    difference = (near - far * fall).clamp_min_(0.0)
    if span < NARROW:
        steps = torch.where(down, distance * upper, distance * lower)
        series = _taylor(steps, distance * span, log_ratio.dtype) * distance * distance
        difference = torch.where(distance * span < 1, series, difference / max(span, VANISHING))
    else:
        difference.div_(span)
    return top.mul(difference).masked_fill_((log_ratio == 0) | (top == 0), 0.0)  # 0 · overflow


def _taylor(middle: Tensor, outer: Tensor, dtype: torch.dtype) -> Tensor:
    """exp[0, −middle, −outer] for 0 ≤ middle ≤ outer ≤ 1: Σ_k (−1)^k h_k / (k+2)!, h_k complete homogeneous."""
    middle, outer = middle.clamp_max(1.0), outer.clamp_max(1.0)
    power = torch.ones_like(middle)
    homogeneous = torch.ones_like(middle)
    total = torch.full_like(middle, 0.5)
    for k in range(1, 19 if dtype is torch.float64 else 11):
        power = power * middle
        homogeneous = homogeneous * outer + power
        total = total + homogeneous * ((-1) ** k / math.factorial(k + 2))
    return total
