"""C_k: what a turn is worth, compared with turns that could have been played instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentdistill.config.schema import PolicyGradientTerm
from agentdistill.credit.anchors import coverage, step_advantages
from agentdistill.credit.belief import turn_beliefs
from agentdistill.credit.signal import heard_log_ratio
from agentdistill.credit.tokens import Tokens, Values
from agentdistill.credit.turns import turn_advantages
from agentdistill.credit.verdict import is_right
from agentdistill.types import Episode, EpisodeGroup


def critic_advantages(tokens: Tokens, groups: Sequence[EpisodeGroup], term: PolicyGradientTerm, metrics: dict[str, float]) -> Values:
    """C of each token's turn, [n]: the turn's number on each of its tokens, once. NaN where the turn was not judged."""
    turns, found = tokens.turn, np.full(len(tokens), np.nan)
    where = dict(tokens.by_episode())
    for group in groups:
        siblings = [episode for episode in group.trainable if any(turn.author == "student" for turn in episode.turns)]
        if term.critic_signal.kind == "belief":
            values = _beliefs(tokens, where, siblings, term)
        else:
            values = _compared(siblings, term)
        for episode, of_turns in zip(siblings, values, strict=True):
            if episode.id in where:
                found[where[episode.id]] = of_turns[turns[where[episode.id]]]
    if term.critic_signal.kind == "anchors":
        metrics["credit/anchors/coverage"] = coverage([_visits(episode) for group in groups for episode in group.trainable])
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


def _beliefs(tokens: Tokens, where: dict[str, slice], siblings: Sequence[Episode], term: PolicyGradientTerm) -> list[Values]:
    """Increments of the belief in success; the belief before the first turn is the group's mean."""
    before = float(np.mean([is_right(episode) for episode in siblings])) if siblings else 0.0
    found = []
    for episode in siblings:
        evidence = np.zeros(len(episode.turns))
        if episode.id in where:
            here = np.zeros(len(tokens), np.bool_)
            here[where[episode.id]] = True
            mine = tokens.take(here & tokens.where([sample.reviewed for sample in tokens.samples]))
            np.add.at(evidence, mine.turn, heard_log_ratio(mine, term))
        found.append(turn_beliefs(evidence, outcome=float(is_right(episode)), before=before))
    return found
