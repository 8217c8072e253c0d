"""C_k: what a turn is worth, compared with turns that could have been played instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentdistill.config.schema import PolicyGradientTerm
from agentdistill.credit.anchors import coverage, step_advantages
from agentdistill.credit.belief import belief_advantages, group_prior, turn_evidence
from agentdistill.credit.signal import heard_log_ratio
from agentdistill.credit.tokens import Index, Tokens, Values
from agentdistill.credit.turns import turn_advantages
from agentdistill.credit.verdict import is_right, is_students
from agentdistill.types import Episode, EpisodeGroup


def critic_advantages(tokens: Tokens, groups: Sequence[EpisodeGroup], term: PolicyGradientTerm, metrics: dict[str, float]) -> Values:
    """C of each token's turn, [n]: the turn's number on each of its tokens, once. NaN where the turn was not judged."""
    turns, found = tokens.turn, np.full(len(tokens), np.nan)
    where = dict(tokens.by_episode())
    ratio = _evidence(tokens, term) if term.critic_signal.kind == "belief" else None
    for group in groups:
        siblings = [episode for episode in group.trainable if is_students(episode)]
        values = _compared(siblings, term) if ratio is None else _beliefs(ratio, turns, where, siblings)
        for episode, of_turns in zip(siblings, values, strict=True):
            if episode.id in where:
                found[where[episode.id]] = of_turns[turns[where[episode.id]]]
    if term.critic_signal.kind == "anchors":
        shares = [coverage([_visits(episode) for episode in group.trainable]) for group in groups if group.trainable]
        metrics["credit/anchors/coverage"] = float(np.mean(shares)) if shares else 0.0
    return found


def _compared(siblings: Sequence[Episode], term: PolicyGradientTerm) -> list[Values]:
    signal = term.critic_signal
    if signal.kind == "anchors":
        mode = "mean_std" if signal.normalise == "group_std" else "mean"
        return step_advantages([_visits(episode) for episode in siblings], gamma=signal.gamma, mode=mode)
    rewards = [[turn.reward for turn in episode.turns] for episode in siblings]
    return turn_advantages(rewards, normalise=signal.normalise, gamma=signal.gamma)


def _visits(episode: Episode) -> list[tuple[str | None, str | None, float]]:
    """(state before the turn, state after it, reward) of each turn."""
    after = [turn.anchor for turn in episode.turns[1:]] + [None]
    return [(turn.anchor, then, turn.reward) for turn, then in zip(episode.turns, after, strict=True)]


def _evidence(tokens: Tokens, term: PolicyGradientTerm) -> Values:
    """The teacher's log-ratio of each token, NaN where it has no opinion, which is no evidence."""
    heard = tokens.where([sample.reviewed for sample in tokens.samples])
    ratio = np.full(len(tokens), np.nan)
    ratio[heard] = heard_log_ratio(tokens.take(heard), term)
    return ratio


def _beliefs(ratio: Values, turns: Index, where: dict[str, slice], siblings: Sequence[Episode]) -> list[Values]:
    """Increments of the belief in success; the belief before the first turn is the group's mean."""
    outcomes = [float(is_right(episode)) for episode in siblings]
    found = []
    for episode, outcome in zip(siblings, outcomes, strict=True):
        here = where.get(episode.id, slice(0, 0))
        evidence = turn_evidence(ratio[here], turns[here], ~np.isnan(ratio[here]), len(episode.turns))
        found.append(belief_advantages(evidence, outcome, group_prior(outcomes)))
    return found
