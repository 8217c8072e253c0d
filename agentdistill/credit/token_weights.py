"""Which tokens a term hears, and how strongly: weights along one sample.

    function        weight of a masked token                                      from
    entropy_top     1 for the share with the highest student entropy              Revisiting OPD (.2), REOPOLD's second phase
    tip             1 for the top share by entropy or by divergence               TIP
    teachability    the teacher's mass within the student's top-k                 TA-OPD
    position        falling (or rising) with the position                         PW-OPSD
    iw              1 + (w_max − 1)(1 − F_{<t})                                   IW-OPD (1.5)
    floor_mask      1 where the gap is at least a floor                           REOPOLD's first phase
    special_tokens  0 on given ids                                                Revisiting OPD
    last_token      0 on the last token, of each turn                             PowerOPD

All return [T], 0 outside the mask, and never read a stream there; within it a number that is not finite is refused. Weights of several
functions multiply. :func:`floor_value` stands beside them: it bounds the gap itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from agentdistill.errors import AlignmentError, ConfigError, UsageError, unknown

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
SHAPES = ("linear", "exponential")


def entropy_top(entropy: npt.ArrayLike, mask: npt.ArrayLike, share: float = 0.2) -> Values:
    """1 for the ⌈share · n⌉ of n masked tokens with the highest entropy, [T]. Of equal ones the earlier, so that the count is exact.

    See "Revisiting On-Policy Distillation: Empirical Failure Modes and Simple Fixes", Fu et al., arXiv 2603.25562 (.2), and "Scaling
    Reasoning Efficiently via Relaxed On-Policy Distillation" (REOPOLD), Ko et al., arXiv 2603.11137.

    Args:
        entropy: of the student at each token, [T].
        mask: tokens that count, [T].

    Raises:
        ConfigError: ``share`` outside (0, 1].
        AlignmentError: streams of different lengths. UsageError: a masked number that is not finite.
    """
    values, counted = _read("entropy", entropy, mask)
    return _top(values, counted, share)


def tip(
    entropy: npt.ArrayLike, divergence: npt.ArrayLike, mask: npt.ArrayLike, share: float = 0.5, divergence_share: float | None = None
) -> Values:
    """1 for tokens in the top share by student entropy or in that by divergence, [T]: unsure, or sure and wrong.

    See "TIP: Token Importance in On-Policy Distillation", Xu et al., arXiv 2604.14084.

    Args:
        entropy: of the student at each token, [T].
        divergence: of teacher and student at each token, [T].
        mask: tokens that count, [T].
        divergence_share: ``None``: ``share``.

    Raises:
        ConfigError: a share outside (0, 1].
        AlignmentError: streams of different lengths. UsageError: a masked number that is not finite.
    """
    unsure = entropy_top(entropy, mask, share)
    apart = _top(*_read("divergence", divergence, mask), share if divergence_share is None else divergence_share)
    return np.maximum(unsure, apart)


def teachability(teacher_mass: npt.ArrayLike, mask: npt.ArrayLike, share: float | None = None) -> Values:
    """The teacher's probability within the student's top-k, or 1 for the top share by it, [T]: what lies within the student's reach.

    See "Not All Disagreement Is Learnable: Token Teachability in On-Policy Distillation", Wang et al., arXiv 2605.26844.

    Args:
        teacher_mass: Σ_{v ∈ top-k of q} p(v) at each token, [T].
        mask: tokens that count, [T].
        share: ``None``: weigh by the mass itself.

    Raises:
        ConfigError: ``share`` outside (0, 1].
        AlignmentError: streams of different lengths. UsageError: a masked mass that is no probability.
    """
    mass, counted = _read("teacher_mass", teacher_mass, mask)
    if not ((mass >= 0) & (mass <= 1 + 1e-6)).all():
        raise UsageError("teacher_mass is a probability, but some of it is outside [0, 1]; pass probabilities, not logarithms")
    return np.minimum(mass, 1.0) if share is None else _top(mass, counted, share)


def position(mask: npt.ArrayLike, shape: str = "linear", *, end: float = 0.0, half_life: float | None = None) -> Values:
    """By the position i = 0 … n − 1 among the masked tokens, [T], from 1 at the first.

    ``linear``: 1 + (end − 1) i / (n − 1), so that the last has ``end``; above 1, weights grow. ``exponential``: 2^(−i / half_life).
    Early tokens stand on prefixes that the teacher might have written itself, late ones on the student's own mistakes. See "When Are
    Teacher Tokens Reliable? Position-Weighted On-Policy Self-Distillation for Reasoning", Liu et al., arXiv 2605.21606, for weights by
    position; the two shapes are ours.

    Raises:
        ConfigError: unknown shape, ``end`` below 0, or ``half_life`` missing, not above 0, or without ``exponential``.
    """
    if shape not in SHAPES:
        raise ConfigError(unknown("shape of weights by position", shape, SHAPES))
    if (shape == "exponential") != (half_life is not None) or (half_life is not None and half_life <= 0):
        raise ConfigError(f"shape=exponential needs half_life=<tokens above 0>, and only it does; half_life is {half_life}")
    if end < 0:
        raise ConfigError(f"end={end:g} is the weight of the last token; it must be at least 0")
    counted = np.asarray(mask, np.bool_)
    index = np.arange(counted.sum(), dtype=np.float64)
    weights = np.zeros(len(counted))
    if half_life is not None:
        weights[counted] = np.exp2(-index / half_life)
    else:
        weights[counted] = 1 + (end - 1) * index / max(len(index) - 1, 1)
    return weights


def iw(gap: npt.ArrayLike, mask: npt.ArrayLike, w_max: float = 1.5) -> Values:
    """w_t = 1 + (w_max − 1)(1 − F_{<t}), [T], with F_{<t} the share of Σ|g| that lies before t: less, the further the student has drifted.

    See "On the Position Bias of On-Policy Distillation", Xie et al., arXiv 2606.22600. Without any gap all weights are 1.

    Args:
        gap: g = ln p − ln q of each token, [T].
        mask: tokens that count, [T].

    Raises:
        ConfigError: ``w_max`` below 1.
        AlignmentError: streams of different lengths. UsageError: a masked gap that is not finite.
    """
    if w_max < 1:
        raise ConfigError(f"w_max={w_max:g} is the weight of the first token; it must be at least 1")
    gaps, counted = _read("gap", gap, mask)
    sizes = np.abs(gaps)
    if not (total := sizes.sum()):
        return counted.astype(np.float64)
    before = (np.cumsum(sizes) - sizes) / total
    return np.where(counted, 1 + (w_max - 1) * (1 - before), 0.0)


def floor_mask(gap: npt.ArrayLike, mask: npt.ArrayLike, floor: float) -> Values:
    """1 where g ≥ floor, [T]: tokens that the teacher finds far too unlikely are left alone. REOPOLD's first phase, arXiv 2603.11137.

    Raises:
        AlignmentError: streams of different lengths. UsageError: a masked gap that is not finite.
    """
    gaps, counted = _read("gap", gap, mask)
    return (counted & (gaps >= floor)).astype(np.float64)


def floor_value(gap: npt.ArrayLike, mask: npt.ArrayLike, share: float) -> Values:
    """max(g, ln λ / (1 − λ)) with λ = ``share``, [T]: the gap itself with a floor, 0 outside the mask. No weight; arXiv 2603.11137.

    The floor rises with λ towards −1, which it nears as λ nears 1: λ = .1 gives −2.558, λ = .5 gives −1.386.

    Raises:
        ConfigError: ``share`` outside (0, 1).
        AlignmentError: streams of different lengths. UsageError: a masked gap that is NaN or +∞; −∞ is what the floor is for.
    """
    if not 0 < share < 1:
        raise ConfigError(f"share={share:g} must be within (0, 1)")
    values, counted = np.asarray(gap, np.float64), np.asarray(mask, np.bool_)
    floored = np.where(values == -np.inf, np.log(share) / (1 - share), values) if values.shape == counted.shape else values
    gaps, counted = _read("gap", floored, counted)
    return np.where(counted, np.maximum(gaps, np.log(share) / (1 - share)), 0.0)


def special_tokens(token_ids: npt.ArrayLike, mask: npt.ArrayLike, ids: Collection[int]) -> Values:
    """0 on tokens whose id is among ``ids``, 1 on the other masked ones, [T]: templates that teacher and student learned differently.

    See "Revisiting On-Policy Distillation: Empirical Failure Modes and Simple Fixes", Fu et al., arXiv 2603.25562.

    Raises:
        AlignmentError: streams of different lengths.
    """
    tokens, counted = np.asarray(token_ids, np.int64), np.asarray(mask, np.bool_)
    _require_parallel("token_ids", tokens.shape, counted.shape)
    return (counted & ~np.isin(tokens, list(ids))).astype(np.float64)


def last_token(mask: npt.ArrayLike, turn_index: npt.ArrayLike | None = None) -> Values:
    """0 on the last masked token of each turn, or of all without turns, 1 on the other masked ones, [T]: when to stop is not distilled.

    See "PowerOPD: Stabilizing On-Policy Distillation with Bounded Power Transformation", Zhao et al., arXiv 2606.17199.

    Args:
        turn_index: of each token, [T]. ``None``: there is one turn.

    Raises:
        AlignmentError: streams of different lengths.
    """
    counted = np.asarray(mask, np.bool_)
    turns = np.zeros(counted.shape, np.int64) if turn_index is None else np.asarray(turn_index, np.int64)
    _require_parallel("turn_index", turns.shape, counted.shape)
    weights = counted.astype(np.float64)
    for turn in np.unique(turns[counted]):
        weights[np.flatnonzero(counted & (turns == turn))[-1]] = 0.0
    return weights


def _read(name: str, stream: npt.ArrayLike, mask: npt.ArrayLike) -> tuple[Values, Mask]:
    """(stream with 0 outside the mask, mask)."""
    values, counted = np.asarray(stream, np.float64), np.asarray(mask, np.bool_)
    _require_parallel(name, values.shape, counted.shape)
    if not np.isfinite(values[counted]).all():
        raise UsageError(f"{name} is not finite within the mask; leave tokens that nobody reviewed out of the mask")
    return np.where(counted, values, 0.0), counted


def _require_parallel(name: str, shape: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if shape != mask or len(mask) != 1:
        raise AlignmentError(f"{name} has shape {shape} and the mask {mask}; both run along the tokens of one sample")


def _top(values: Values, counted: Mask, share: float) -> Values:
    if not 0 < share <= 1:
        raise ConfigError(f"share={share:g} of the tokens must be within (0, 1]")
    places = np.flatnonzero(counted)
    count = math.ceil(share * len(places) - 1e-9)
    weights = np.zeros(len(values))
    weights[places[np.argsort(-values[places], kind="stable")[:count]]] = 1.0
    return weights
