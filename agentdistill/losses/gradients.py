"""Value and gradient of a divergence, formed together and without autograd.

For every divergence the gradient with respect to the student's logits z has one form (score-function identity, see
"A Survey of On-Policy Distillation for Large Language Models", arXiv 2604.00626)::

    ∂D/∂z_v = −q_v (A_v − E_q A),     A_v = −∂D/∂q_v

so a divergence is its value and its *pull* q A (``families``). Over the whole vocabulary the gradient is ``q · Σ pull − pull``, and
over a part S of it::

    tail               S and one symbol for the rest: q_v (Σ pull − pull_rest / q_rest) outside S
    renormalised       q̃ Σ pull − pull on S, 0 outside
    neither            q Σ_S pull − pull on S, q Σ_S pull outside
    neither, score     the same with A less its constant: the sum over S of −sg[q A] ∇ln q
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from agentdistill.errors import UsageError
from agentdistill.losses.catalogue import Divergence, lookup
from agentdistill.losses.families import Sides
from agentdistill.losses.support import Remainder, Support, remainder, top_support

ValueAndGradient = tuple[Tensor, Tensor]
"""D [...], and ∂D/∂z [..., V]."""


def pathwise(
    name: str,
    teacher_logprobs: Tensor,
    student_logprobs: Tensor,
    parameters: Mapping[str, float] | None = None,
    *,
    student_probs: Tensor | None = None,
) -> ValueAndGradient:
    """Value and gradient of a divergence from log-probabilities that are already normalised. No autograd graph is made.

    Args:
        name: a key of :data:`DIVERGENCES`.
        teacher_logprobs: ln p, [..., V]; a row of nothing but −inf has no target and yields 0 and a zero gradient.
        student_logprobs: ln q, [..., V].
        parameters: as :func:`divergence` takes them.
        student_probs: q, where the caller has it already.

    Returns:
        D [...] in nats (rounding below zero is cut off), and ∂D/∂z [..., V] for student logits z.
        D is +inf where the definition says so: mass on one side of a KL that the other side lacks.

    Raises:
        ConfigError: unknown name or parameter.
    """
    entry = lookup(name)
    chosen = entry.parameters(parameters or {})
    with torch.no_grad():
        q = student_logprobs.exp() if student_probs is None else student_probs
        value, pull, _ = entry.parts(Sides(teacher_logprobs, student_logprobs, q), **chosen)
        gradient = pull.addcmul_(q, pull.sum(-1, keepdim=True), value=-1).neg_()
        return _settled(entry, chosen, value, gradient, teacher_logprobs.amax(-1).isneginf(), True)


def top_pathwise(
    name: str,
    teacher_logprobs: Tensor,
    student_logprobs: Tensor,
    parameters: Mapping[str, float],
    *,
    k: int,
    side: str,
    rest: Remainder,
) -> ValueAndGradient:
    """:func:`pathwise` over the k likeliest tokens of a side, both distributions known whole: the rest's mass is summed, not inferred."""
    with torch.no_grad():
        chosen = top_support(side, k, teacher_logprobs, student_logprobs)
        support = Support(chosen.ids, chosen.valid & ~teacher_logprobs.amax(-1, keepdim=True).isneginf())
        members = support.members(teacher_logprobs.shape[-1])
        outside = teacher_logprobs.masked_fill(members, -math.inf).logsumexp(-1, keepdim=True) if rest.tail else None
        at = teacher_logprobs.gather(-1, support.indices)
        return _restricted(lookup(name), parameters, support, members, at, outside, student_logprobs, student_logprobs.exp(), rest)


