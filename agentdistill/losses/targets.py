"""What stands in for the teacher: distributions between, beyond, or of several teachers.

Each target is called as ``target(teacher_logits, student_logits)`` and returns log-probabilities [..., V], normalised and without
gradient; ``divergence(..., target=bridge(0.4))`` does so. A row where the teacher is nothing but −inf stays so: it has no target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError, unknown

KINDS = ("arithmetic", "geometric")


@dataclass(frozen=True)
class Geometric:
    """p^λ ref^{1−λ} / Z. See :func:`geometric`."""

    reference_logits: Tensor
    lam: float

    def __call__(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        _same_shape(teacher_logits, self.reference_logits, "reference_logits")
        with torch.no_grad():
            return _power_mean([_logprobs(teacher_logits), _logprobs(self.reference_logits)], [self.lam, 1 - self.lam])


@dataclass(frozen=True)
class Bridge:
    """softmax((1−τ) z_q + τ z_p). See :func:`bridge`."""

    tau: float

    def __call__(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        _same_shape(teacher_logits, student_logits, "student_logits")
        with torch.no_grad():
            teacher = _logprobs(teacher_logits)
            target = _power_mean([_logprobs(student_logits), teacher], [1 - self.tau, self.tau])
            return target.masked_fill_(teacher.amax(-1, keepdim=True).isneginf(), -math.inf)


@dataclass(frozen=True)
class Skew:
    """αp + (1−α)q. See :func:`skew`."""

    alpha: float

    def __call__(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        _same_shape(teacher_logits, student_logits, "student_logits")
        with torch.no_grad():
            teacher = _logprobs(teacher_logits)
            target = _weighted_sum([teacher, _logprobs(student_logits)], [self.alpha, 1 - self.alpha])
            return target.masked_fill_(teacher.amax(-1, keepdim=True).isneginf(), -math.inf)


@dataclass(frozen=True)
class Mixture:
    """Σ w_k p_k, or Π p_k^{w_k} / Z. See :func:`mixture`."""

    others: tuple[Tensor, ...]
    weights: tuple[float, ...]
    """One for the main teacher and one for each other; they sum to 1."""
    kind: str

    def __call__(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        for other in self.others:
            _same_shape(teacher_logits, other, "logits of another teacher")
        with torch.no_grad():
            teachers = [_logprobs(logits) for logits in (teacher_logits, *self.others)]
            speaks = [(~each.amax(-1, keepdim=True).isneginf()).to(each.dtype) for each in teachers]
            heard = torch.stack([weight * each for weight, each in zip(self.weights, speaks, strict=True)])
            shares = list(heard / heard.sum(0).clamp_min(1e-30))
            return _weighted_sum(teachers, shares) if self.kind == "arithmetic" else _power_mean(teachers, shares)


def geometric(reference_logits: Tensor, lam: float) -> Geometric:
    """p^λ ref^{1−λ} / Z: between the reference and the teacher, and beyond the teacher for λ > 1.

    The distribution that maximises λ E[ln p/ref] − KL(·‖ref). See "Learning beyond Teacher: Generalized
    On-Policy Distillation with Reward Extrapolation", Yang et al., arXiv 2602.12125, where λ = 1.25.

    Args:
        reference_logits: [..., V] as the teacher's; a token to which either side gives no mass has none in the target.
        lam: λ ≥ 0, finite; 1 is the teacher, 0 the reference.

    Raises:
        ConfigError: λ out of range.
    """
    if not 0 <= lam < math.inf:
        raise ConfigError(f"target geometric: lam={lam:g} is not a finite number ≥ 0; 1 is the teacher itself")
    return Geometric(reference_logits, float(lam))


def bridge(tau: float) -> Bridge:
    """softmax((1−τ) sg z_q + τ z_p): a target that moves from the student to the teacher.

    Forward KL to it has the gradient of the Rényi divergence of order τ. See "TAID: Temporally Adaptive Interpolated Distillation for
    Efficient Knowledge Transfer in Language Models", Shing et al., arXiv 2501.16937: logits are interpolated, not probabilities.

    Args:
        tau: τ in [0, 1]; 1 is the teacher, 0 the student itself, which teaches nothing.

    Raises:
        ConfigError: τ out of range.
    """
    if not 0 <= tau <= 1:
        raise ConfigError(f"target bridge: tau={tau:g} is not in [0, 1]")
    return Bridge(float(tau))


def skew(alpha: float) -> Skew:
    """αp + (1−α) sg q: the teacher thinned with the student. Unlike ``skew_kl`` the student's part has no gradient.

    See "DistiLLM: Towards Streamlined Distillation for Large Language Models", Ko et al., arXiv 2402.03898.

    Args:
        alpha: share α of the teacher, in [0, 1].

    Raises:
        ConfigError: α out of range.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"target skew: alpha={alpha:g} is not in [0, 1]")
    return Skew(float(alpha))


