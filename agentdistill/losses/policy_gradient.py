"""Policy gradients on sampled tokens. Two of the three truncations are here, each under its own name:

* ``ppo_clip`` bounds π_θ/π_old, the drift of the policy since the batch was scored;
* ``mismatch_cap`` (in general ``kappa``) bounds π_old/π_rollout, the distance between trainer and rollout engine;
* ``teacher_clip`` bounds ln p − ln q and belongs to the advantage, not to this loss.

What a token's ratio ρ does, with [lo, hi] = [1−ε_lo, 1+ε_hi]:

==========  =====================================  ======================================================
surrogate   −ψ(ρ, Â)                               gradient outside [lo, hi]
==========  =====================================  ======================================================
``ppo``     −min(ρÂ, clip(ρ)Â)                     0 where the clip decides, else −ρÂ ∇ln π_θ
``gspo``    the same of s_i, the sequence's ratio  the same; all tokens of a sequence are clipped together
``cispo``   −sg[clip(ρ)] Â ln π_θ                  −clip(ρ) Â ∇ln π_θ: no token is dropped
==========  =====================================  ======================================================
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError, unknown

SURROGATES = ("ppo", "gspo", "cispo")


class PolicyGradient(NamedTuple):
    """Per-token results, all of the shape of the inputs. Only ``loss`` has a gradient."""

    loss: Tensor
    ratio: Tensor
    """ρ = π_θ/π_old before any clip; the sequence's ratio where ``sequence_log_ratio`` is given."""
    clipped: Tensor
    """Boolean: ``ppo_clip`` or ``dual_clip`` is what decided the loss, so that its policy part has no gradient (``cispo``: that ρ was
    moved to a bound, the gradient with it). Its mean is the clip fraction."""
    mismatch: Tensor
    """π_old/π_rollout before ``mismatch_cap``; 1 where that is not given."""
    dropped: Tensor
    """Boolean: outside ``tv_mask``; the policy part of the loss and its gradient are 0."""


