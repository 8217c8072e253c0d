"""What each kind of term is at the tokens of a chunk. The kernel forms the head's logits, asks here, and pulls the gradients back.

sampled_loss      ℓ of the sampled tokens, as a function of ln q(y) that autograd differentiates: n numbers
dense_loss        D of whole distributions, with ∂D/∂z beside it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from agentdistill.config.schedule import at
from agentdistill.config.schema import DivergenceTerm, KLTerm, PolicyGradientTerm, SupervisedTerm, Term
from agentdistill.config.terms import Target
from agentdistill.config.weights import DenseWeight, TeachabilityWeight
from agentdistill.losses import bridge, geometric, kl_estimate, pathwise, policy_gradient, skew, supervised
from agentdistill.losses.gradients import top_pathwise
from agentdistill.losses.support import remainder


class Dense(NamedTuple):
    """Of n positions."""

    value: Tensor
    """D: [n]."""
    gradient: Tensor
    """∂D/∂z: [n, V], in memory of its own."""
    weight: Tensor | None
    """What the teacher's distribution says the position is worth: [n]. ``None``: 1 everywhere."""


def dense_loss(
    term: DivergenceTerm, teacher_logprobs: Tensor, student_logprobs: Tensor, student_probs: Tensor, reference_logprobs: Tensor | None
) -> Dense:
    """Value and gradient of a divergence term, all log-probabilities [n, V] and normalised.

    Args:
        reference_logprobs: of the student as it began, where the term's target is a geometric one.
    """
    wanted = target_logprobs(term.target, teacher_logprobs, student_logprobs, reference_logprobs)
    parameters = term.numbers()
    if term.k is None:
        value, gradient = pathwise(term.divergence, wanted, student_logprobs, parameters, student_probs=student_probs)
    else:
        rest = remainder(term.tail, term.renormalise, term.form)
        value, gradient = top_pathwise(term.divergence, wanted, student_logprobs, parameters, k=term.k, side=term.support, rest=rest)
    return Dense(value, gradient, dense_weight(term, teacher_logprobs, student_probs))


def target_logprobs(target: Target, teacher_logprobs: Tensor, student_logprobs: Tensor, reference_logprobs: Tensor | None) -> Tensor:
    """ln of what the teacher wants, [n, V]."""
    if target.amount is None:
        return teacher_logprobs
    amount = at(target.amount, 0)
    if target.kind == "geometric":
        assert reference_logprobs is not None, "the plan has the reference where a term needs it"
        return geometric(reference_logprobs, amount)(teacher_logprobs, student_logprobs)
    return (bridge(amount) if target.kind == "bridge" else skew(amount))(teacher_logprobs, student_logprobs)


def dense_weight(term: DivergenceTerm, teacher_logprobs: Tensor, student_probs: Tensor) -> Tensor | None:
    """The product of the term's weights that need whole distributions, [n]."""
    found: Tensor | None = None
    for weight in term.token_weights:
        if isinstance(weight, DenseWeight):
            one = _weigh(weight, teacher_logprobs, student_probs)
            found = one if found is None else found * one
    return found


def _weigh(weight: DenseWeight, teacher_logprobs: Tensor, student_probs: Tensor) -> Tensor:
    teacher_probs = teacher_logprobs.exp()
    if isinstance(weight, TeachabilityWeight):
        top = student_probs.topk(min(weight.k, student_probs.shape[-1]), -1).indices
        return teacher_probs.gather(-1, top).sum(-1)
    entropy = -(teacher_probs * teacher_logprobs).masked_fill_(teacher_probs == 0, 0.0).sum(-1)
    kept = torch.ones_like(entropy, dtype=torch.bool)
    if weight.above is not None:
        kept &= entropy > weight.above
    if weight.below is not None:
        kept &= entropy < weight.below
    return kept.to(entropy.dtype)


def sampled_loss(
    term: Term,
    student_logprobs: Tensor,
    streams: Mapping[str, Tensor],
    *,
    advantages: Tensor | None = None,
    kappa: Tensor | None = None,
    sequence_log_ratio: Tensor | None = None,
) -> dict[str, Tensor]:
    """Per-token ``loss`` of a sampled-token term, [n], and what else it measured.

    Args:
        streams: ``old``, ``rollout``, ``ref``, ``teacher``: log-probabilities of the sampled tokens, NaN where unknown.
        advantages: of a policy gradient.
        kappa: its weight for the mismatch of trainer and rollout engine, where that is known before the update.
        sequence_log_ratio: mean of ln π_θ − ln π_old over each token's episode, where the term's ratio is the episode's.
    """
    if isinstance(term, SupervisedTerm):
        return {"loss": supervised(student_logprobs)}
    if isinstance(term, KLTerm):
        return {"loss": kl_estimate(term.estimator, student_logprobs, streams["teacher" if term.against == "teacher" else "ref"])}
    assert isinstance(term, PolicyGradientTerm)
    assert advantages is not None
    correction = term.correction
    cap = correction.cap if correction is not None and kappa is None else None
    old = streams["old"]
    result = policy_gradient(
        student_logprobs,
        advantages,
        old_logprobs=torch.where(old.isnan(), student_logprobs.detach(), old),
        surrogate=term.surrogate,
        ppo_clip=term.ppo_clip,
        dual_clip=term.dual_clip,
        sequence_log_ratio=sequence_log_ratio,
        rollout_logprobs=streams["rollout"] if cap is not None or term.tv_mask is not None else None,
        mismatch_cap=cap,
        kappa=kappa,
        tv_mask=term.tv_mask,
        tv_mask_symmetric=term.tv_mask_symmetric,
        ratio_penalty=term.ratio_penalty,
    )
    measured = {"loss": result.loss, "ratio": result.ratio, "clipped": result.clipped}
    if term.tv_mask is not None:
        measured["dropped"] = result.dropped
    if correction is not None:
        measured["mismatch"] = result.mismatch if kappa is None else kappa
    return measured
