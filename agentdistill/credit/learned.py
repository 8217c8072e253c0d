"""Z_t of a learned value: generalised advantages over the tokens or the turns of each episode, and what the value is to learn.

    token   c c c s s s c c s s        a step is a sampled token; what a turn earned arrives at its last one
    turn    c c c[s s s]c c[s s]       a step is a turn; its value is that of the state in which it begins, its advantage is on each token

What the environment says in between is no step: it neither discounts nor has a value. An episode that is over is worth nothing more; one
that was cut goes on with the value of the state after the last token that the model read. No turn begins there, so that a value which
learned the beginnings of turns alone would guess: after a turn that another one follows, the state is worth what the next one is when
that begins, and the value learns it too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentdistill.config.schema import PolicyGradientTerm
from agentdistill.credit.outcome import overlong_penalty
from agentdistill.credit.returns import gae, turn_gae
from agentdistill.credit.tokens import Index, Tokens, Values
from agentdistill.errors import AlignmentError
from agentdistill.types import BoolArray, Episode, EpisodeGroup, FloatArray


def learned_advantages(tokens: Tokens, groups: Sequence[EpisodeGroup], name: str, term: PolicyGradientTerm) -> tuple[Values, Values]:
    """Advantages of the outcome and targets of the value ``name``, both [n]. A target is NaN where the value is not asked: of turns, at all
    tokens but the first.

    Raises:
        AlignmentError: nobody said what the states of a token are worth.
    """
    episodes = {episode.id: episode for group in groups for episode in group.trainable}
    values, turns = learned_values_of(tokens, name), tokens.turn
    advantages, targets = np.zeros(len(tokens)), np.full(len(tokens), np.nan)
    for key, here in tokens.by_episode():
        episode = episodes[key]
        after = _value_after(tokens, key, name) if episode.stop.truncated else None
        earned = _rewards(episode, turns[here], term)
        if term.gae.level == "token":
            advantages[here], targets[here] = gae(
                earned, values[here], gamma=term.gae.gamma, lam=term.gae.lam, bootstrap=0.0 if after is None else after
            )
            continue
        _, starts, place = np.unique(turns[here], return_index=True, return_inverse=True)
        advantages[here], targets[here.start + starts] = turn_gae(
            np.asarray(np.bincount(place, weights=earned), np.float64),
            values[here][starts],
            place,
            gamma=term.gae.gamma,
            lam=term.gae.lam,
            truncated=after is not None,
            bootstrap=after,
        )
    return advantages, targets


def with_ends(targets: FloatArray, sampled: BoolArray) -> FloatArray:
    """Targets of a row, [L], and those of the states in which its turns end: the next one that there is. The state after the row's last
    token has none, for the episode is over there, or was cut and nobody knows.

    Args:
        sampled: where somebody sampled the token, [L].
    """
    found = targets.copy()
    known = np.flatnonzero(~np.isnan(targets))
    ends = np.flatnonzero(sampled[:-1] & ~sampled[1:]) + 1
    following = np.searchsorted(known, ends)
    inside = (following > 0) & (following < len(known))
    found[ends[inside]] = targets[known[following[inside]]]
    return found


def learned_values_of(tokens: Tokens, name: str) -> Values:
    """V of the state before each token, [n].

    Raises:
        AlignmentError: nobody said it.
    """
    return tokens.gather([sample.values.get(name) for sample in tokens.samples], f"the learned value {name!r} of its states")


def _rewards(episode: Episode, turns: Index, term: PolicyGradientTerm) -> Values:
    """What each token earned, [n]: a turn's reward is its last token's, or that of the last one before where it has none here."""
    earned = np.zeros(len(turns))
    for number, turn in enumerate(episode.turns):
        if (last := int(np.searchsorted(turns, number, side="right")) - 1) >= 0:
            earned[last] += turn.reward
    if term.overlong is not None:
        earned[-1] += overlong_penalty(episode.completion_tokens, limit=term.overlong.limit, buffer=term.overlong.buffer)
    return earned


def _value_after(tokens: Tokens, episode: str, name: str) -> float:
    last = max((sample for sample in tokens.samples if sample.episode == episode), key=lambda sample: sample.segment)
    found = last.values_after.get(name)
    if found is None:
        raise AlignmentError(f"episode {episode!r} was cut, and nobody said what the state after it is worth (learned value {name!r})")
    return found