def mixture(*other_teacher_logits: Tensor, weights: Sequence[float] | None = None, kind: str = "arithmetic") -> Mixture:
    """Σ w_k p_k, or Π p_k^{w_k} / Z with ``kind="geometric"``: several teachers as one.

    Forward KL to the arithmetic mixture is the mean of the forward KLs, and reverse KL to the geometric one the mean of the reverse
    KLs, each but for a constant. See "A Survey of On-Policy Distillation for Large Language Models", arXiv 2604.00626.

    Args:
        *other_teacher_logits: [..., V] each. A teacher that is nothing but −inf in a row has no say there; the others share its weight.
        weights: one for the teacher and one for each other, in this order, not negative; divided by their sum. ``None``: equal.
        kind: ``arithmetic`` or ``geometric``; in the latter a token needs mass from every teacher.

    Raises:
        ConfigError: unknown kind, or weights that are negative, all zero, or too few or many.
    """
    if kind not in KINDS:
        raise ConfigError(unknown("kind of mixture", kind, KINDS))
    given = [1.0] * (1 + len(other_teacher_logits)) if weights is None else [float(weight) for weight in weights]
    if len(given) != 1 + len(other_teacher_logits):
        raise ConfigError(f"target mixture: {len(given)} weights for {1 + len(other_teacher_logits)} teachers, the main one included")
    if not all(0 <= weight < math.inf for weight in given) or sum(given) == 0:
        raise ConfigError(f"target mixture: weights {given} must be finite, not negative, and not all zero")
    return Mixture(other_teacher_logits, tuple(weight / sum(given) for weight in given), kind)


def _same_shape(teacher: Tensor, other: Tensor, what: str) -> None:
    if teacher.shape != other.shape:
        raise UsageError(f"{what} {tuple(other.shape)} and teacher_logits {tuple(teacher.shape)} differ in shape")


def _logprobs(logits: Tensor) -> Tensor:
    """Normalised, in float32 at least; rows of nothing but −inf as they are."""
    logits = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
    nothing = logits.amax(-1, keepdim=True).isneginf()
    return logits.masked_fill(nothing, 0.0).log_softmax(-1).masked_fill_(nothing, -math.inf)


def _power_mean(sides: Sequence[Tensor], weights: Sequence[Tensor | float]) -> Tensor:
    """ln(Π p_k^{w_k} / Z); a weight of 0 leaves its side out, −inf and all."""
    total = torch.zeros_like(sides[0])
    absent = torch.zeros_like(sides[0], dtype=torch.bool)
    anyone = torch.zeros_like(absent[..., :1])
    for side, weight in zip(sides, weights, strict=True):
        share = torch.as_tensor(weight, dtype=side.dtype, device=side.device)
        absent = absent | (side.isneginf() & (share != 0))
        total = total + (side * share).masked_fill(side.isneginf() | (share == 0), 0.0)
        anyone = anyone | (share != 0)
    return _logprobs(total.masked_fill(absent | ~anyone, -math.inf))


def _weighted_sum(sides: Sequence[Tensor], weights: Sequence[Tensor | float]) -> Tensor:
    """ln Σ w_k p_k."""
    shares = [torch.as_tensor(weight, dtype=side.dtype, device=side.device) for side, weight in zip(sides, weights, strict=True)]
    return _logprobs(torch.stack([side + share.log() for side, share in zip(sides, shares, strict=True)]).logsumexp(0))
