"""The teacher's score-function signal with its consequences: what a token does at once, and where it leads.

For J = E_{y∼q} Σ_t D_f(p_t‖q_t), the sum of a divergence over the student's own episodes, differentiated through the sampling as well:

    ∇J = −E_q Σ_t S_t ∇ln q(y_t),     S_t = A_f(u_t) − Σ_{s>t} f(u_s)

(the policy gradient theorem for the cost f(u_s), whose mean over y_s is D_f(s), and the identity of A_f for the term in which q stands
inside the divergence). Immediate and future credit are different functions. They coincide, up to a constant, only for reverse KL, where
A_f = ln u − 1 and −f = ln u; that is why the log-ratio may be a reward in "MiniLLM: Knowledge Distillation of Large Language Models",
Gu et al., arXiv 2306.08543, and why the same form with another f has another mean than ∇J.

Discounts trade the future's variance for bias: γ = 0 is the gradient of each D_f(t) with its prefix held fixed, γ = 1 is ∇J. Any
number that does not depend on y_t may be subtracted from S_t; nothing here does so unasked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agentdistill.credit.outcome import batch_advantages
from agentdistill.credit.returns import NOT_SAMPLED, FloatArray, IntArray, discounted
from agentdistill.errors import AlignmentError, UsageError

BoolArray = npt.NDArray[np.bool_]


def temporal_credit(
    immediate: FloatArray,
    cost: FloatArray,
    turn: IntArray,
    *,
    gamma_token: float = 0.0,
    gamma_turn: float = 0.0,
    lam: float = 1.0,
    values: FloatArray | None = None,
) -> FloatArray:
    """S_t = immediate_t − [ Σ_{s>t, same turn} γ_token^{s−t} cost_s + Σ_{s in later turns} γ_turn^{k(s)−k(t)} cost_s ], [L].

    Time is counted in what the student sampled: s − t in sampled tokens of the turn, k(s) − k(t) in turns as they are numbered, so that
    what an environment says never discounts. Within a later turn no token is discounted further.

    With λ < 1 both sums W_t (rest of the turn) and B_k (later turns) become λ-returns over ``values`` v, an estimate of the bracket.
    Their parts of it are B̂_k = v at the last token of turn k, where the rest of the turn is empty (0 in the last turn), and
    Ŵ_t = v_t − B̂_{k(t)} (0 at that last token). With the sampled tokens t+1..t+M that remain in the turn and the turns k_1 < … < k_M that
    remain after k, C_k the summed cost of a turn:

        W_t^(m) = Σ_{i≤m} γ_token^i cost_{t+i} + γ_token^m Ŵ_{t+m}
        B_k^(m) = Σ_{i≤m} γ_turn^{k_i−k} C_{k_i} + γ_turn^{k_m−k} B̂_{k_m}
        each    = (1−λ) Σ_{m<M} λ^{m−1} (·)^(m) + λ^{M−1} (·)^(M)

    λ = 1 uses no value and has no bias; λ = 0 looks one token and one turn ahead. Exact values have the same mean at every λ. The value
    is not subtracted: as a baseline it is the caller's to take.

    Args:
        immediate: A_f(u_t), [L] (``score_advantage``), or any signal of the token alone.
        cost: f(u_s) of the sampled token, [L], or D_f(s) over the whole vocabulary: the same mean, the noise of y_s gone.
        turn: turn of each token, [L], not falling; −1 for tokens that were not sampled: they cost nothing, take no time and get 0,
            whatever their entries are.
        gamma_token: γ_token, in [0, 1].
        gamma_turn: γ_turn, in [0, 1].
        lam: λ, in [0, 1].
        values: v, [L]; needed by λ < 1.

    Raises:
        AlignmentError: lengths that differ.
        UsageError: turns that fall, a share outside [0, 1], or λ < 1 without values.
    """
    streams = {"cost": cost, "turn": turn} | ({} if values is None else {"values": values})
    for name, stream in streams.items():
        if np.shape(stream) != np.shape(immediate):
            raise AlignmentError(f"{name} has shape {np.shape(stream)}, immediate has {np.shape(immediate)}")
    for name, share in (("gamma_token", gamma_token), ("gamma_turn", gamma_turn), ("lam", lam)):
        if not 0 <= share <= 1:
            raise UsageError(f"{name}={share:g} is not in [0, 1]")
    if lam < 1 and values is None:
        raise UsageError(f"lam={lam:g} needs values, an estimate of the future credit at each token; lam=1 needs none")
    sampled = np.asarray(turn) != NOT_SAMPLED
    turns, costs = np.asarray(turn)[sampled], np.asarray(cost, np.float64)[sampled]
    if (np.diff(turns) < 0).any() or (turns < 0).any():
        raise UsageError("turn falls, or is negative, among the sampled tokens; expected turns in the order of play, −1: not sampled")
    guesses = np.zeros_like(costs) if values is None or lam == 1 else np.asarray(values, np.float64)[sampled]
    found = np.zeros(len(sampled), np.float64)
    found[sampled] = np.asarray(immediate, np.float64)[sampled] - _future(costs, turns, guesses, gamma_token, gamma_turn, lam)
    return found


def _future(costs: FloatArray, turns: IntArray, guesses: FloatArray, gamma_token: float, gamma_turn: float, lam: float) -> FloatArray:
    """The bracket at each sampled token: the two recursions, in one walk from the end. What γ = 0 shuts out may be infinite."""
    cost, turn, guess = costs.tolist(), turns.tolist(), guesses.tolist()
    future = np.zeros_like(costs)
    rest = later = guessed_later = total = 0.0  # W_t, B_k, B̂_k, and the cost of turn k from t on
    last = len(cost) - 1
    for t in range(last, -1, -1):
        if t < last and turn[t] == turn[t + 1]:
            guessed_rest = guess[t + 1] - guessed_later if t + 1 < last and turn[t + 1] == turn[t + 2] else 0.0
            rest = gamma_token * (cost[t + 1] + (1 - lam) * guessed_rest + lam * rest) if gamma_token else 0.0
        else:
            if t < last:
                ahead = total + (1 - lam) * guessed_later + lam * later
                later = gamma_turn ** (turn[t + 1] - turn[t]) * ahead if gamma_turn else 0.0
                guessed_later = guess[t]
            rest = total = 0.0
        total += cost[t]
        future[t] = rest + later
    return future


def minillm_returns(log_ratio: FloatArray, *, gamma: float, clip: float | None = 100.0, length_normalise: bool = True) -> FloatArray:
    """Â_t = Σ_{s>t} γ^{s−t} r_s / (T − t) with r = clip(ln p − ln q, ±``clip``), t from 1 to T: [T] -> [T].

    The future part of MiniLLM (Gu et al., arXiv 2306.08543, §2.2), whose immediate part is the divergence over the vocabulary, a
    term of its own. T − t is the number of rewards in the sum; the last token has none and gets 0. The paper whitens what comes out over
    the batch: :func:`whiten`, which makes γ^{s−t} and γ^{s−t−1} the same. With γ = 0 there is no future.

    Args:
        log_ratio: ln p − ln q of the sampled tokens, [T].
        gamma: γ, in [0, 1]; .95 in the paper's code.
        clip: bound of a single reward. ``None``: not clipped.
        length_normalise: divide by T − t, so that early tokens are not louder for being early.

    Raises:
        UsageError: γ outside [0, 1].
    """
    rewards = np.asarray(log_ratio, np.float64)
    if clip is not None:
        rewards = np.clip(rewards, -clip, clip)
    future = gamma * np.append(discounted(rewards, gamma), 0.0)[1:]
    if length_normalise:
        future = future / np.maximum(np.arange(len(rewards) - 1, -1, -1), 1)
    return np.asarray(future, np.float64)


def whiten(values: FloatArray, mask: BoolArray) -> FloatArray:
    """(x − mean) / std over the masked tokens, with the population standard deviation; 0 off the mask. [N] -> [N].

    Meant for all tokens of a batch at once. Values that are equal up to rounding become exactly 0.

    Raises:
        AlignmentError: another length of mask than of values.
    """
    array, on = np.asarray(values, np.float64), np.asarray(mask, np.bool_)
    if array.shape != on.shape:
        raise AlignmentError(f"mask has shape {on.shape}, values has {array.shape}")
    found = np.zeros_like(array)
    if on.any():
        found[on] = batch_advantages(array[on])
    return found


def subtract_group_baseline(signals: Sequence[FloatArray], masks: Sequence[BoolArray]) -> list[FloatArray]:
    """Each episode's signal less the mean of its siblings: G arrays [L_i] -> G arrays, 0 off the masks.

    The baseline of an episode is the mean, over the *other* episodes of its group, of their mean signal a token. It does not depend on what
    the episode itself sampled, so the mean gradient stays; a mean that counted the episode itself would shrink the gradient. A closed-form
    baseline for each token, E_{y∼q} A_f (``expected_advantage`` among the losses), is subtracted by the caller.

    An episode without siblings that have a token on their mask keeps its signal.

    Raises:
        AlignmentError: another number or length of masks than of signals.
    """
    if len(masks) != len(signals):
        raise AlignmentError(f"{len(masks)} masks for {len(signals)} signals")
    arrays, on = [np.asarray(each, np.float64) for each in signals], [np.asarray(each, np.bool_) for each in masks]
    for index, (array, mask) in enumerate(zip(arrays, on, strict=True)):
        if array.shape != mask.shape:
            raise AlignmentError(f"mask {index} has shape {mask.shape}, its signal has {array.shape}")
    means = {index: float(array[mask].mean()) for index, (array, mask) in enumerate(zip(arrays, on, strict=True)) if mask.any()}
    found = []
    for index, (array, mask) in enumerate(zip(arrays, on, strict=True)):
        siblings = [mean for other, mean in means.items() if other != index]
        found.append(np.where(mask, array - (np.mean(siblings) if siblings else 0.0), 0.0))
    return found