def policy_gradient(
    student_logprobs: Tensor,
    advantages: Tensor,
    *,
    old_logprobs: Tensor | None = None,
    surrogate: str = "ppo",
    ppo_clip: tuple[float, float] | None = None,
    dual_clip: float | None = None,
    sequence_log_ratio: Tensor | None = None,
    rollout_logprobs: Tensor | None = None,
    mismatch_cap: float | None = None,
    kappa: Tensor | None = None,
    tv_mask: tuple[float, float] | None = None,
    tv_mask_symmetric: bool = False,
    ratio_penalty: float = 0.0,
) -> PolicyGradient:
    """−κ ψ(ρ, Â) + c (ln ρ)², with ψ as the table above says; ψ = ρ Â without ``ppo_clip``.

    ρ = exp(ln π_θ − ln π_old) per token. A token with Â = 0, κ = 0 or outside the mask has no policy part: loss and gradient 0.

    * ``ppo``: "Proximal Policy Optimization Algorithms", Schulman et al., arXiv 1707.06347, Eq. 7; unequal bounds from "DAPO",
      Yu et al., arXiv 2503.14476.
    * ``dual_clip`` c: a token with Â < 0 loses at most c|Â|. "Mastering Complex Control in MOBA Games with Deep Reinforcement
      Learning", Ye et al., arXiv 1912.09729.
    * ``gspo``: ρ_t = sg[s_i] π_θ/sg[π_θ], s_i = (Π_t π_θ/π_old)^(1/|y_i|). "Group Sequence Policy Optimization", Zheng et al.,
      arXiv 2507.18071, the token form of §4.3; with one advantage a sequence, its mean over tokens has the gradient of the sequence form.
    * ``cispo``: "MiniMax-M1", arXiv 2506.13585, which clips from above only: ``ppo_clip=(1, ε_hi)``. Its value is −w Â ln π_θ, a
      weighted likelihood: of another scale than the others', and 0 for a token that is certain. Compare gradients, not values.
    * ``tv_mask`` (lo, hi): with d = π_θ − π_rollout, drop Â > 0 ∧ d > hi and Â < 0 ∧ d < −lo, the tokens that would leave the trust
      region further; ``ratio_penalty`` c (0.001 in public code) pulls such tokens back: it acts on every token, dropped or not,
      outside κ. "Rethinking the Trust Region in LLM Reinforcement Learning", Qi et al., arXiv 2602.04879 (DPPO, binary TV).
    * ``mismatch_cap`` C: κ = min(π_old/π_rollout, C), truncated importance sampling, "Your Efficient RL Framework Secretly Brings You
      Off-Policy RL Training" (Yao et al., 2025). The other corrections: :func:`~agentdistill.losses.mismatch.mismatch_weight`.

    Args:
        student_logprobs: ln π_θ(y), [...], with gradient.
        advantages: Â, [...]; positive raises the probability of the token.
        old_logprobs: ln π_old(y), [...]. ``None``: the current policy, detached, so that ρ = 1 and the gradient is −κ Â ∇ln π_θ.
        surrogate: one of :data:`SURROGATES`. ``gspo`` is ``ppo`` that insists on ``sequence_log_ratio``.
        ppo_clip: (ε_lo, ε_hi). ``None``: not clipped.
        dual_clip: c > 1, not with ``cispo``. ``None``: not bounded.
        sequence_log_ratio: ln s_i of each token's sequence, [...], a constant: the mean of ln π_θ − ln π_old over its sampled tokens.
        rollout_logprobs: ln π_rollout(y), [...]; needed by ``mismatch_cap`` and ``tv_mask``. NaN: not known; κ = 1, never dropped.
        mismatch_cap: upper bound of κ. ``None``: κ = 1 unless ``kappa`` is given.
        kappa: κ, [...], no gradient; in place of ``mismatch_cap``.
        tv_mask: (lo, hi), in probability. ``None``: nothing is dropped.
        tv_mask_symmetric: drop d > hi and d < −lo whatever the sign of Â.
        ratio_penalty: c. Uses the token's own ratio, and does nothing where old_logprobs is ``None``.

    Raises:
        ConfigError: unknown surrogate, or settings that exclude each other.
        UsageError: shapes that differ, or a setting without the log-probabilities that it needs.
    """
    old = student_logprobs.detach() if old_logprobs is None else old_logprobs
    _check_settings(surrogate, dual_clip, sequence_log_ratio, tv_mask, tv_mask_symmetric, ratio_penalty)
    kappa = None if kappa is None else kappa.detach()
    constants = {"advantages": advantages, "old_logprobs": old, "sequence_log_ratio": sequence_log_ratio}
    _check_shapes(student_logprobs, {**constants, "rollout_logprobs": rollout_logprobs, "kappa": kappa})
    token_log_ratio = student_logprobs - old
    log_ratio = token_log_ratio
    if sequence_log_ratio is not None:
        log_ratio = sequence_log_ratio.detach() + (student_logprobs - student_logprobs.detach())
    with torch.no_grad():
        mismatch, kappa = _mismatch(old, rollout_logprobs, mismatch_cap, kappa)
        dropped = _outside(student_logprobs, advantages, rollout_logprobs, tv_mask, tv_mask_symmetric)
        silent = dropped | (advantages == 0) | (kappa == 0)
        weights = (kappa * advantages).masked_fill(silent, 0.0)
    if surrogate == "cispo":
        loss, clipped = _weighted_likelihood(student_logprobs, log_ratio.detach(), weights, ppo_clip)
    else:
        effective, clipped = _clipped_ratio(log_ratio, advantages, ppo_clip, dual_clip, silent)
        loss = -weights * effective
    if ratio_penalty:
        loss = loss + ratio_penalty * token_log_ratio.square()
    return PolicyGradient(loss, log_ratio.detach().exp(), clipped & ~silent, mismatch, dropped)


def _clipped_ratio(
    log_ratio: Tensor, advantages: Tensor, ppo_clip: tuple[float, float] | None, dual_clip: float | None, silent: Tensor
) -> tuple[Tensor, Tensor]:
    """ρ as the clipped objective sees it, constant where a bound decides; and where one does."""
    low, high = _bounds(ppo_clip)
    with torch.no_grad():
        above = (advantages > 0) & (log_ratio > math.log(high))
        below = (advantages < 0) & (log_ratio < _log(low))
        beyond = (advantages < 0) & (log_ratio > math.log(dual_clip or math.inf))
        clipped = above | below | beyond
        bound = torch.full_like(log_ratio, low).masked_fill_(above, high).masked_fill_(beyond, dual_clip or math.inf)
    # The masks act before exp: an overflow there would make a NaN gradient out of a finite loss.
    return torch.where(clipped, bound, log_ratio.masked_fill(clipped | silent, 0.0).exp()), clipped


