"""Turn-level advantages: what a critic's scores say of each turn, compared with the siblings' turns.

    scores of a group          return-to-go, γ = 1         minus the siblings' mean at that turn
    episode a   .5  .8         1.3   .8   stopped: 0        a   1.3 − (1.0 + .4) / 2    .8 − (.9 + 0) / 2
    episode b   .1  .4  .5     1.0   .9   .5                b   1.0 − (1.3 + .4) / 2    .9 − (.8 + 0) / 2    .5 − (0 + 0) / 2
    episode c   .4              .4   stopped: 0             c    .4 − (1.3 + 1.0) / 2

The policy decides when to stop, so *how many turns there are to compare* is something it did. A baseline that depends on what the episode
itself did is no baseline: E[b ∇ln π] is 0 only if b is independent of the episode's own actions. Normalising the scores of turn k over
the episodes that reached turn k, and summing them, subtracts one mean more for each turn that the episode chose to take: a hidden price on
every decision to go on ("Per-turn reward support for multi-turn RL", github.com/verl-project/verl/issues/7244). Here the baseline of turn k
is the mean of the *other* episodes' returns-to-go, and one that has stopped counts with the return it has from there on: 0.

A turn without a score was not reviewed, which is not a score of 0: it leaves the sums, the means and the advantages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agentdistill.errors import AlignmentError, ConfigError, UsageError, unknown

Values = npt.NDArray[np.float64]
NORMALISATIONS = ("none", "group", "group_std", "per_index")
STD_FLOOR = 1e-6


def turn_advantages(
    scores: Sequence[npt.ArrayLike],
    *,
    normalise: str = "group",
    gamma: float = 1.0,
    confidence: Sequence[npt.ArrayLike] | None = None,
) -> list[Values]:
    """Advantage of each turn of each episode of a group: [K_i] each, NaN where the turn was not reviewed.

    With r_k the scores and C_k = Σ_{j≥k} γ^{j−k} r_j over reviewed turns:

    * ``none``: C_k.
    * ``group``: C_k − b_k with b_k the mean over the siblings, without the episode itself, of their return-to-go at turn k; 0 for those
      that have stopped. E[Σ_k (C_k − b_k) ∇ln π_k] is the gradient of E[Σ_k r_k], whatever the policy's stopping (γ = 1; checked by
      enumeration).
    * ``group_std``: that, divided by one standard deviation of the whole group, pooled over turns. The scale depends on the episode's own
      actions, so the mean is the gradient's only up to that, as with GRPO's.
    * ``per_index``: the trap that the module's text describes, for comparison: (r_k − mean) / std over the episodes that reached turn k,
      itself included, then summed with γ. Biased; see "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Reward Design", Wei et
      al., arXiv 2505.11821, for the method that it is taken from.

    On the three-turn world of the tests, in groups of 2, the largest error of the mean and its cosine with the gradient are 0 and 1 for
    ``none`` and for ``group`` (which has 9 % less second moment), .130 and .997 for ``group_std``, .126 and .906 for ``per_index``, and
    .254 and .925 for its means without the division.

    An episode alone in its group, or whose siblings have no reviewed turn, has advantage 0: nothing to compare with is not a success. Where
    no sibling can be heard at turn k, b_k is the mean of their reviewed turns at any index.

    Args:
        scores: of each episode, one number a turn, [K_i]; NaN or ``None``: not reviewed.
        gamma: discount between turns, of the turns and not of their tokens. 0: each turn by its own score alone.
        confidence: of the critic in each score, within [0, 1]: a score weighs so much in the siblings' means, and its own advantage is
            multiplied by it. ``None``: 1.

    Raises:
        ConfigError: unknown normalisation, or ``gamma`` outside [0, 1].
        AlignmentError: ``confidence`` does not fit ``scores``.
        UsageError: a score that is infinite, or a confidence outside [0, 1].
    """
    if normalise not in NORMALISATIONS:
        raise ConfigError(unknown("normalisation of turns", normalise, NORMALISATIONS))
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma={gamma:g} is a discount between turns; it must be within [0, 1]")
    rewards, sure = _read(scores, confidence)
    if normalise == "none":
        found = [returns_to_go(row, gamma) for row in rewards]
    elif normalise == "per_index":
        found = [returns_to_go(row, gamma) for row in _per_index(rewards)]
    else:
        found = _against_siblings([returns_to_go(row, gamma) for row in rewards], sure, scaled=normalise == "group_std")
    return [row * weight for row, weight in zip(found, sure, strict=True)]


def returns_to_go(scores: npt.ArrayLike, gamma: float = 1.0) -> Values:
    """Σ_{j≥k} γ^{j−k} r_j of each turn, over the reviewed ones: [K], NaN where the turn itself was not reviewed."""
    rewards = np.array(scores, np.float64)
    total = 0.0
    found = np.full(len(rewards), np.nan)
    for index in reversed(range(len(rewards))):
        total = gamma * total + (0.0 if np.isnan(rewards[index]) else rewards[index])
        if not np.isnan(rewards[index]):
            found[index] = total
    return found


def mt_grpo(turn: Sequence[npt.ArrayLike], outcome: npt.ArrayLike, coefficient: float = 1.0) -> list[Values]:
    """Â_k = coefficient · Â_turn,k + Â_outcome, [K_i] each. A turn that was not reviewed has the outcome alone.

    See "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Reward Design", Wei et al., arXiv 2505.11821, which gives the turn's
    part to the first turn only.

    Args:
        turn: advantages of each episode's turns, as :func:`turn_advantages` returns them.
        outcome: advantage of each episode, [G].

    Raises:
        AlignmentError: as many outcomes as episodes are needed.
    """
    outcomes = np.asarray(outcome, np.float64)
    if outcomes.shape != (len(turn),):
        raise AlignmentError(f"{len(turn)} episodes have turn advantages, but outcome has shape {outcomes.shape}")
    return [
        coefficient * np.nan_to_num(np.asarray(row, np.float64), nan=0.0) + float(each) for row, each in zip(turn, outcomes, strict=True)
    ]


def broadcast(turn_values: npt.ArrayLike, turn_index: npt.ArrayLike) -> Values:
    """The turn's value on each of its tokens, [T]: once, not divided among them and not summed. NaN on tokens of no turn.

    Args:
        turn_values: [K]; NaN, not reviewed, stays NaN.
        turn_index: of each token, [T]; −1 for tokens that nobody sampled.

    Raises:
        AlignmentError: a token of a turn that has no value.
    """
    values, index = np.asarray(turn_values, np.float64), np.asarray(turn_index, np.int64)
    if len(index) and index.max() >= len(values):
        raise AlignmentError(f"a token belongs to turn {index.max()}, but there are values for {len(values)} turns")
    return np.where(index >= 0, np.append(values, np.nan)[index], np.nan)


def _read(scores: Sequence[npt.ArrayLike], confidence: Sequence[npt.ArrayLike] | None) -> tuple[list[Values], list[Values]]:
    """(scores, confidences), [K_i] each; a turn without score has confidence 0."""
    rewards = [np.asarray(row, np.float64) for row in scores]
    given = [np.ones(len(row)) for row in rewards] if confidence is None else [np.asarray(row, np.float64) for row in confidence]
    if [row.shape for row in rewards] != [row.shape for row in given]:
        raise AlignmentError(f"scores have {[len(row) for row in rewards]} turns by episode, confidence {[len(row) for row in given]}")
    for row, sure in zip(rewards, given, strict=True):
        if np.isinf(row).any():
            raise UsageError("a turn's score is infinite; NaN is for a turn that was not reviewed")
        if not ((sure >= 0) & (sure <= 1))[~np.isnan(row)].all():
            raise UsageError("the confidence in a score is outside [0, 1]")
    return rewards, [np.where(np.isnan(row), 0.0, sure) for row, sure in zip(rewards, given, strict=True)]


def _against_siblings(returns: list[Values], sure: list[Values], *, scaled: bool) -> list[Values]:
    """Returns minus the siblings' means; divided by the pooled standard deviation where ``scaled``."""
    table, weight = _table(returns, sure)
    weight_else, total_else = weight.sum(0) - weight, (weight * table).sum(0) - weight * table
    turns = np.array([[row.sum(), (row * np.nan_to_num(value)).sum()] for row, value in zip(sure, returns, strict=True)]).reshape(-1, 2)
    turns_else = (turns.sum(0) - turns)[:, None, :]
    heard = weight_else > 0
    total_else, weight_else = np.where(heard, total_else, turns_else[..., 1]), np.where(heard, weight_else, turns_else[..., 0])
    compared = weight_else > 0
    baseline = np.divide(total_else, weight_else, out=table.copy(), where=compared)
    advantage = table - baseline
    if scaled:
        # (x − mean of all) = (x − mean of others) · share of others, so this is Σ (x − mean)² / (n − 1) where all weights are 1.
        mean = (weight * table).sum(0) / np.maximum(weight.sum(0), 1e-300)
        used = weight * compared
        variance = (used * advantage * (table - mean)).sum() / max(used.sum(), 1e-300)
        advantage = advantage / (np.sqrt(variance) + STD_FLOOR)
    return [np.where(np.isnan(value), np.nan, advantage[index, : len(value)]) for index, value in enumerate(returns)]


def _table(returns: list[Values], sure: list[Values]) -> tuple[Values, Values]:
    """(returns, weights), [G, longest]: 0 of weight 1 after the end of an episode that was reviewed anywhere, weight 0 where unknown."""
    longest = max((len(row) for row in returns), default=0)
    table, weight = np.zeros((2, len(returns), longest))
    for index, (value, each) in enumerate(zip(returns, sure, strict=True)):
        table[index, : len(value)] = np.nan_to_num(value)
        weight[index, : len(value)] = each
        weight[index, len(value) :] = float(each.any())
    return table, weight


def _per_index(rewards: list[Values]) -> list[Values]:
    normalised = [row.copy() for row in rewards]
    for index in range(max((len(row) for row in rewards), default=0)):
        reached = [row for row in normalised if index < len(row) and not np.isnan(row[index])]
        column = np.array([row[index] for row in reached])
        spread = column.std(ddof=1) + STD_FLOOR if len(column) > 1 else 1.0
        for row in reached:
            row[index] = (row[index] - column.mean()) / spread
    return normalised
