"""Divergences between whole next-token distributions, with the gradient formed beside the value.

    divergence          logits of both sides; over the whole vocabulary, or over the likeliest tokens of a side
    sparse_divergence   the teacher known only at a few tokens, as a server returns them

The value and its gradient are computed together, in log space (``gradients``): in float32 at least, powers of u in float64. Nothing of
it goes through autograd, which is why a row that does not count can hold −inf or NaN without turning the gradient into NaN.

Shapes: V vocabulary; ``...`` any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agentdistill.errors import ConfigError, UsageError, unknown
from agentdistill.losses.catalogue import DIVERGENCES, Divergence, lookup
from agentdistill.losses.gradients import ValueAndGradient, pathwise, sparse_pathwise, top_pathwise
from agentdistill.losses.support import remainder

__all__ = ["DIVERGENCES", "ROUTES", "Divergence", "divergence", "lookup", "pathwise", "sparse_divergence", "sparse_pathwise"]

ROUTES = ("full", "topk")

Compute = Callable[[Tensor], ValueAndGradient]
"""From the student's log-probabilities."""


class Types(NamedTuple):
    """What is computed in, and what comes out."""

    inside: torch.dtype
    outside: torch.dtype


class _Pathwise(torch.autograd.Function):
    """Hands the gradient that was formed with the value to autograd."""

    @staticmethod
    def forward(ctx: Any, student_logits: Tensor, types: Types, mask: Tensor | None, compute: Compute) -> Tensor:
        logits = student_logits.to(types.inside)
        if mask is not None:
            logits = logits.masked_fill(~mask.unsqueeze(-1), 0.0)
        value, gradient = compute(logits.log_softmax(-1))
        if types.inside != types.outside:
            value, gradient = value.to(types.outside), gradient.to(types.outside)
            value = value.masked_fill(value.isfinite() & ~gradient.isfinite().all(-1), math.inf)  # as where it is formed
        ctx.save_for_backward(gradient)
        ctx.student_dtype = student_logits.dtype
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        scaled = gradient * upstream.unsqueeze(-1)
        scaled = scaled.masked_fill_((upstream == 0).unsqueeze(-1), 0.0)  # a loss that is not used has no gradient, be it infinite
        if ctx.student_dtype != scaled.dtype:
            limit = torch.finfo(ctx.student_dtype).max
            scaled = scaled.clamp_(-limit, limit)
        return scaled.to(ctx.student_dtype), None, None, None


def divergence(
    name: str,
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    route: str = "full",
    k: int | None = None,
    support: str = "teacher",
    tail: bool | None = None,
    renormalise: bool | str = False,
    form: str = "pathwise",
    target: Callable[[Tensor, Tensor], Tensor] | None = None,
    mask: Tensor | None = None,
    **parameters: float,
) -> Tensor:
    """D(p, q) at each position, differentiable once in the student. The teacher is a target and receives no gradient.

    ``forward_kl`` Σ p ln(p/q), ``reverse_kl`` Σ q ln(q/p), ``jsd`` β KL(p‖M) + (1−β) KL(q‖M) with M = βp + (1−β)q: β weighs the
    teacher, and jsd/β → forward_kl as β → 0, jsd/(1−β) → reverse_kl as β → 1. See :data:`DIVERGENCES` for all, with their papers.

    ``route="topk"`` sums over the ``k`` likeliest tokens of a side, S. What it does with the rest decides its bias:

    ====================  ==========================  ==========================================================================
    choice                value                       bias
    ====================  ==========================  ==========================================================================
    ``tail`` (default)    S and one symbol more       an f-divergence is never above the full one: differences within the rest
                                                      are not seen; the rest is pushed as a block, in proportion to q
                                                      (SDPO, arXiv 2601.20802)
    ``renormalise``       both sides sum to 1 on S    no gradient outside S: mass that the student has there is never corrected
                                                      (Revisiting OPD, arXiv 2603.25562)
    ``"teacher"``         the teacher alone does      forward_kl is cross-entropy-like: it draws all mass into S, and stays
                                                      positive at q = p (EOPD, arXiv 2603.07079)
    ``tail=False``        the bare partial sum        can be negative; the reverse KL falls by moving mass off S
    ``form="score"``      the bare partial sum        −Σ_S sg[q A] ∇ln q with A less its constant (reverse KL: ln p/q): the
                                                      restricted sum of the score function, no push off S by the constant; the
                                                      rest's share is missing (Rethinking OPD, arXiv 2604.13016)
    ====================  ==========================  ==========================================================================

    The tail is exact for the mass of S itself; all choices are exact once S holds all mass.

    Args:
        name: a key of :data:`DIVERGENCES`.
        teacher_logits: [..., V], any logits or log-probabilities; −inf where the teacher has no mass. A row of nothing but −inf
            (padding) has no target: its divergence and gradient are 0.
        student_logits: [..., V].
        route: ``full``: the sum over the whole vocabulary. ``topk``: over a support.
        k: size of each top-k set; from V on, the whole vocabulary. ``None``: not given, as ``full`` wants it.
        support: whose likeliest tokens: ``teacher``, ``student``, ``union`` or ``intersection`` (may be empty: 0 and no gradient).
        tail: whether one more symbol stands for the rest. ``None``: yes, unless ``renormalise`` or ``form`` says otherwise.
        renormalise: ``True`` for both sides, ``"teacher"`` for the teacher alone. One side without mass on S: infinite.
        form: ``pathwise``: the gradient is the value's. ``score``: see the table.
        target: what stands in for the teacher: ``target(teacher_logits, student_logits)`` -> log-probabilities, such as those of
            ``targets``. ``None``: the teacher itself.
        mask: [...], bool: False where a row does not count; it is 0, has no gradient and may hold anything. ``None``: all count.
        **parameters: as the entry of :data:`DIVERGENCES` says, such as ``beta`` of ``jsd``.

    Returns:
        [...] in nats, float32, or float64 where an input is. A finite value has a finite gradient.

    Raises:
        ConfigError: unknown name, route, parameter or choice, or choices that exclude each other.
        UsageError: shapes that differ, or no floating-point numbers.
    """
    entry = lookup(name)
    chosen = entry.parameters(parameters)
    if route not in ROUTES:
        raise ConfigError(unknown("route", route, ROUTES))
    rest = remainder(tail, renormalise, form)
    if route == "full" and (k is not None or tail is not None or renormalise or form != "pathwise" or support != "teacher"):
        raise ConfigError("k, support, tail, renormalise and form belong to route='topk'; route='full' sums over the whole vocabulary")
    if route == "topk" and k is None:
        raise ConfigError("route='topk' needs k, the number of tokens to sum over, such as k=16")
    if target is not None and not callable(target):
        raise UsageError(f"target={target!r} is no target; expected one such as agentdistill.losses.bridge(0.4), or None")
    types = _checked(entry, {"teacher_logits": teacher_logits, "student_logits": student_logits}, mask)
    if teacher_logits.shape != student_logits.shape:
        raise UsageError(f"teacher_logits {tuple(teacher_logits.shape)} and student_logits {tuple(student_logits.shape)} differ in shape")
    with torch.no_grad():
        teacher = (target(teacher_logits, student_logits) if target else teacher_logits).to(types.inside)
        if mask is not None:
            teacher = teacher.masked_fill(~mask.unsqueeze(-1), -math.inf)
        no_target = teacher.amax(-1, keepdim=True).isneginf()
        teacher = teacher.masked_fill(no_target, 0.0).log_softmax(-1).masked_fill_(no_target, -math.inf)

    def compute(student: Tensor) -> ValueAndGradient:
        if k is None:
            return pathwise(name, teacher, student, chosen)
        return top_pathwise(name, teacher, student, chosen, k=k, side=support, rest=rest)

    value: Tensor = _Pathwise.apply(student_logits, types, mask, compute)  # type: ignore[no-untyped-call]  # torch
    return value


