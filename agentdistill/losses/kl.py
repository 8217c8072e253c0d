"""Estimates of a KL divergence from the sampled token alone.

Their values and their gradients are different things (prefix fixed, y ∼ q, r = ln p − ln q):

==========  ===============  ==============================  ======================================
estimator   value            mean of the value               mean of the gradient when differentiated
==========  ===============  ==============================  ======================================
``k1``      −r               KL(q‖p)                         0: refused
``k2``      ½ r²             KL(q‖p) + O(r³)                 ∇ KL(q‖p), reverse
``k3``      eʳ − 1 − r       KL(q‖p), low variance           ∇ KL(p‖q), forward
``k3_plus`` that of k3       KL(q‖p), low variance           ∇ KL(q‖p), reverse: it is that of k2
==========  ===============  ==============================  ======================================

See "Approximating KL Divergence", J. Schulman, 2020, for the values, and "A Survey of On-Policy Distillation for Large Language
Models", arXiv 2604.00626, for their place in distillation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError, unknown

ESTIMATORS = ("k1", "k2", "k3", "k3_plus")


def kl_estimate(estimator: str, student_logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """The estimate at each sampled token, [...] -> [...], nats; differentiable in the student except for ``k1``.

    Args:
        estimator: one of :data:`ESTIMATORS`; see the table above for what each one's gradient is.
        student_logprobs: ln q(y).
        other_logprobs: ln p(y) of the teacher or the reference; no gradient.

    Raises:
        ConfigError: unknown estimator, or ``k1`` where a gradient is wanted.
        UsageError: shapes that differ.
    """
    if estimator not in ESTIMATORS:
        raise ConfigError(unknown("KL estimator", estimator, ESTIMATORS))
    if student_logprobs.shape != other_logprobs.shape:
        raise UsageError(f"student_logprobs {tuple(student_logprobs.shape)} and other {tuple(other_logprobs.shape)} differ in shape")
    if estimator == "k1" and student_logprobs.requires_grad and torch.is_grad_enabled():
        raise ConfigError(
            "KL estimator 'k1' cannot be trained on: the mean of its gradient is zero whatever the teacher says "
            "(E_q[∇ln q] = 0); use 'k2' or 'k3_plus' for reverse KL, 'k3' for forward KL, or k1 as an advantage of a policy gradient"
        )
    log_ratio = other_logprobs.detach() - student_logprobs
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio.square()
    if estimator == "k3":
        return torch.expm1(log_ratio) - log_ratio
    fixed = log_ratio.detach()
    return torch.expm1(fixed) - fixed - fixed * (student_logprobs - student_logprobs.detach())