def sparse_pathwise(
    name: str,
    ids: Tensor,
    teacher_logprobs: Tensor,
    student_logprobs: Tensor,
    parameters: Mapping[str, float] | None = None,
    *,
    tail: bool | None = None,
    renormalise: bool | str = False,
    form: str = "pathwise",
    student_probs: Tensor | None = None,
) -> ValueAndGradient:
    """:func:`pathwise` where the teacher is known only at some tokens of each row.

    Args:
        name: a key of :data:`DIVERGENCES`.
        ids: [..., k], no id twice in a row (not checked); −1: padding.
        teacher_logprobs: ln p at ``ids``, [..., k], normalised over the whole vocabulary; −inf: padding. The mass of the rest is
            1 − Σ p, at least 0. A row of padding has no target and yields 0 and a zero gradient.
        student_logprobs: ln q, [..., V].
        parameters: as :func:`divergence` takes them.
        tail: as for :func:`divergence`.
        renormalise: as for :func:`divergence`.
        form: as for :func:`divergence`.
        student_probs: q, where the caller has it already.

    Raises:
        ConfigError: unknown name, parameter or form; ``tail`` and ``renormalise`` at once.
        UsageError: shapes that do not fit, or an id outside the vocabulary.
    """
    entry = lookup(name)
    chosen = entry.parameters(parameters or {})
    rest = remainder(tail, renormalise, form)
    vocab = student_logprobs.shape[-1]
    if ids.shape != teacher_logprobs.shape or ids.shape[:-1] != student_logprobs.shape[:-1]:
        raise UsageError(
            f"ids {tuple(ids.shape)}, teacher_logprobs {tuple(teacher_logprobs.shape)} and the student's {tuple(student_logprobs.shape)} "
            "do not fit; expected [..., k], [..., k] and [..., V]"
        )
    if ids.is_floating_point() or ids.dtype is torch.bool:
        raise UsageError(f"ids are {ids.dtype}; expected integers")
    if ids.numel() and int(ids.max()) >= vocab:
        raise UsageError(f"ids go up to {int(ids.max())}, but the student's vocabulary has {vocab} tokens")
    with torch.no_grad():
        support = Support(ids.long(), (ids >= 0) & ~teacher_logprobs.isneginf())
        at = teacher_logprobs.to(student_logprobs.dtype).masked_fill(~support.valid, -math.inf)
        q = student_logprobs.exp() if student_probs is None else student_probs
        outside = _log_rest(at) if rest.tail else None
        return _restricted(entry, chosen, support, support.members(vocab), at, outside, student_logprobs, q, rest)


def _log_rest(logprobs: Tensor) -> Tensor:
    """ln(1 − Σ p), [..., 1]; −inf where nothing is left, be it by rounding."""
    inside = logprobs.logsumexp(-1, keepdim=True)
    return torch.where(inside >= 0, -math.inf, torch.expm1(inside).neg_().log_())


def _restricted(
    entry: Divergence,
    parameters: Mapping[str, float],
    support: Support,
    members: Tensor,
    teacher_at: Tensor,
    teacher_outside: Tensor | None,
    student_logprobs: Tensor,
    student_probs: Tensor,
    rest: Remainder,
) -> ValueAndGradient:
    """What all forms of a partial sum share; ``teacher_at`` [..., K], ``teacher_outside`` [..., 1]: ln of the teacher's remaining mass."""
    padding, indices = ~support.valid, support.indices
    teacher = teacher_at.masked_fill(padding, -math.inf)
    student = student_logprobs.gather(-1, indices).masked_fill_(padding, -math.inf)
    lost = None
    if rest.renormalise:
        teacher, lost = _renormalised(teacher)
        if rest.renormalise is True:
            student, student_lost = _renormalised(student)
            lost = lost ^ student_lost
    student_outside = student_logprobs.masked_fill(members, -math.inf).logsumexp(-1, keepdim=True) if rest.tail else None
    if teacher_outside is not None and student_outside is not None:
        teacher, student = torch.cat((teacher, teacher_outside), -1), torch.cat((student, student_outside), -1)
    q = student.exp()
    value, pull, constant = entry.parts(Sides(teacher, student, q, rest.normalised), **parameters)
    if not rest.normalised and rest.form == "pathwise":
        pull = pull.add_(constant * q)
    total = pull.sum(-1, keepdim=True)
    pull_at = pull[..., : indices.shape[-1]].masked_fill(padding, 0.0)
    if rest.renormalise is True:
        gradient = torch.zeros_like(student_probs)
        pull_at = pull_at.sub_(q * total)
    else:
        gradient = student_probs * total
    if student_outside is not None:
        share = (student_logprobs - student_outside).masked_fill_(members | student_outside.isneginf(), -math.inf).exp_()
        gradient.addcmul_(share, pull[..., -1:], value=-1)
    gradient.scatter_add_(-1, indices, pull_at.neg_())
    if lost is not None:
        value = value.masked_fill(lost, math.inf)
    return _settled(entry, parameters, value, gradient, padding.all(-1), rest.normalised)


def _renormalised(logprobs: Tensor) -> tuple[Tensor, Tensor]:
    """Over what there is, and the rows where there is nothing."""
    total = logprobs.logsumexp(-1, keepdim=True)
    nothing = total.isneginf()
    return logprobs - total.masked_fill(nothing, 0.0), nothing[..., 0]


def _settled(
    entry: Divergence, parameters: Mapping[str, float], value: Tensor, gradient: Tensor, without_target: Tensor, normalised: bool
) -> ValueAndGradient:
    """Rows without a target emptied, rounding below zero cut off, and a value infinite where its gradient leaves floating point."""
    if entry.overflows:
        value = value.masked_fill(value.isfinite() & ~gradient.sum(-1).isfinite(), math.inf)
    if bool(without_target.any()):
        value = value.masked_fill(without_target, 0.0)
        gradient.masked_fill_(without_target.unsqueeze(-1), 0.0)
    return value.clamp_min(0.0) if normalised and entry.sign(**parameters) else value, gradient
