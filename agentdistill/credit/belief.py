"""Credit as a change of belief: how much each turn, or each token, moved the odds of success.

    logit V_k = logit V_{k−1} + δ_k,     δ_k = Σ_{t∈k} ln p(y_t | outcome known) − ln q(y_t),     V_0 = the group's success rate

By Bayes' rule the likelihood ratio of what was said, between a teacher that is told the outcome (or a skill that leads to it) and the
student that is not, moves the odds that this episode succeeds. The turn's credit is V_k − V_{k−1}: large where the matter was open, small
where it was decided. Credits telescope to V_K − V_0.

See "AgentOPSD: Recursive Self-Distillation for Agentic Reinforcement Learning", Wang et al., arXiv 2608.05987, for turns, and "OPPO:
Bayesian Value Recursion for Token-Level Credit Assignment in LLM Reasoning", Li et al., arXiv 2605.21851, for tokens: the same functions
with one δ a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agentdistill.errors import AlignmentError, ConfigError, UsageError

Values = npt.NDArray[np.float64]
STD_FLOOR = 1e-6


def group_prior(returns: Sequence[float], epsilon: float = 0.05) -> float:
    """V_0: the group's mean return, kept within [ε, 1 − ε], because certainty cannot be moved by evidence.

    Raises:
        ConfigError: ``epsilon`` outside (0, ½].
        UsageError: no returns, or some outside [0, 1]: a belief is a probability of success.
    """
    if not 0 < epsilon <= 0.5:
        raise ConfigError(f"epsilon={epsilon:g} must be above 0 and at most 0.5")
    rewards = np.asarray(returns, np.float64)
    if not len(rewards) or not ((rewards >= 0) & (rewards <= 1)).all():
        raise UsageError("beliefs are probabilities of success, so a group needs returns, all within [0, 1]; rescale the reward")
    return float(np.clip(rewards.mean(), epsilon, 1 - epsilon))


def turn_evidence(log_ratio: npt.ArrayLike, turn_index: npt.ArrayLike, mask: npt.ArrayLike, turns: int) -> Values:
    """δ_k = Σ_{t∈k} of the log-ratio, [K]: 0 for a turn without tokens in the mask, which is no evidence.

    Args:
        log_ratio: ln p(y_t | outcome known) − ln q(y_t) of each token, [T]; never read outside the mask.
        turn_index: of each token, [T].
        mask: tokens that count, [T].

    Raises:
        AlignmentError: streams of different lengths, or a masked token of no turn.
        UsageError: a log-ratio in the mask that is not a number.
    """
    ratios, index, counted = np.asarray(log_ratio, np.float64), np.asarray(turn_index, np.int64), np.asarray(mask, np.bool_)
    if not ratios.shape == index.shape == counted.shape:
        raise AlignmentError(f"log_ratio {ratios.shape}, turn_index {index.shape} and mask {counted.shape} run along the same tokens")
    index, ratios = index[counted], ratios[counted]
    if len(index) and not 0 <= index.min() <= index.max() < turns:
        raise AlignmentError(f"masked tokens belong to turns {index.min()} to {index.max()}, but there are {turns}")
    if not np.isfinite(ratios).all():
        raise UsageError("a log-ratio within the mask is not finite; leave tokens that no teacher reviewed out of the mask")
    return np.asarray(np.bincount(index, weights=ratios, minlength=turns), np.float64)


def beliefs(evidence: npt.ArrayLike, prior: float, decay: float = 1.0) -> Values:
    """V_0 to V_K, [K + 1]: σ(logit V_0 + c_k) with c_k = decay · c_{k−1} + δ_k.

    Args:
        evidence: δ_k of each turn, or of each token, [K].
        prior: V_0, within (0, 1); :func:`group_prior`.
        decay: of older evidence. 1: Bayes' rule; the paper of AgentOPSD uses .95, so that old evidence does not pin the belief for ever.

    Raises:
        ConfigError: ``prior`` outside (0, 1), or ``decay`` outside [0, 1].
        UsageError: evidence that is not finite.
    """
    if not 0 < prior < 1 or not 0 <= decay <= 1:
        raise ConfigError(f"prior={prior:g} must be within (0, 1) and decay={decay:g} within [0, 1]")
    deltas = np.asarray(evidence, np.float64)
    if not np.isfinite(deltas).all():
        raise UsageError("evidence is not finite; bound the log-ratio before it is summed")
    odds = np.full(len(deltas) + 1, np.log(prior) - np.log1p(-prior))
    total = 0.0
    for step, delta in enumerate(deltas, start=1):
        total = decay * total + delta
        odds[step] += total
    return np.asarray(np.exp(-np.logaddexp(0.0, -odds)), np.float64)


def belief_advantages(evidence: npt.ArrayLike, outcome: float, prior: float, decay: float = 1.0, largest: float = 10.0) -> Values:
    """(V_k − V_{k−1}) · (R − V_0) / (V_K − V_0) of each turn or token, [K]: credits that sum to what the episode earned beyond V_0.

    The factor must be positive and at most ``largest``. Where the beliefs moved away from the outcome, a negative one would praise what
    spoke against it; where they came back to V_0, a huge one would blow their swings up. There the increments stay as they are, and what
    is missing to R − V_0 is spread evenly: V_k − V_{k−1} + (R − V_K) / K.

    Args:
        evidence: as for :func:`beliefs`, which also says what is refused.
        outcome: R of the episode, within [0, 1].
    """
    values = beliefs(evidence, prior, decay)
    moved, earned = values[-1] - values[0], outcome - values[0]
    steps = np.diff(values)
    if not len(steps):
        return steps
    if moved * earned < 0 or abs(earned) > largest * abs(moved):
        return np.asarray(steps + (earned - moved) / len(steps), np.float64)
    return np.asarray(steps * (earned / moved if moved else 0.0), np.float64)


def belief_reshaped(
    advantage: float, evidence: npt.ArrayLike, prior: float, *, decay: float = 0.95, share: float = 0.5, band: float = 0.2
) -> Values:
    """Â · [(1 − share) + share · clip(1 + band · z_k, 1 ± band)] of each turn, [K]: the outcome's advantage, stretched where belief moved.

    z_k is sign(Â) (V_k − V_{k−1}), standardised over the episode's turns. The factor is positive, so the outcome keeps the say in which
    direction; turns whose evidence agrees with it get more. This is the bounded form with which AgentOPSD trains (arXiv 2608.05987).

    Args:
        advantage: Â of the episode.
        evidence: as for :func:`beliefs`, which also says what is refused.

    Raises:
        ConfigError: ``share`` outside [0, 1] or ``band`` outside [0, 1): the sign could turn.
    """
    if not 0 <= share <= 1 or not 0 <= band < 1:
        raise ConfigError(f"share={share:g} must be within [0, 1] and band={band:g} within [0, 1); outside, the sign could turn")
    credit = np.sign(advantage) * np.diff(beliefs(evidence, prior, decay))
    if not len(credit):
        return np.zeros(0)
    standard = (credit - credit.mean()) / (credit.std() + STD_FLOOR)
    return np.asarray(advantage * ((1 - share) + share * np.clip(1 + band * standard, 1 - band, 1 + band)), np.float64)
