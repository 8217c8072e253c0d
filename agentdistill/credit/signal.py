"""S_t: what the teacher's opinion of a sampled token is worth as an advantage.

    ln u ──clip, floor──> A_f(u) − A_f(1) − Σ_{s>t} discount(t, s) · f(u_s) ──baseline, weights──> S

∇D_f(p‖q) = −E_q[A_f(u) ∇ln q] with A_f(u) = u f′(u) − f(u), to which any constant may be added: its value at u = 1 is taken off, so that a
token on which both agree has none. For reverse KL S is the log-ratio itself. Credit for what comes later is −f, and not A_f; the two are
equal, up to a constant, for reverse KL alone ("A Survey of On-Policy Distillation for Large Language Models", arXiv 2604.00626, and its
second look by temporal credit, arXiv 2606.22793).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from agentdistill.config.schema import PolicyGradientTerm, at
from agentdistill.config.terms import TeacherSignal
from agentdistill.credit.learned import learned_values_of
from agentdistill.credit.teacher_credit import subtract_group_baseline, temporal_credit, whiten
from agentdistill.credit.tokens import Tokens, Values
from agentdistill.losses import sampled_divergence, score_advantage
from agentdistill.types import EpisodeGroup


def log_ratio(tokens: Tokens, *, extrapolation: float | None = None, clip: float | None = None) -> Values:
    """ln u of the sampled tokens, [n]: ln p − ln q, or λ(ln p − ln ref) − (ln q − ln ref), within ±``clip``.

    Raises:
        AlignmentError: the teacher, or the reference, has not scored a token.
    """
    samples = tokens.samples
    teacher = tokens.gather([sample.teacher_logprobs for sample in samples], "the teacher's log-probabilities")
    student = student_logprobs(tokens)
    if extrapolation is None:
        found = teacher - student
    else:
        reference = tokens.gather([sample.ref_logprobs for sample in samples], "the reference's log-probabilities")
        found = extrapolation * (teacher - reference) - (student - reference)
    return found if clip is None else np.clip(found, -clip, clip)


def student_logprobs(tokens: Tokens) -> Values:
    """ln q of the sampled tokens, [n]: the trainer's own where it scored them, else the rollout engine's."""
    streams = [sample.rollout_logprobs if sample.old_logprobs is None else sample.old_logprobs for sample in tokens.samples]
    return tokens.gather(streams, "log-probabilities at sampling")


def heard_log_ratio(tokens: Tokens, term: PolicyGradientTerm) -> Values:
    """ln u as ``term`` hears it, [n]: extrapolated and clipped as it says, without its floor."""
    extrapolation = None if term.signal.extrapolation is None else at(term.signal.extrapolation, 0)
    return log_ratio(tokens, extrapolation=extrapolation, clip=term.teacher_clip)


def teacher_signal(
    tokens: Tokens,
    name: str,
    term: PolicyGradientTerm,
    groups: Sequence[EpisodeGroup],
    weigh: Callable[[Tokens], Values],
    returns: dict[str, Values] | None = None,
) -> Values:
    """S of every token, [n], before its coefficient; 0 where the teacher has no opinion.

    Args:
        weigh: the product of ``signal.weights``, [n].
        returns: is given S without its baseline, the targets of the value ``<name>/teacher`` where that is the baseline: [n].
    """
    found, targets = np.zeros(len(tokens)), np.full(len(tokens), np.nan)
    heard = tokens.where([sample.reviewed for sample in tokens.samples])
    some = tokens.take(heard)
    if len(some):
        targets[heard] = values = _credited(some, name, term.signal, heard_log_ratio(some, term))
        found[heard] = weigh(some) * _less_baseline(some, name, term.signal, values, groups)
    if returns is not None and term.signal.baseline == "value":
        returns[f"{name}/teacher"] = targets
    return found


def _credited(tokens: Tokens, name: str, signal: TeacherSignal, ratio: Values) -> Values:
    if signal.form == "imitation":
        return np.ones(len(ratio))
    if signal.floor is not None:
        ratio = np.maximum(ratio, np.log(signal.floor) / (1 - signal.floor))
    immediate, cost = _parts(tokens, signal, ratio)
    if signal.future == "full":
        cost = tokens.gather([sample.divergences.get(name) for sample in tokens.samples], "the divergence over the whole vocabulary")
    if signal.form == "minillm":
        immediate = np.zeros_like(ratio)
    if signal.gamma_token == 0 and signal.gamma_turn == 0:
        return immediate
    turn, found = tokens.turn, np.empty_like(ratio)
    for _, here in tokens.by_episode():
        found[here] = temporal_credit(immediate[here], cost[here], turn[here], gamma_token=signal.gamma_token, gamma_turn=signal.gamma_turn)
        if signal.form == "minillm":
            found[here] /= np.maximum(np.arange(here.stop - here.start - 1, -1, -1), 1)
    return found


def _parts(tokens: Tokens, signal: TeacherSignal, ratio: Values) -> tuple[Values, Values]:
    """(A_f(u) − A_f(1), f(u)) of each token."""
    log_u = torch.from_numpy(ratio)
    parameters = signal.numbers()
    student = torch.from_numpy(student_logprobs(tokens))
    immediate = score_advantage(signal.divergence, log_u, student_logprobs=student, **parameters)
    level = score_advantage(signal.divergence, torch.zeros_like(log_u), student_logprobs=student, **parameters)
    cost = sampled_divergence(signal.divergence, log_u, student_logprobs=student, **parameters)
    return (immediate - level).numpy(), cost.numpy()


def _less_baseline(tokens: Tokens, name: str, signal: TeacherSignal, values: Values, groups: Sequence[EpisodeGroup]) -> Values:
    if signal.baseline == "batch":
        return np.asarray(values - values.mean())
    if signal.baseline == "batch_std":
        return whiten(values, np.ones(len(values), np.bool_))
    if signal.baseline == "closed_form":
        means = [sample.expected_advantages.get(name) for sample in tokens.samples]
        return np.asarray(values - tokens.gather(means, "the mean of the teacher's signal over the vocabulary"))
    if signal.baseline == "value":
        return np.asarray(values - learned_values_of(tokens, f"{name}/teacher"))
    return _less_siblings(tokens, values, groups) if signal.baseline == "group" else values


def _less_siblings(tokens: Tokens, values: Values, groups: Sequence[EpisodeGroup]) -> Values:
    """Minus the mean of the other episodes of the group."""
    where = dict(tokens.by_episode())
    found = np.zeros_like(values)
    for group in groups:
        mine = [where[episode.id] for episode in group.trainable if episode.id in where]
        signals = [values[here] for here in mine]
        for here, less in zip(mine, subtract_group_baseline(signals, [np.ones(len(each), np.bool_) for each in signals]), strict=True):
            found[here] = less
    return found