def sparse_divergence(
    name: str,
    ids: Tensor,
    teacher_logprobs: Tensor,
    student_logits: Tensor,
    *,
    tail: bool | None = None,
    renormalise: bool | str = False,
    form: str = "pathwise",
    mask: Tensor | None = None,
    **parameters: float,
) -> Tensor:
    """:func:`divergence` over the tokens at which the teacher is known, the top-k of a server for instance.

    Args:
        name: a key of :data:`DIVERGENCES`.
        ids: [..., k], no id twice in a row (not checked, it would be counted twice); −1: padding.
        teacher_logprobs: ln p at ``ids``, [..., k], normalised over the whole vocabulary, so that what is missing from 1 is the mass
            of the rest; −inf: padding. A row of padding has no target: its divergence and gradient are 0.
        student_logits: [..., V].
        tail: as for :func:`divergence`.
        renormalise: as for :func:`divergence`.
        form: as for :func:`divergence`.
        mask: as for :func:`divergence`.
        **parameters: as for :func:`divergence`.

    Raises:
        ConfigError: as for :func:`divergence`.
        UsageError: shapes that do not fit, no floating-point numbers, or an id outside the vocabulary.
    """
    entry = lookup(name)
    chosen = entry.parameters(parameters)
    types = _checked(entry, {"teacher_logprobs": teacher_logprobs, "student_logits": student_logits}, mask)
    with torch.no_grad():
        teacher = teacher_logprobs.to(types.inside)
        if mask is not None and mask.shape == ids.shape[:-1] == teacher.shape[:-1]:
            ids, teacher = ids.masked_fill(~mask.unsqueeze(-1), -1), teacher.masked_fill(~mask.unsqueeze(-1), -math.inf)

    def compute(student: Tensor) -> ValueAndGradient:
        return sparse_pathwise(name, ids, teacher, student, chosen, tail=tail, renormalise=renormalise, form=form)

    value: Tensor = _Pathwise.apply(student_logits, types, mask, compute)  # type: ignore[no-untyped-call]  # torch
    return value


def _checked(entry: Divergence, sides: dict[str, Tensor], mask: Tensor | None) -> Types:
    """The types; powers of u lose float32's digits where teacher and student differ much, and are computed in float64."""
    dtype = torch.float32
    for name, logits in (sides if mask is None else {**sides, "mask": mask}).items():
        if not isinstance(logits, Tensor):
            raise UsageError(f"{name} is a {type(logits).__name__}; expected a torch.Tensor")
    for name, logits in sides.items():
        if logits.ndim == 0 or (logits.shape[-1] == 0 and name == "student_logits"):
            raise UsageError(f"{name} of shape {tuple(logits.shape)} have no vocabulary axis; expected [..., V]")
        if not logits.is_floating_point():
            raise UsageError(f"{name} are {logits.dtype}; expected floating-point numbers")
        dtype = torch.promote_types(dtype, logits.dtype)
    if mask is not None and (mask.dtype is not torch.bool or mask.shape != sides["student_logits"].shape[:-1]):
        rows = tuple(sides["student_logits"].shape[:-1])
        raise UsageError(f"mask {tuple(mask.shape)} of {mask.dtype}: expected {rows} of torch.bool, one for each row of logits")
    return Types(torch.float64 if entry.overflows else dtype, dtype)