def _weighted_likelihood(
    student_logprobs: Tensor, log_ratio: Tensor, weights: Tensor, ppo_clip: tuple[float, float] | None
) -> tuple[Tensor, Tensor]:
    """−sg[weights · clip(ρ)] ln π_θ; and where ρ is at a bound. A weight of 0 says nothing, be ln π_θ infinite."""
    low, high = _bounds(ppo_clip)
    factor = weights * log_ratio.exp().clamp(low, high).masked_fill(weights == 0, 0.0)
    return -factor * student_logprobs.masked_fill(factor == 0, 0.0), (log_ratio < _log(low)) | (log_ratio > math.log(high))


def _bounds(ppo_clip: tuple[float, float] | None) -> tuple[float, float]:
    return (max(0.0, 1 - ppo_clip[0]), 1 + ppo_clip[1]) if ppo_clip else (0.0, math.inf)


def _log(bound: float) -> float:
    return math.log(bound) if bound > 0 else -math.inf


def _mismatch(old: Tensor, rollout: Tensor | None, cap: float | None, kappa: Tensor | None) -> tuple[Tensor, Tensor]:
    """π_old/π_rollout, and κ."""
    ones = torch.ones_like(old)
    if cap is None:
        return ones, ones if kappa is None else kappa
    if kappa is not None:
        raise ConfigError(f"kappa and mismatch_cap={cap:g} would correct the same mismatch twice; give one of them")
    if rollout is None:
        raise UsageError(f"mismatch_cap={cap:g} needs rollout_logprobs, the log-probabilities at sampling")
    ratio = torch.where(rollout.isnan(), ones, (old - rollout).exp())
    return ratio, ratio.clamp_max(cap)


def _outside(student: Tensor, advantages: Tensor, rollout: Tensor | None, bounds: tuple[float, float] | None, symmetric: bool) -> Tensor:
    """Where the token's probability has moved beyond ``tv_mask``. An unknown rollout log-probability compares as within."""
    if bounds is None:
        return torch.zeros_like(student, dtype=torch.bool)
    if rollout is None:
        raise UsageError(f"tv_mask={bounds} needs rollout_logprobs, the log-probabilities at sampling")
    moved = student.exp() - rollout.exp()
    below, above = moved < -bounds[0], moved > bounds[1]
    return below | above if symmetric else (below & (advantages < 0)) | (above & (advantages > 0))


def _check_settings(
    surrogate: str,
    dual_clip: float | None,
    sequence_log_ratio: Tensor | None,
    tv_mask: tuple[float, float] | None,
    tv_mask_symmetric: bool,
    ratio_penalty: float,
) -> None:
    if surrogate not in SURROGATES:
        raise ConfigError(unknown("surrogate", surrogate, SURROGATES))
    if surrogate == "gspo" and sequence_log_ratio is None:
        raise UsageError("surrogate 'gspo' needs sequence_log_ratio, the mean of ln π_θ − ln π_old over the sequence of each token")
    if dual_clip is not None and surrogate == "cispo":
        raise ConfigError("dual_clip does not act on surrogate 'cispo', whose weight ppo_clip bounds for either sign; leave it out")
    if dual_clip is not None and not dual_clip > 1:
        raise ConfigError(f"dual_clip={dual_clip:g} is not above 1; the usual value is 3")
    if tv_mask_symmetric and tv_mask is None:
        raise ConfigError("tv_mask_symmetric says how tv_mask drops tokens, and there is no tv_mask; give (lo, hi), e.g. (0.2, 0.2)")
    if not ratio_penalty >= 0:
        raise ConfigError(f"ratio_penalty={ratio_penalty:g} would reward drift; expected 0 or more, e.g. 0.001")


def _check_shapes(student_logprobs: Tensor, others: dict[str, Tensor | None]) -> None:
    for name, other in others.items():
        if other is not None and other.shape != student_logprobs.shape:
            raise UsageError(f"{name} {tuple(other.shape)} and student_logprobs {tuple(student_logprobs.shape)} differ in shape")
