"""Advantages from the outcome alone: what an episode earned, compared with its siblings or with the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from agentdistill.errors import AlignmentError, ConfigError, UsageError, unknown

FloatArray = npt.NDArray[np.float64]
Baseline = Literal["none", "group", "group_std", "rloo", "maxrl"]

STD_FLOOR = 1e-6
FLAT = 1e-12
"""Returns that differ by less than this, relative to max(1, |R|), are equal: 0.1 + 0.2 earns what 0.3 earns."""


def group_advantages(returns: Sequence[float], baseline: Baseline) -> FloatArray:
    """Advantage of each of G siblings: [G].

    * ``none``: R
    * ``group``: R − mean(R). "Understanding R1-Zero-Like Training", Liu et al., arXiv 2503.20783 (Dr. GRPO).
    * ``group_std``: (R − mean(R)) / (std(R) + 1e-6), with the sample standard deviation (G − 1).
      "DeepSeekMath", Shao et al., arXiv 2402.03300, eq. 3 (GRPO).
    * ``rloo``: R − mean of the other siblings = G/(G−1) (R − mean(R)), which unlike ``group`` has the scale of R in the mean.
      "Back to Basics: Revisiting REINFORCE Style Optimization", Ahmadian et al., arXiv 2402.14740.
    * ``maxrl``: (R − mean(R)) / mean(R), 0 where all returns are 0: rare success counts for more.
      "Maximum Likelihood Reinforcement Learning", Tajwar et al., arXiv 2602.02710, for returns of 0 and 1.

    But for ``none``, a group of one and a group whose returns are equal up to rounding have exactly 0.
    Only trainable siblings may be passed: a failed one must leave the mean as well as the sum.

    Raises:
        ConfigError: unknown baseline.
        UsageError: ``maxrl`` with a negative return: the sign of its mean would turn the advantages round.
    """
    if baseline not in get_args(Baseline):
        raise ConfigError(unknown("baseline", baseline, get_args(Baseline)))
    rewards = np.asarray(returns, np.float64)
    if baseline == "none":
        return rewards
    if baseline == "maxrl" and (rewards < 0).any():
        raise UsageError(f"baseline 'maxrl' divides by the mean return and needs returns of 0 or more, found {rewards.min():g}")
    count = len(rewards)
    if count < 2 or _flat(rewards):
        return np.zeros_like(rewards)
    centred = rewards - rewards.mean()
    scales = {"group": 1.0, "group_std": rewards.std(ddof=1) + STD_FLOOR, "rloo": (count - 1) / count, "maxrl": rewards.mean()}
    return np.asarray(centred / scales[baseline], np.float64)


def batch_advantages(returns: Sequence[float] | FloatArray, counts: Sequence[int] | None = None) -> FloatArray:
    """(R − mean) / std over the whole batch, whatever group an episode is of: [N].

    "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage Normalization", Hu et al., arXiv 2501.03262. Mean and
    population standard deviation are over tokens, of which each carries the return of its episode. A batch whose returns are equal up
    to rounding has exactly 0.

    Args:
        returns: [N], one an episode.
        counts: [N], the trained tokens of each episode. ``None``: every episode counts once.

    Raises:
        AlignmentError: another number of counts than of returns.
        UsageError: a negative count.
    """
    rewards = np.asarray(returns, np.float64)
    weights = np.ones_like(rewards) if counts is None else np.asarray(counts, np.float64)
    if weights.shape != rewards.shape:
        raise AlignmentError(f"counts has shape {weights.shape}, returns has {rewards.shape}")
    if (weights < 0).any():
        raise UsageError(f"an episode has {weights.min():g} tokens; counts are 0 or more")
    if not weights.any() or _flat(rewards[weights > 0]):
        return np.zeros_like(rewards)
    mean = np.average(rewards, weights=weights)
    return np.asarray((rewards - mean) / np.sqrt(np.average((rewards - mean) ** 2, weights=weights)), np.float64)


def overlong_penalty(length: int, *, limit: int, buffer: int) -> float:
    """What to add to the return of a completion of ``length`` tokens: in [−1, 0].

    0 up to limit − buffer; (limit − buffer − length)/buffer within the buffer; −1 beyond the limit. "DAPO: An Open-Source LLM
    Reinforcement Learning System at Scale", Yu et al., arXiv 2503.14476, eq. 13.

    Raises:
        UsageError: a buffer that is negative or longer than the limit.
    """
    if not 0 <= buffer <= limit:
        raise UsageError(f"overlong_penalty: buffer={buffer} with limit={limit}; expected 0 ≤ buffer ≤ limit")
    if length > limit:
        return -1.0
    return min(0.0, (limit - buffer - length) / buffer) if buffer else 0.0


def _flat(values: FloatArray) -> bool:
    return float(np.ptp(values)) <= FLAT * max(1.0, float(np.abs(values).max()))
