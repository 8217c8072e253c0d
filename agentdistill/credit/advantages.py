"""The advantage of a policy-gradient term: outcome Z, critic C and teacher S, each token's, combined into one number.

The three truncations have three names: ``teacher_clip`` bounds ln p − ln q here, ``mismatch_cap`` (or ``mismatch``) bounds π_old/π_rollout
as κ, ``ppo_clip`` bounds π_θ/π_old in the loss.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from agentdistill.config.combine import Gate, Route, Scale
from agentdistill.config.schedule import at
from agentdistill.config.schema import PolicyGradientTerm
from agentdistill.credit.combine import (
    Part,
    Scaling,
    Weights,
    agreement_gate,
    combine_parts,
    outcome_gate,
    outcome_sigmoid_gate,
    route_by,
    sigmoid_gate,
)
from agentdistill.credit.critic import critic_advantages
from agentdistill.credit.learned import learned_advantages
from agentdistill.credit.outcome import FLAT, Baseline, batch_advantages, group_advantages, overlong_penalty
from agentdistill.credit.signal import heard_log_ratio, student_logprobs, teacher_signal
from agentdistill.credit.tokens import Tokens, Values
from agentdistill.credit.verdict import is_right, is_students
from agentdistill.credit.weighing import weigh
from agentdistill.losses.mismatch import mismatch_weight
from agentdistill.types import Episode, EpisodeGroup


@dataclass(frozen=True, kw_only=True, eq=False)
class Advantages:
    """Of the n tokens of one term."""

    parts: Mapping[Part, Values]
    """What outcome, critic and teacher each contribute: [n] each."""
    counted: Values
    """1, or 0 for tokens that are left out of the term and its count: [n]."""
    kappa: Values | None
    """The weight for the mismatch of trainer and rollout engine: [n]. ``None``: not corrected, or of each token by itself."""
    returns: Mapping[str, Values] = field(default_factory=dict)
    """By learned value: its targets, [n]; NaN where it has none."""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> Values:
        return np.asarray(np.sum(list(self.parts.values()), axis=0), np.float64)


def policy_gradient_credit(
    tokens: Tokens, groups: Sequence[EpisodeGroup], name: str, term: PolicyGradientTerm, step: int, *, special_ids: Collection[int] = ()
) -> Advantages:
    """Advantages of ``tokens`` under ``term``, which is called ``name``.

    Raises:
        AlignmentError: the term needs what nobody measured.
    """
    metrics: dict[str, float] = {}
    returns: dict[str, Values] = {}
    weights = Weights(*(at(coefficient, step) for coefficient in (term.outcome, term.critic, term.teacher)))
    counted, outcome, critic, teacher = np.ones(len(tokens)), np.zeros(len(tokens)), None, None
    asked = bool(weights.outcome) or (isinstance(term.combine, Gate) and term.combine.by in ("agreement", "outcome"))
    if asked and term.baseline == "gae":
        outcome, returns[name] = learned_advantages(tokens, groups, name, term)
    elif asked:
        outcome, counted = _outcome(tokens, groups, term, metrics)
    if weights.critic:
        critic = critic_advantages(tokens, groups, term, metrics)
    if weights.teacher:
        weights_of = partial(weigh, weights=term.signal.weights, step=step, special_ids=special_ids)
        teacher = teacher_signal(tokens, name, term, groups, weights_of, returns)
    parts = _combined(tokens, groups, term, weights, outcome, critic, teacher)
    for part, values in parts.items():
        if getattr(weights, part) and len(values):
            metrics[f"credit/{name}/{part}/mean_abs"] = float(np.abs(values).mean())
    return Advantages(parts=parts, counted=counted, kappa=_kappa(tokens, term, metrics), returns=returns, metrics=metrics)


def _combined(
    tokens: Tokens,
    groups: Sequence[EpisodeGroup],
    term: PolicyGradientTerm,
    weights: Weights,
    outcome: Values,
    critic: Values | None,
    teacher: Values | None,
) -> dict[Part, Values]:
    how = term.combine
    if isinstance(how, Scale):
        scaling = Scaling(how.form, how.clip, how.temperature, how.bound, how.threshold)
        return combine_parts("scale", outcome, critic, teacher, weights=weights, scaling=scaling)
    if isinstance(how, Gate) and teacher is not None:
        gate = _gate(tokens, groups, term, how, outcome, teacher)
        return combine_parts("gate", outcome, critic, teacher, weights=weights, gate=gate)
    if isinstance(how, Route):
        route = route_by(_right(tokens, groups), how.right, how.wrong)
        return combine_parts("route", outcome, critic, teacher, weights=weights, route=route)
    return combine_parts("add", outcome, critic, teacher, weights=weights)


def _gate(tokens: Tokens, groups: Sequence[EpisodeGroup], term: PolicyGradientTerm, gate: Gate, outcome: Values, teacher: Values) -> Values:
    if gate.by == "sigmoid":
        heard = tokens.where([sample.reviewed for sample in tokens.samples])
        gap = np.full(len(tokens), np.nan)  # which closes the gate
        gap[heard] = heard_log_ratio(tokens.take(heard), term)
        return sigmoid_gate(gap, gate.beta)
    if gate.by == "agreement":
        return agreement_gate(outcome, teacher)
    if gate.by == "outcome":
        return outcome_sigmoid_gate(outcome, gate.beta, gate.low, gate.high)
    return outcome_gate(_right(tokens, groups), gate.by)


def _right(tokens: Tokens, groups: Sequence[EpisodeGroup]) -> Values:
    """1 where the token's episode is right."""
    verdicts = {episode.id: is_right(episode) for group in groups for episode in group.trainable}
    return np.array([float(verdicts[name]) for name in tokens.names])[tokens.episode]


