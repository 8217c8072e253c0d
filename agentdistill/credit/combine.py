"""Outcome, critic and teacher become one advantage a token: added, scaled, gated or routed.

    mode    advantage                                                                  for instance
    add     a₁ Z + a₂ C + a₃ S                                                         SOD, OPID, OpenClaw-RL
    scale   B · [(1 − λ) + λ · clip(exp(sign(B) S), 1 − ε, 1 + ε)],  B = a₁ Z + a₂ C   RLSD
            B + clip(λ tanh(S / τ), ± bound), stopped at 0 where its sign would turn   RLCSD
    gate    a₁ Z + a₂ C + a₃ g S, with weights 0 ≤ g ≤ 1                               SDAR, SG-OPD
    route   each token hears one part: a₁ Z, a₂ C or a₃ S                              SRPO

Z is the outcome advantage of the episode, C the critic's of the turn, S the teacher's signal at the token, as a rule the gap ln p − ln q.
In ``scale`` the teacher's coefficient is λ: it says how much, and the outcome keeps saying in which direction. See "Self-Distilled RLVR",
Yang et al., arXiv 2604.03128 (λ .5, ε .2), and "RLCSD: Reinforcement Learning with Contrastive On-Policy Self-Distillation",
arXiv 2606.11709, where S is the gap under a right hint less that under wrong ones.

add, gate and route are one code path: parts with weights a token. Gating a distillation loss is shaping the advantage by λ g S ("Agentic
Reinforcement Learning with Self-Distilled Reward Shaping", Zhang et al., arXiv 2608.03223), so a gate needs no loss of its own.

NaN in C or S says that nobody reviewed the token, and adds nothing; so does a part whose coefficient or weight there is 0, whatever it
holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from agentdistill.errors import AlignmentError, ConfigError, UsageError, unknown

Values = npt.NDArray[np.float64]
Part = Literal["outcome", "critic", "teacher"]
PARTS: tuple[Part, ...] = get_args(Part)
MODES = ("add", "scale", "gate", "route")
FORMS = ("ratio", "residual")
NOBODY = -1
"""Route of a token that hears no part."""


class Weights(NamedTuple):
    """Coefficients a₁, a₂, a₃ at this step."""

    outcome: float = 0.0
    critic: float = 0.0
    teacher: float = 0.0


class Scaling(NamedTuple):
    """How ``scale`` lets the teacher stretch the outcome."""

    form: str = "ratio"
    """``ratio``: by a factor; ``residual``: by a summand."""
    clip: float = 0.2
    """ε of the ratio: the factor stays within 1 ± ε."""
    temperature: float = 1.0
    """τ of the residual."""
    bound: float = 0.5
    """Of the residual, either way."""
    threshold: float = 0.0
    """Residuals of at most this size are left out."""


def combine(
    mode: str,
    outcome: npt.ArrayLike,
    critic: npt.ArrayLike | None,
    teacher: npt.ArrayLike | None,
    *,
    weights: Weights,
    gate: npt.ArrayLike | Mapping[Part, npt.ArrayLike] | None = None,
    route: npt.ArrayLike | None = None,
    scaling: Scaling | None = None,
) -> Values:
    """The advantage of each token: [T], the sum of :func:`combine_parts`, which see for arguments and errors."""
    parts = combine_parts(mode, outcome, critic, teacher, weights=weights, gate=gate, route=route, scaling=scaling)
    return np.asarray(sum(parts.values()), np.float64)


def combine_parts(
    mode: str,
    outcome: npt.ArrayLike,
    critic: npt.ArrayLike | None,
    teacher: npt.ArrayLike | None,
    *,
    weights: Weights,
    gate: npt.ArrayLike | Mapping[Part, npt.ArrayLike] | None = None,
    route: npt.ArrayLike | None = None,
    scaling: Scaling | None = None,
) -> dict[Part, Values]:
    """What each part adds to the advantage of each token: [T] each. In ``scale``, the teacher's is what it changed.

    Args:
        mode: one of :data:`MODES`; the table above says which formula each is.
        outcome: Z, [T] or one number for all tokens.
        critic: C, [T] or one number. NaN: not reviewed. ``None``: there is no critic.
        teacher: S, [T] or one number. NaN: not reviewed. ``None``: there is no teacher.
        weights: a₁, a₂ and a₃; in ``scale`` the last is λ.
        gate: for ``gate``: weights of the teacher's part, within [0, 1], [T] or one number; or of several parts, by name.
        route: for ``route``: at each token the index in :data:`PARTS` of what it hears, or :data:`NOBODY`, [T].
        scaling: for ``scale``. ``None``: its defaults.

    Raises:
        ConfigError: unknown mode or form, or a coefficient out of range.
        UsageError: gate, route or scaling without the mode that needs it, or the other way round; a weight outside [0, 1]; a route that
            names no part; an outcome that is not finite.
        AlignmentError: arrays of different lengths.
    """
    _check_mode(mode, gate=gate, route=route, scaling=scaling)
    values = _aligned(outcome, critic, teacher)
    if mode == "scale":
        return _scaled(values, weights, scaling or Scaling())
    shares: dict[Part, Values] = {}
    if mode == "gate" and gate is not None:
        gates: Mapping[Part, npt.ArrayLike] = gate if isinstance(gate, Mapping) else {"teacher": gate}
        shares = {part: _share(part, weight, len(values["outcome"])) for part, weight in gates.items()}
    elif mode == "route" and route is not None:
        shares = _shares_of_route(route, len(values["outcome"]))
    return {part: _times(getattr(weights, part) * shares.get(part, np.ones(())), values[part]) for part in PARTS}


def sign_kept(before: Values, after: Values) -> Values:
    """``after``, but 0 where it would have the other sign than ``before``, or where ``before`` is 0."""
    return np.where(np.sign(before) * after > 0, after, 0.0)


def _scaled(values: Mapping[Part, Values], weights: Weights, scaling: Scaling) -> dict[Part, Values]:
    parts: dict[Part, Values] = {part: _times(np.asarray(getattr(weights, part)), values[part]) for part in ("outcome", "critic")}
    base = parts["outcome"] + parts["critic"]
    gap = np.where(np.isnan(values["teacher"]), 0.0, values["teacher"])
    if scaling.form == "ratio":
        if not 0 <= weights.teacher <= 1 or not 0 <= scaling.clip < 1:
            raise ConfigError(
                f"combine=scale mixes with a share and a clip, so the teacher's coefficient ({weights.teacher:g}) must be within [0, 1] "
                f"and clip ({scaling.clip:g}) within [0, 1); outside, the sign of the outcome could turn"
            )
        factor = np.exp(np.clip(np.sign(base) * gap, np.log1p(-scaling.clip), np.log1p(scaling.clip)))
        return {**parts, "teacher": base * weights.teacher * (factor - 1)}
    if scaling.temperature <= 0 or scaling.bound < 0:
        raise ConfigError(f"temperature={scaling.temperature:g} must be above 0, and bound={scaling.bound:g} at least 0")
    residual = np.clip(weights.teacher * np.tanh(gap / scaling.temperature), -scaling.bound, scaling.bound)
    residual = np.where(np.abs(residual) > scaling.threshold, residual, 0.0)
    return {**parts, "teacher": sign_kept(base, base + residual) - base}


def _times(weight: Values, values: Values) -> Values:
    """weight · values, and 0 where the weight is 0 or nobody said anything: 0 · ∞ is not asked."""
    heard = np.broadcast_to(weight != 0, values.shape) & ~np.isnan(values)
    return np.multiply(weight, values, out=np.zeros_like(values), where=heard)


def _aligned(outcome: npt.ArrayLike, critic: npt.ArrayLike | None, teacher: npt.ArrayLike | None) -> dict[Part, Values]:
    given = {"outcome": outcome, "critic": critic, "teacher": teacher}
    arrays = {name: np.asarray(np.nan if value is None else value, np.float64) for name, value in given.items()}
    lengths = {name: len(array) for name, array in arrays.items() if array.ndim == 1}
    if any(array.ndim > 1 for array in arrays.values()) or len(set(lengths.values())) > 1:
        raise AlignmentError(f"outcome, critic and teacher run along the tokens of one sample, but have {_shapes(arrays)}")
    if not np.isfinite(arrays["outcome"]).all():
        raise UsageError("the outcome advantage is not finite; leave out the episodes that have none")
    length = next(iter(lengths.values()), 1)
    return {part: np.broadcast_to(arrays[part], (length,)) for part in PARTS}


def _share(name: str, weight: npt.ArrayLike, length: int) -> Values:
    if name not in PARTS:
        raise UsageError(unknown("part of an advantage", name, PARTS))
    array = np.asarray(weight, np.float64)
    if array.ndim > 1 or (array.ndim == 1 and len(array) != length):
        raise AlignmentError(f"the gate of {name!r} has {_shapes({'gate': array})}, but the sample has {length} tokens")
    if not ((array >= 0) & (array <= 1)).all():
        raise UsageError(f"the gate of {name!r} has weights outside [0, 1]; a gate lets through, and a coefficient makes larger")
    return array


def _shares_of_route(route: npt.ArrayLike, length: int) -> dict[Part, Values]:
    codes = np.asarray(route)
    if codes.shape != (length,):
        raise AlignmentError(f"the route has {_shapes({'route': codes})}, but the sample has {length} tokens")
    if not np.isin(codes, [NOBODY, *range(len(PARTS))]).all():
        raise UsageError(f"a route names parts by their index, 0 to {len(PARTS) - 1} for {', '.join(PARTS)}, or {NOBODY} for none")
    return {part: (codes == index).astype(np.float64) for index, part in enumerate(PARTS)}


def _check_mode(mode: str, **given: object) -> None:
    if mode not in MODES:
        raise ConfigError(unknown("mode of combining", mode, MODES))
    for name, value in given.items():
        owner = {"scaling": "scale"}.get(name, name)
        if value is not None and owner != mode:
            raise UsageError(f"{name} is for mode={owner}, but mode is {mode}; leave it out or change the mode")
        if value is None and owner == mode and mode != "scale":
            raise UsageError(f"mode={mode} needs {name}")
    form = given["scaling"].form if isinstance(given["scaling"], Scaling) else "ratio"
    if form not in FORMS:
        raise ConfigError(unknown("form of scaling", form, FORMS))


def _shapes(arrays: Mapping[str, npt.NDArray[np.float64]]) -> str:
    return ", ".join(f"shape {tuple(array.shape)} ({name})" for name, array in arrays.items())


# --------------------------------------------------------------------------------------------------------------------
# Gates: weights within [0, 1]
# --------------------------------------------------------------------------------------------------------------------


def sigmoid_gate(gap: npt.ArrayLike, beta: float = 5.0) -> Values:
    """σ(β Δ), [T]: opens where the teacher likes the token better than the student does. NaN, not reviewed: closed.

    The signal that it gates decides what this means. On S = ln p − ln q it is a soft filter. On a constant 1 it is SDAR's gated
    self-imitation, which never pushes a token down: the teacher enters through the gate alone. See "Self-Distilled Agentic Reinforcement
    Learning", Lu et al., arXiv 2605.15155.
    """
    values = np.asarray(gap, np.float64)
    return _closed_where_nan(values, _sigmoid(beta * np.where(np.isnan(values), 0.0, values)))


def outcome_sigmoid_gate(outcome: npt.ArrayLike, gamma: float = 1.0, low: float = 0.0, high: float = 1.0) -> Values:
    """low + (high − low) σ(−γ Z), [T]: the worse the outcome, the more the teacher is heard.

    See "SOD: Step-wise On-policy Distillation for Small Language Model Agents", Zhong et al., arXiv 2605.07725.
    """
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"low={low:g} and high={high:g} must be in order and within [0, 1]")
    return low + (high - low) * _sigmoid(-gamma * np.asarray(outcome, np.float64))


def agreement_gate(outcome: npt.ArrayLike, teacher: npt.ArrayLike) -> Values:
    """1[sign(Z) = sign(S)], [T]: the teacher is heard where it agrees with the outcome. 0 agrees only with 0.

    See "SG-OPD: Sign-Gated On-Policy Distillation via Sign-Consistency Gating and Phased Teacher Sampling", Xu et al., arXiv 2606.09304,
    in its hard form.
    """
    agree = np.sign(np.asarray(outcome, np.float64)) == np.sign(np.asarray(teacher, np.float64))
    return np.asarray(agree, np.float64)


def outcome_gate(right: npt.ArrayLike, episodes: str = "wrong") -> Values:
    """1 on tokens of ``wrong``, or of ``right``, episodes: [T] or a number, as ``right`` is.

    See "KDRL: Post-Training Reasoning LLMs via Unified Knowledge Distillation and Reinforcement Learning", Xu et al., arXiv 2506.02208.
    """
    if episodes not in ("wrong", "right"):
        raise ConfigError(unknown("kind of episodes", episodes, ("wrong", "right")))
    return np.asarray(np.asarray(right, np.bool_) == (episodes == "right"), np.float64)


def threshold_gate(stream: npt.ArrayLike, threshold: float, keep: str = "above") -> Values:
    """1 where the stream is ``above`` the threshold, or ``at_least`` or ``below`` it, [T]. NaN, not reviewed: closed.

    ``above`` on the teacher's entropy is "Entropy-Aware On-Policy Distillation of Language Models", Jin et al., arXiv 2603.07079
    (threshold .8); ``at_least`` on the gap is the floor of "Scaling Reasoning Efficiently via Relaxed On-Policy Distillation" (REOPOLD),
    Ko et al., arXiv 2603.11137.
    """
    values = np.asarray(stream, np.float64)
    kept = {"above": np.greater, "at_least": np.greater_equal, "below": np.less}
    if keep not in kept:
        raise ConfigError(unknown("side of a threshold", keep, kept))
    return _closed_where_nan(values, kept[keep](values, threshold).astype(np.float64))


def route_by(right: npt.ArrayLike, when_right: Part = "outcome", when_wrong: Part = "teacher") -> npt.NDArray[np.int64]:
    """Routes for :func:`combine`, [T]: one part where ``right``, another elsewhere. ``right`` may differ by token, turn or episode.

    Correct → outcome, wrong → teacher is "Unifying Group-Relative and Self-Distillation Policy Optimization via Sample Routing" (SRPO),
    Li et al., arXiv 2604.02288.
    """
    return np.where(np.asarray(right, np.bool_), PARTS.index(when_right), PARTS.index(when_wrong))


def _closed_where_nan(stream: npt.ArrayLike, weights: Values) -> Values:
    return np.where(np.isnan(np.asarray(stream, np.float64)), 0.0, weights)


def _sigmoid(x: Values) -> Values:
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)), np.float64)
