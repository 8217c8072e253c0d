"""How far the teacher can still be trusted: weights of turns by how far the student has drifted, and of episodes by perplexity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentdistill.errors import AlignmentError, ConfigError, UsageError, unknown

Values = npt.NDArray[np.float64]
PREFERENCES = ("certain", "uncertain")


def turn_divergence(gap: npt.ArrayLike, turn_index: npt.ArrayLike, mask: npt.ArrayLike, turns: int) -> Values:
    """d_k = mean_{t∈k} |g_t| of each turn, [K]: how far student and teacher are apart. NaN where no token of the turn is in the mask.

    Args:
        gap: g = ln p − ln q of each token, [T]; never read outside the mask.
        turn_index: of each token, [T].
        mask: tokens that count, [T].
        turns: K.

    Raises:
        AlignmentError: streams of different lengths, or a masked token of no turn.
        UsageError: a gap in the mask that is not finite: nobody reviewed the token, so the mask should leave it out.
    """
    gaps, index, counted = np.asarray(gap, np.float64), np.asarray(turn_index, np.int64), np.asarray(mask, np.bool_)
    if not gaps.shape == index.shape == counted.shape:
        raise AlignmentError(f"gap {gaps.shape}, turn_index {index.shape} and mask {counted.shape} run along the same tokens")
    index, gaps = index[counted], np.abs(gaps[counted])
    if len(index) and not 0 <= index.min() <= index.max() < turns:
        raise AlignmentError(f"masked tokens belong to turns {index.min()} to {index.max()}, but there are {turns}")
    if not np.isfinite(gaps).all():
        raise UsageError("a gap within the mask is not finite; leave tokens that no teacher reviewed out of the mask")
    counts = np.bincount(index, minlength=turns)
    totals = np.bincount(index, weights=gaps, minlength=turns)
    return np.asarray(np.divide(totals, counts, out=np.full(turns, np.nan), where=counts > 0), np.float64)


def step_weights(divergence: npt.ArrayLike, delta: float = 0.2, epsilon: float = 1e-6) -> Values:
    """w_1 = 1, w_k = min((d_1 + ε) / (d_k + ε), 1 + δ) of each turn, [K]: the teacher counts for less where the student has drifted.

    The paper writes the product Π_{u<k} (d_u + ε) / (d_{u+1} + ε), which telescopes: how the student got there does not matter, only how
    far turn k is from turn 1. See "SOD: Step-wise On-policy Distillation for Small Language Model Agents", Zhong et al., arXiv 2605.07725.

    Args:
        divergence: d_k, as :func:`turn_divergence` gives it, [K]. NaN: a turn without tokens that count; it has weight 0, and the first one
            that has some takes the place of the first.
        delta: how much more than the first a turn may weigh.
        epsilon: for turns without any divergence.

    Raises:
        ConfigError: ``delta`` below 0, or ``epsilon`` not above it.
        UsageError: a divergence below 0, or infinite.
    """
    if delta < 0 or epsilon <= 0:
        raise ConfigError(f"delta={delta:g} must be at least 0 and epsilon={epsilon:g} above 0")
    distances = np.asarray(divergence, np.float64)
    heard = ~np.isnan(distances)
    if not ((distances[heard] >= 0) & np.isfinite(distances[heard])).all():
        raise UsageError("a divergence is a mean of |ln p − ln q|, finite and at least 0")
    weights = np.zeros(len(distances))
    if heard.any():
        weights[heard] = np.minimum((distances[heard][0] + epsilon) / (distances[heard] + epsilon), 1 + delta)
    return weights


def trajectory_weights(mean_logprob: npt.ArrayLike, *, prefer: str, temperature: float = 1.0) -> Values:
    """Weights of the episodes of one group by perplexity, [G], with mean 1.

    ``uncertain``: ∝ PPL^{1/τ}, of right episodes by the student: learn most from what it hardly knew. ``certain``: ∝ PPL^{−1/τ}, of wrong
    episodes by the teacher: trust it most where it knows its way. ln PPL is minus the mean log-probability a token. See "SCOPE:
    Signal-Calibrated On-Policy Distillation Enhancement with Dual-Path Adaptive Weighting", Zheng et al., arXiv 2604.10688.

    Args:
        mean_logprob: of each episode, by whoever's perplexity it is, [G]. Pass only those that are compared: the right, or the wrong ones.

    Raises:
        ConfigError: unknown preference, or a temperature that is not above 0.
        UsageError: a log-probability that is not finite.
    """
    if prefer not in PREFERENCES:
        raise ConfigError(unknown("preference among episodes", prefer, PREFERENCES))
    if temperature <= 0:
        raise ConfigError(f"temperature={temperature:g} must be above 0; a large one weighs all alike")
    logprobs = np.asarray(mean_logprob, np.float64)
    if not np.isfinite(logprobs).all():
        raise UsageError("a mean log-probability is not finite; leave episodes out that nobody scored")
    if not len(logprobs):
        return logprobs
    scores = logprobs / temperature if prefer == "certain" else -logprobs / temperature
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.mean(), np.float64)