def _outcome(tokens: Tokens, groups: Sequence[EpisodeGroup], term: PolicyGradientTerm, metrics: dict[str, float]) -> tuple[Values, Values]:
    """Z of each token's episode, and where it counts."""
    advantages: dict[str, float] = {}
    flat: set[str] = set()
    compared = [[episode for episode in group.trainable if is_students(episode)] for group in groups]
    compared = [siblings for siblings in compared if siblings]
    for siblings in compared:
        returns = [_return(episode, term) for episode in siblings]
        assert term.baseline != "gae", "a learned value compares with no sibling"
        baseline: Baseline = "group" if term.baseline == "batch_std" else term.baseline
        values = group_advantages(returns, baseline)
        if np.ptp([episode.reward for episode in siblings]) < FLAT:  # by what was achieved, not by how many words it took
            flat.update(episode.id for episode in siblings)
        advantages.update(zip((episode.id for episode in siblings), values.tolist(), strict=True))
    flat_groups = sum(siblings[0].id in flat for siblings in compared)
    metrics["credit/groups_without_advantage/share"] = flat_groups / len(compared) if compared else 0.0
    if term.baseline == "batch_std":
        everyone = [episode for siblings in compared for episode in siblings]
        counts = [sum(len(turn.completion.token_ids) for turn in episode.turns if turn.author == "student") for episode in everyone]
        whitened = batch_advantages([_return(episode, term) for episode in everyone], counts)
        advantages = dict(zip((episode.id for episode in everyone), whitened.tolist(), strict=True))
    per_episode = np.array([advantages.get(name, 0.0) for name in tokens.names])
    kept = np.array([float(term.flat_groups == "keep" or name not in flat) for name in tokens.names])
    return per_episode[tokens.episode], kept[tokens.episode]


def _return(episode: Episode, term: PolicyGradientTerm) -> float:
    if term.overlong is None:
        return episode.reward
    return episode.reward + overlong_penalty(episode.completion_tokens, limit=term.overlong.limit, buffer=term.overlong.buffer)


def _kappa(tokens: Tokens, term: PolicyGradientTerm, metrics: dict[str, float]) -> Values | None:
    """The correction that has to be known before the update; a token's own cap is applied in the loss."""
    correction = term.correction
    if correction is None or (correction.kind, correction.level) == ("tis", "token") or not len(tokens):
        return None
    rollout = tokens.gather([sample.rollout_logprobs for sample in tokens.samples], "log-probabilities at sampling")
    found = mismatch_weight(
        torch.from_numpy(student_logprobs(tokens)),
        torch.from_numpy(rollout),
        kind=correction.kind,
        level=correction.level,
        cap=correction.cap,
        band=correction.band,
        sequence=torch.from_numpy(tokens.episode),
    )
    metrics["mismatch/masked/share"] = float((~found.kept).double().mean())
    return found.weight.numpy()
