"""The weights that a configuration asks for, on the tokens of one term."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from agentdistill.config import weights as kinds
from agentdistill.config.weights import DenseWeight, TokenWeight
from agentdistill.credit import token_weights
from agentdistill.credit.signal import log_ratio
from agentdistill.credit.step_weights import step_weights, turn_divergence
from agentdistill.credit.tokens import Tokens, Values
from agentdistill.types import BoolArray


def weigh(tokens: Tokens, weights: Sequence[TokenWeight], step: int, *, special_ids: Collection[int] = ()) -> Values:
    """The product of ``weights``, [n]; 1 without any. Those that need whole distributions are left to the kernel, and are 1 here.

    Weights of an episode (by position, by what came before, by turn) see its tokens alone; shares are of all tokens of the term.

    Raises:
        AlignmentError: a weight needs what nobody measured, the student's entropy or the teacher's log-probabilities.
    """
    found = np.ones(len(tokens))
    for weight in weights:
        if not isinstance(weight, DenseWeight) and weight.acts(step) and len(tokens):
            found = found * _heard(tokens, weight, special_ids)
    return found


def _heard(tokens: Tokens, weight: TokenWeight, special_ids: Collection[int]) -> Values:
    """The weight, which is 1 where it asks for the teacher's opinion and there is none."""
    if not weight.hears_teacher:
        return _weigh(tokens, weight, special_ids)
    reviewed = tokens.where([sample.reviewed for sample in tokens.samples])
    found = np.ones(len(tokens))
    if reviewed.any():
        found[reviewed] = _weigh(tokens.take(reviewed), weight, special_ids)
    return found


def _weigh(tokens: Tokens, weight: TokenWeight, special_ids: Collection[int]) -> Values:
    every = np.ones(len(tokens), np.bool_)
    match weight:
        case kinds.EntropyWeight():
            return token_weights.entropy_top(_entropy(tokens), every, weight.share)
        case kinds.TipWeight():
            return token_weights.tip(_entropy(tokens), np.abs(log_ratio(tokens)), every, weight.share)
        case kinds.FloorWeight():
            return token_weights.floor_mask(log_ratio(tokens), every, weight.floor)
        case kinds.SpecialTokenWeight():
            return token_weights.special_tokens(tokens.ids, every, special_ids)
        case kinds.LastTokenWeight():
            return (~tokens.ends_completion).astype(np.float64)
        case kinds.PositionWeight():
            return _by_episode(
                tokens, lambda here, all: token_weights.position(all, weight.shape, end=weight.end, half_life=weight.half_life)
            )
        case kinds.PrefixImportanceWeight():
            gap = log_ratio(tokens)
            return _by_episode(tokens, lambda here, all: token_weights.iw(gap[here], all, weight.maximum))
        case kinds.TurnDriftWeight():
            return _drift(tokens, weight)
        case _:
            raise AssertionError(f"{weight.kind} is the kernel's")


def _by_episode(tokens: Tokens, function: Callable[[slice, BoolArray], Values]) -> Values:
    """``function`` of each episode's place among the tokens, and of a mask of its length."""
    found = np.zeros(len(tokens))
    for _, here in tokens.by_episode():
        found[here] = function(here, np.ones(here.stop - here.start, np.bool_))
    return found


def _drift(tokens: Tokens, weight: kinds.TurnDriftWeight) -> Values:
    gap, turn = log_ratio(tokens), tokens.turn

    def of_episode(here: slice, every: BoolArray) -> Values:
        apart = turn_divergence(gap[here], turn[here], every, int(turn[here].max()) + 1)
        return step_weights(apart, weight.delta, weight.epsilon)[turn[here]]

    return _by_episode(tokens, of_episode)


def _entropy(tokens: Tokens) -> Values:
    return tokens.gather([sample.entropy for sample in tokens.samples], "the student's entropy")
