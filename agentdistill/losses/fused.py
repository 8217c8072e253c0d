"""The three divergences of everyday use from raw logits, in as few passes over [n, V] as they need, into memory that is already there.

Same values and gradients as :func:`~agentdistill.losses.divergences.pathwise`, which every other divergence runs through. What is saved:
log-probabilities are never stored, normalisers enter as one number a row, and no mask is made where nothing has to be masked. Trouble
(mass where the other side has none, a masked vocabulary, a row without a target) shows as a value that is not finite; such rows are
done again by ``pathwise``, with all its care.

With X the summand whose row sum S is (up to constants) the value, the gradient ∂D/∂z takes one more pass::

    forward_kl    Σ p (ln p − ln q)                                q − p
    reverse_kl    S,  X = q (ln q − ln p)                          X − q S
    jsd           β Σ p (ln p − ln M) + (1−β) S,  X = q (ln q − ln M)    (1−β) (X − q S)

Shapes: n positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from agentdistill.losses import DIVERGENCES, pathwise

Found = tuple[Tensor, Tensor, float]
"""D [n], ln Σ exp of the teacher's logits [n, 1], and what the gradient in ``work`` is still to be multiplied with."""


class Scratch:
    """Three [n, V] tensors that are used again and again. Cut to a few rows at a time they stay in the cache."""

    def __init__(self, rows: int, like: Tensor) -> None:
        self._whole = tuple(like.new_empty((rows, like.shape[-1])) for _ in range(3))

    def rows(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Their first ``count`` rows."""
        first, second, third = (tensor[:count] for tensor in self._whole)
        return first, second, third


@torch.no_grad()
def log_normaliser(logits: Tensor, *, probs: Tensor) -> Tensor:
    """ln Σ exp of each row, [n, 1]; ``probs`` [n, V] is overwritten with the softmax. Both at the price of the softmax."""
    torch.softmax(logits, -1, out=probs)
    return logits.amax(-1, keepdim=True).sub_(probs.amax(-1, keepdim=True).log_())


def _forward_kl(teacher: Tensor, student: Tensor, lse: Tensor, q: Tensor, p: Tensor, work: Tensor) -> Found:
    teacher_lse = log_normaliser(teacher, probs=p)
    value = torch.sub(teacher, student, out=work).add_(lse - teacher_lse).mul_(p).sum(-1)
    torch.sub(q, p, out=work)
    return value, teacher_lse, 1.0


def _reverse_kl(teacher: Tensor, student: Tensor, lse: Tensor, q: Tensor, p: Tensor, work: Tensor) -> Found:
    teacher_lse = log_normaliser(teacher, probs=p)
    value = torch.sub(student, teacher, out=work).add_(teacher_lse - lse).mul_(q).sum(-1)
    work.addcmul_(q, value.unsqueeze(-1), value=-1)
    return value, teacher_lse, 1.0


def _jsd(teacher: Tensor, student: Tensor, lse: Tensor, q: Tensor, p: Tensor, work: Tensor, log_mixture: Tensor, *, beta: float) -> Found:
    teacher_lse = log_normaliser(teacher, probs=p)
    smallest = torch.finfo(q.dtype).tiny  # where p and q both vanish, M does; any finite logarithm will do there
    torch.lerp(q, p, beta, out=log_mixture).clamp_min_(smallest).log_()
    towards = torch.sub(teacher, teacher_lse, out=work).sub_(log_mixture).mul_(p).sum(-1)
    away = torch.sub(student, lse, out=work).sub_(log_mixture).mul_(q).sum(-1)
    work.addcmul_(q, away.unsqueeze(-1), value=-1)
    return beta * towards + (1 - beta) * away, teacher_lse, 1 - beta


_FUSED: Mapping[str, Callable[..., Found]] = {"forward_kl": _forward_kl, "reverse_kl": _reverse_kl, "jsd": _jsd}
"""Each fills ``work`` with ∂D/∂z up to the factor that it returns. It changes nothing else but ``p`` and ``log_mixture``."""


@torch.no_grad()
def fused_pathwise(
    name: str,
    teacher_logits: Tensor,
    student_logits: Tensor,
    parameters: Mapping[str, float] | None = None,
    *,
    student_lse: Tensor,
    student_probs: Tensor,
    weights: Tensor,
    scratch: Scratch,
    out: Tensor,
) -> tuple[Tensor, Tensor]:
    """A divergence's values, and ``weights`` · ∂D/∂z written to ``out``. Nothing goes through autograd.

    Args:
        name: a key of :data:`~agentdistill.losses.divergences.DIVERGENCES`. Those that have no fast form here run through ``pathwise``.
        teacher_logits: [n, V], normalised or not; −inf where the teacher has no mass. A row of nothing but −inf has no target: 0 and 0.
        student_logits: [n, V], normalised or not.
        parameters: of the divergence.
        student_lse: ln Σ exp of the student's logits, [n, 1].
        student_probs: q, [n, V]; see :func:`log_normaliser`.
        weights: [n].
        scratch: at least n rows.
        out: [n, V]; may be ``student_logits`` itself, which is read before it is written.

    Returns:
        D [n] in nats, as ``pathwise`` gives it, and ln Σ exp of the teacher's logits, [n]; 0 for a row without a target.

    Raises:
        ConfigError: unknown name or parameter.
    """
    if name in _FUSED:
        chosen = DIVERGENCES[name].parameters(parameters or {})
        first, second, third = scratch.rows(len(student_logits))
        more = (third,) if name == "jsd" else ()
        value, teacher_lse, factor = _FUSED[name](
            teacher_logits, student_logits, student_lse, student_probs, first, second, *more, **chosen
        )
        if math.isfinite(float(value.sum())):
            torch.mul(second, (weights * factor).unsqueeze(-1), out=out)
            return value.clamp_min_(0.0), teacher_lse[:, 0]
    empty = teacher_logits.amax(-1, keepdim=True).isneginf()
    teacher_lse = teacher_logits.logsumexp(-1, keepdim=True).masked_fill_(empty, 0.0)
    teacher = teacher_logits - teacher_lse
    value, gradient = pathwise(name, teacher, student_logits - student_lse, parameters, student_probs=student_probs)
    torch.mul(gradient, weights.unsqueeze(-1), out=out)
    return value, teacher_lse[:, 0]
