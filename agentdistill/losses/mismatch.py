"""The distance between trainer and rollout engine, and what it does to a token's weight.

Both compute the same policy, with other kernels, precision or routing, and perhaps other weights; what was sampled from one is trained
with the other. ρ = π_old/π_rollout measures that. It is not π_θ/π_old, which ``ppo_clip`` bounds, and not the teacher's ratio.

==========  =======================  =====================================================================================
kind        weight κ                 bias
==========  =======================  =====================================================================================
``tis``     min(ρ, cap)              towards zero where ρ > cap; every token stays
``icepop``  ρ inside band, else 0    tokens outside are lost
``mis``     1 inside band, else 0    tokens outside are lost, the rest is not corrected
==========  =======================  =====================================================================================

=============  =========================  ================================================================================
level          ρ of a token               variance and bias
=============  =========================  ================================================================================
``token``      its own                    low variance; does not correct what state the token was reached in
``sequence``   Π over its sequence        no such bias before truncation; variance grows exponentially with the length
``geometric``  (Π)^(1/length)             comparable between lengths: a test of the sequence rather than its importance weight
=============  =========================  ================================================================================
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError, unknown

KINDS = ("tis", "icepop", "mis")
LEVELS = ("token", "sequence", "geometric")


class Mismatch(NamedTuple):
    """Per-token results, [n], without gradient."""

    weight: Tensor
    """κ, to be multiplied into the loss."""
    ratio: Tensor
    """ρ at the level asked for, before any bound; 1 where it is not known."""
    kept: Tensor
    """Boolean: not masked. ``tis`` keeps all."""


@torch.no_grad()
def mismatch_weight(
    old_logprobs: Tensor,
    rollout_logprobs: Tensor,
    *,
    kind: str = "tis",
    level: str = "token",
    cap: float = 2.0,
    band: tuple[float, float] = (0.5, 5.0),
    sequence: Tensor | None = None,
) -> Mismatch:
    """κ of each token, by the tables above: any kind at any level.

    ``tis``: "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (Yao et al., 2025). ``icepop``: "Small Leak Can
    Sink a Great Ship: Boost RL Training on MoE with IcePop" (Ant Ling team, 2025). ``mis`` and the two levels of sequences: "When Speed
    Kills Stability: Demystifying RL Collapse from the Training-Inference Mismatch" (Liu et al., 2025).

    Args:
        old_logprobs: ln π_old(y) by the trainer, [n].
        rollout_logprobs: ln π_rollout(y) by the engine, [n], raw: of the distribution before temperature and cut-offs where the
            trainer's are. A token with NaN on either side has no ratio: it weighs 1 and does not count in its sequence.
        kind: one of :data:`KINDS`.
        level: one of :data:`LEVELS`.
        cap: the bound of ``tis``.
        band: (lo, hi) of ``icepop`` and ``mis``, both ends inside. The default is IcePop's for tokens; a geometric mean lies near 1 and
            wants a narrow one.
        sequence: the sequence of each token, [n] integers in any order, for the levels ``sequence`` and ``geometric``.

    Raises:
        ConfigError: unknown kind or level, or bounds that leave nothing.
        UsageError: shapes that differ, or no ``sequence`` where the level needs it.
    """
    _check(old_logprobs, rollout_logprobs, kind, level, cap, band, sequence)
    log_ratio = old_logprobs.to(torch.promote_types(old_logprobs.dtype, torch.float32)) - rollout_logprobs
    known = ~log_ratio.isnan()
    log_ratio = log_ratio.masked_fill(~known, 0.0)
    if sequence is not None and level != "token":
        log_ratio = sequence_total(log_ratio, sequence, known, mean=level == "geometric").masked_fill(~known, 0.0)
    ratio = log_ratio.exp()
    if kind == "tis":
        kept, weight = torch.ones_like(known), ratio.clamp_max(cap)
    else:
        kept = ((ratio >= band[0]) & (ratio <= band[1])) | ~known
        weight = (torch.ones_like(ratio) if kind == "mis" else ratio).masked_fill(~kept, 0.0)
    return Mismatch(weight.masked_fill(~known, 1.0), ratio, kept)


def sequence_total(values: Tensor, sequence: Tensor, counts: Tensor | None = None, *, mean: bool = False) -> Tensor:
    """Sum, or mean, of each token's sequence, at each of its tokens: [n] -> [n]. With ``mean`` of ln π_θ − ln π_old it is GSPO's ln s_i.

    Args:
        values: [n].
        sequence: [n] integers, in any order and without need to be consecutive.
        counts: [n] boolean; tokens that do not count add nothing, neither to the sum nor to the length. ``None``: all count.
    """
    ids, place = torch.unique(sequence, return_inverse=True)
    counting = torch.ones_like(values) if counts is None else counts.to(values.dtype)
    added = values if counts is None else values.masked_fill(~counts, 0.0)
    total = values.new_zeros(len(ids)).index_add_(0, place, added)
    if mean:
        total = total / values.new_zeros(len(ids)).index_add_(0, place, counting).clamp_min(1)
    return total[place]


def _check(old: Tensor, rollout: Tensor, kind: str, level: str, cap: float, band: tuple[float, float], sequence: Tensor | None) -> None:
    if kind not in KINDS:
        raise ConfigError(unknown("mismatch correction", kind, KINDS))
    if level not in LEVELS:
        raise ConfigError(unknown("level of mismatch correction", level, LEVELS))
    if not cap > 0:
        raise ConfigError(f"cap={cap:g} leaves no weight; expected more than 0, e.g. 2")
    if not 0 <= band[0] <= band[1]:
        raise ConfigError(f"band={band} holds no ratio; expected 0 ≤ lo ≤ hi, e.g. (0.5, 5)")
    if level != "token" and sequence is None:
        raise UsageError(f"level {level!r} needs sequence, the sequence that each token belongs to")
    for name, other in (("rollout_logprobs", rollout), ("sequence", sequence)):
        if other is not None and other.shape != old.shape:
            raise UsageError(f"{name} {tuple(other.shape)} and old_logprobs {tuple(old.shape)} differ in shape")
