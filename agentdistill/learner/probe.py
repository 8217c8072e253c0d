"""How far a cheaper gradient of a divergence is from the whole one, on the micro-batch in hand.

    full       every token of the vocabulary                     the gradient itself
    topk       k tokens and one symbol for the rest (``tail``)   biased, and the same at every call
    sampled    one token a position, y ∼ q, score-function form  unbiased; other tokens, another gradient

A diagnostic: it answers "is k=16 enough here?" and "how noisy is the sampled form?" for a model and a teacher as they are, and costs
a few forward and backward passes of the head. No gradient of the model is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agentdistill.errors import AlignmentError, UsageError
from agentdistill.learner.head import Head
from agentdistill.learner.linear_divergence import Selected
from agentdistill.learner.plan import Plan
from agentdistill.losses import divergence as divergence_of
from agentdistill.losses import score_advantage
from agentdistill.policy.products import accumulated, add_outer, pull

Slope = Callable[[Tensor, Tensor], Tensor]
"""(teacher logits, student logits) [n, V] -> ∂/∂z of the summed loss, [n, V]."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One way to the gradient, beside the whole one. Each figure for the hidden states and for the head's weight."""

    cosine_hidden: float
    """Between this gradient and the whole one; of ``sampled`` the mean over draws. NaN where either is 0."""
    cosine_weight: float
    variance_hidden: float
    """E‖g − E g‖² / ‖full gradient‖², over draws; 0 for what is the same at every call."""
    variance_weight: float


@torch.no_grad()
def probe(
    hidden: Tensor,
    head: Head,
    teacher: Any,
    *,
    divergence: str = "reverse_kl",
    k: int = 16,
    support: str = "student",
    draws: int = 16,
    row_weights: Tensor | None = None,
    chunk: int = 256,
    generator: torch.Generator | None = None,
    **parameters: float,
) -> dict[str, Estimate]:
    """Compare ``full``, ``topk`` and ``sampled`` gradients of Σ w D(p, q).

    The sampled one is −Σ_t w_t A_f(u_t) ∇ln q(y_t), A_f as :func:`agentdistill.losses.score_advantage` gives it: immediate credit, no
    baseline.

    Args:
        hidden: [N, H].
        head: the student's.
        teacher: a target with N positions: :class:`~agentdistill.learner.Hidden`, or any that has ``log_probs``.
        divergence: a key of :data:`agentdistill.losses.DIVERGENCES` that single tokens determine (not ``renyi``, ``adaptive_kl``).
        k, support: of the ``topk`` route; see :func:`agentdistill.losses.divergence`.
        draws: how often tokens are sampled, at least 2.
        row_weights: w, [N]. ``None``: 1/N each.
        chunk: positions at a time.
        generator: of the sampled tokens. ``None``: torch's own.
        **parameters: of the divergence.

    Returns:
        An estimate for each of the three names.

    Raises:
        ConfigError: a divergence, parameter, support or k that the losses refuse.
        UsageError: fewer than 2 draws.
        AlignmentError: a teacher or row weights of another length.
    """
    if draws < 2:
        raise UsageError(f"draws={draws}: a variance needs at least 2")
    weights = hidden.new_full((len(hidden),), 1 / max(len(hidden), 1)) if row_weights is None else row_weights.to(hidden)
    if len(teacher) != len(hidden) or weights.shape != hidden.shape[:1]:
        raise AlignmentError(f"{len(hidden)} hidden states, {len(teacher)} positions of the teacher, row weights {tuple(weights.shape)}")

    def gradients(slope: Slope) -> tuple[Tensor, Tensor]:
        return _gradients(hidden.detach(), head, teacher, weights, chunk, slope)

    def topk(theirs: Tensor, ours: Tensor) -> Tensor:
        return _pathwise(divergence, theirs, ours, route="topk", k=min(k, ours.shape[-1]), support=support, tail=True, **parameters)

    whole = gradients(lambda theirs, ours: _pathwise(divergence, theirs, ours, **parameters))
    sampled = (gradients(lambda theirs, ours: _score(divergence, theirs, ours, generator, parameters)) for _ in range(draws))
    return {
        "full": _estimate(whole, iter([whole])),
        "topk": _estimate(whole, iter([gradients(topk)])),
        "sampled": _estimate(whole, sampled),
    }


def _pathwise(name: str, teacher: Tensor, student: Tensor, **options: Any) -> Tensor:
    with torch.enable_grad():
        leaf = student.detach().requires_grad_()
        (found,) = torch.autograd.grad(divergence_of(name, teacher, leaf, **options).sum(), leaf)
    return found


