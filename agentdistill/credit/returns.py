"""Returns over time: from rewards a step to what each step was worth.

A step is a token for :func:`gae` as it is usually called, and a turn for :func:`turn_gae`, where the value of a state is asked for once a
turn, at its beginning, and what the environment says in between is no step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agentdistill.errors import AlignmentError, UsageError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer]
NOT_SAMPLED = -1
"""Turn of a token that no player sampled: prompt, template, what the environment said."""


def discounted(rewards: Sequence[float] | FloatArray, gamma: float) -> FloatArray:
    """G_t = Σ_{s≥t} γ^{s−t} r_s: [T] -> [T].

    Raises:
        UsageError: γ outside [0, 1].
    """
    _share("gamma", gamma)
    return _backward(np.asarray(rewards, np.float64), gamma)


def gae(
    rewards: Sequence[float] | FloatArray, values: Sequence[float] | FloatArray, *, gamma: float, lam: float, bootstrap: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Generalised advantages and the targets of the value function, both [T].

    Â_t = Σ_{l≥0} (γλ)^l δ_{t+l} with δ_t = r_t + γ V_{t+1} − V_t, and targets Â + V, the λ-returns. "High-Dimensional Continuous Control
    Using Generalized Advantage Estimation", Schulman et al., arXiv 1506.02438, Eq. 16.

    Args:
        rewards: r, [T].
        values: V of the state before each step, [T].
        gamma: γ, in [0, 1].
        lam: λ, in [0, 1]; 0 trusts the values one step on, 1 waits for the end.
        bootstrap: V after the last step: 0 where the episode is over, the state's value where it was cut.

    Raises:
        AlignmentError: another number of values than of rewards.
        UsageError: γ or λ outside [0, 1].
    """
    _share("gamma", gamma)
    _share("lam", lam)
    earned, estimated = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    if earned.shape != estimated.shape:
        raise AlignmentError(f"values has shape {estimated.shape}, rewards has {earned.shape}")
    errors = earned + gamma * np.append(estimated, bootstrap)[1:] - estimated
    advantages = _backward(errors, gamma * lam)
    return advantages, advantages + estimated


def turn_gae(
    rewards: Sequence[float] | FloatArray,
    values: Sequence[float] | FloatArray,
    turn: IntArray,
    *,
    gamma: float,
    lam: float,
    truncated: bool,
    bootstrap: float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """:func:`gae` with one step a turn: advantages of the tokens, [L], and targets of the values, [K].

    Every sampled token of a turn has the advantage of the turn; the targets stay one a turn, for a value that is broadcast to tokens would
    count long turns more. γ is per turn: how much a player or an environment says does not discount.

    Args:
        rewards: r_k, [K], what each turn earned.
        values: V_k, [K], of the state in which turn k begins.
        turn: turn of each token, [L], 0..K−1, or −1 for a token that was not sampled, whose advantage is 0.
        gamma: γ, in [0, 1].
        lam: λ, in [0, 1].
        truncated: the episode was cut rather than over: turns or tokens ran out, or the clock did.
        bootstrap: V of the state in which a truncated episode was cut. Such an episode must say it: taking 0 would teach that running
            out of turns is worth nothing.

    Raises:
        AlignmentError: lengths that differ, or a token of a turn that is not there.
        UsageError: a truncated episode without ``bootstrap``, one that is over with it, γ or λ outside [0, 1].
    """
    if truncated and bootstrap is None:
        raise UsageError("a truncated episode needs bootstrap, the value of the state in which it was cut; 0 only if that is what it is")
    if not truncated and bootstrap is not None:
        raise UsageError(f"bootstrap={bootstrap:g} for an episode that is over: nothing follows; leave it out, or say truncated=True")
    advantages, targets = gae(rewards, values, gamma=gamma, lam=lam, bootstrap=bootstrap or 0.0)
    place = np.asarray(turn)
    if len(place) and not (int(place.min()) >= NOT_SAMPLED and int(place.max()) < len(advantages)):
        raise AlignmentError(f"turn runs from {place.min()} to {place.max()}, but there are {len(advantages)} turns (and −1: not sampled)")
    return np.append(advantages, 0.0)[place], targets


def _backward(values: FloatArray, factor: float) -> FloatArray:
    """Σ_{s≥t} factor^{s−t} values_s."""
    found, running = np.empty_like(values), 0.0
    for t in range(len(values) - 1, -1, -1):
        running = float(values[t]) + factor * running
        found[t] = running
    return found


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name}={value:g} is not in [0, 1]")
