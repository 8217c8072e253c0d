"""Small statistics of success rates, each with its source. Nothing here draws from a clock or a shared random state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]
Z95 = 1.959963984540054
"""97.5 % point of the normal distribution."""
T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5 % point of Student's t with 1, 2, … 30 degrees of freedom."""


def pass_at(plays: int, right: int, k: int) -> float:
    """Probability that of ``k`` of the ``plays`` drawn without replacement at least one is right: 1 − C(n−c, k)/C(n, k).

    Unbiased for the success of k fresh plays. See "Evaluating Large Language Models Trained on Code", Chen et al., arXiv 2107.03374 §2.1.

    Raises:
        ValueError: not 0 ≤ right ≤ plays, or not 1 ≤ k ≤ plays.
    """
    if not (0 <= right <= plays and 1 <= k <= plays):
        raise ValueError(f"pass@{k} of {right} right among {plays} plays is not defined")
    return 1 - math.comb(plays - right, k) / math.comb(plays, k)


def wilson(right: int, plays: int) -> Interval:
    """95 % interval of a proportion of independent plays.

    See "Probable Inference, the Law of Succession, and Statistical Inference", Wilson, JASA 22 (1927).

    Raises:
        ValueError: not 0 ≤ right ≤ plays, or no plays.
    """
    if not 0 <= right <= plays or plays == 0:
        raise ValueError(f"{right} right among {plays} plays is no proportion")
    share, square = right / plays, Z95**2 / plays
    middle = (share + square / 2) / (1 + square)
    half = Z95 * math.sqrt(share * (1 - share) / plays + square / (4 * plays)) / (1 + square)
    return (0.0 if right == 0 else middle - half, 1.0 if right == plays else middle + half)


def bootstrap(values: Sequence[float], *, draws: int = 2000, seed: int = 0) -> Interval:
    """95 % percentile interval of the mean over resampled ``values``, one an independent unit (for instance a task).

    See "An Introduction to the Bootstrap", Efron and Tibshirani (1993), chapter 13.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a mean of no values has no interval")
    known = np.asarray(values, dtype=np.float64)
    picked = np.random.default_rng(seed).integers(0, len(known), size=(draws, len(known)))
    low, high = np.quantile(known[picked].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def t_interval(values: Sequence[float]) -> Interval | None:
    """95 % interval of the mean of a success rate over seeds by Student's t, cut to 0..1; ``None``: fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = (T95[len(values) - 2] if len(values) - 2 < len(T95) else Z95) * spread / math.sqrt(len(values))
    return max(0.0, mean - half), min(1.0, mean + half)


def first_reach(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """Where a curve of (tokens, success) first is at ``target``: on the straight line between the last measurement below and the first at
    or above it. ``None``: no measurement is, which is a censored observation, not a large one.
    """
    before: tuple[float, float] | None = None
    for tokens, success in curve:
        if success >= target:
            if before is None:
                return tokens
            return before[0] + (tokens - before[0]) * (target - before[1]) / (success - before[1])
        before = (tokens, success)
    return None


def censored_median(values: Sequence[float | None]) -> float | None:
    """Median of observations of which ``None`` are beyond whatever was looked at; ``None``: so is the median.

    Of an even number the mean of the middle two; with one of those censored that mean is not known, and so the median counts as censored.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values have no median")
    ranked = sorted(math.inf if value is None else value for value in values)
    median = (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
    return median if math.isfinite(median) else None


def at(curve: Sequence[tuple[float, float]], tokens: float) -> float:
    """A curve's value at ``tokens``, on the straight line between measurements; the first or the last one outside of them.

    Raises:
        ValueError: the curve is empty.
    """
    if not curve:
        raise ValueError("an empty curve has no value")
    return float(np.interp(tokens, [x for x, _ in curve], [y for _, y in curve]))


def area(curve: Sequence[tuple[float, float]], end: float) -> float:
    """Mean height of a curve from 0 to ``end`` tokens by trapezoids; a curve that ends earlier stays at its last value.

    Raises:
        ValueError: the curve is empty.
    """
    xs = [0.0, *(x for x, _ in curve if 0 < x < end), float(end)]
    ys = [at(curve, x) for x in xs]
    pieces = ((xs[i + 1] - xs[i]) * (ys[i] + ys[i + 1]) / 2 for i in range(len(xs) - 1))
    return math.fsum(pieces) / end