def _score(name: str, teacher: Tensor, student: Tensor, generator: torch.Generator | None, parameters: dict[str, float]) -> Tensor:
    logprobs = student.log_softmax(-1)
    probs = logprobs.exp()
    token = torch.multinomial(probs, 1, generator=generator)
    chosen = logprobs.gather(-1, token)
    log_ratio = teacher.log_softmax(-1).gather(-1, token) - chosen
    advantage = score_advantage(name, log_ratio, student_logprobs=chosen, **parameters)
    return (probs * advantage).scatter_add_(-1, token, -advantage)


def _gradients(hidden: Tensor, head: Head, teacher: Any, weights: Tensor, chunk: int, slope: Slope) -> tuple[Tensor, Tensor]:
    """∂/∂hidden [N, H] and ∂/∂W [V, H]."""
    weight = head.shared[0].detach()
    dtype = accumulated(weight.dtype)
    of_hidden, of_weight = hidden.new_zeros(hidden.shape, dtype=dtype), weight.new_zeros(weight.shape, dtype=dtype)
    for start in range(0, len(hidden), chunk):
        stop = min(start + chunk, len(hidden))
        states = hidden[start:stop].to(weight.dtype)
        student = head.fill(states, weight, weight.new_empty((stop - start, len(weight)), dtype=dtype))
        found = slope(teacher.log_probs(start, stop).to(student), student).mul_(weights[start:stop, None])
        found = head.pull_back(found, student)
        of_hidden[start:stop] = pull(found, weight)
        add_outer(of_weight, found, states, first=start == 0)
    return of_hidden, of_weight


def _estimate(whole: tuple[Tensor, Tensor], found: Iterator[tuple[Tensor, Tensor]]) -> Estimate:
    """Means over ``found``, of which only the sum is kept."""
    sums, squares, cosines, count = [torch.zeros_like(exact) for exact in whole], [0.0, 0.0], [0.0, 0.0], 0
    for gradients in found:
        count += 1
        for i, (one, exact) in enumerate(zip(gradients, whole, strict=True)):
            size = float(one.norm())
            sums[i] += one
            squares[i] += size**2
            cosines[i] += float((one * exact).sum()) / (size * float(exact.norm()) or float("nan"))
    spread = [(square - float(total.square().sum()) / count) / (count - 1 or 1) for square, total in zip(squares, sums, strict=True)]
    sizes = [float(exact.square().sum()) or float("nan") for exact in whole]
    return Estimate(
        cosine_hidden=cosines[0] / count,
        cosine_weight=cosines[1] / count,
        variance_hidden=spread[0] / sizes[0] if count > 1 else 0.0,
        variance_weight=spread[1] / sizes[1] if count > 1 else 0.0,
    )


MOST = 256
"""Positions of a micro-batch that a run's probe looks at."""
UNFIT = ("renyi", "adaptive_kl")
"""Divergences without an advantage of a single token."""


def probe_terms(plan: Plan, hidden: Tensor, *, k: int, seed: int) -> dict[str, float]:
    """Figures of :func:`probe` for each divergence term of a micro-batch, by name of the metric.

    ``probe/<term>/<topk or sampled>/<cosine or variance>``, with respect to the head's weight. The whole vocabulary is what they are
    compared with, whatever route the term takes; its target and weights by distribution are left aside.

    Args:
        hidden: of the plan's N positions, [N, H].
        k: of the top-k gradient, over the student's likeliest tokens with the rest as one symbol.
        seed: of the sampled tokens.
    """
    found: dict[str, float] = {}
    for part in plan.parts:
        wanted = part.wanted
        if wanted is None or wanted.name in UNFIT or not len(part.index) or not hasattr(plan.dense, "log_probs"):
            continue
        index = part.index[:MOST]
        at = torch.as_tensor(index, device=hidden.device)
        teacher = Selected(plan.dense, np.searchsorted(plan.dense_index, index))
        options: dict[str, Any] = {"k": k, "row_weights": part.weights[: len(index)], **wanted.parameters}
        options["generator"] = torch.Generator(hidden.device).manual_seed(seed)
        estimates = probe(hidden.detach()[at], plan.head, teacher, divergence=wanted.name, **options)
        for route in ("topk", "sampled"):
            found[f"probe/{part.name}/{route}/cosine"] = estimates[route].cosine_weight
        found[f"probe/{part.name}/sampled/variance"] = estimates["sampled"].variance_weight
    return found
