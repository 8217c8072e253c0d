"""S_t: what the teacher's opinion of a sampled token is worth as an advantage.

    ln u ──clip, floor──> A_f(u) − A_f(1) − Σ_{s>t} discount(t, s) · f(u_s) ──weights──> ──baseline──> S

∇D_f(p‖q) = −E_q[A_f(u) ∇ln q] with A_f(u) = u f′(u) − f(u), to which any constant may be added: its value at u = 1 is taken off, so that a
token on which both agree has none. For reverse KL S is the log-ratio itself. Credit for what comes later is −f, and not A_f; the two are
equal, up to a constant, for reverse KL alone ("A Survey of On-Policy Distillation for Large Language Models", arXiv 2604.00626, and its
second look by temporal credit, arXiv 2606.22793).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from agentdistill.config.schema import PolicyGradientTerm, at
from agentdistill.config.terms import TeacherSignal
from agentdistill.credit.teacher_credit import temporal_credit, whiten
from agentdistill.credit.tokens import Tokens, Values
from agentdistill.losses import sampled_divergence, score_advantage


def log_ratio(tokens: Tokens, *, extrapolation: float | None = None, clip: float | None = None) -> Values:
    """ln u of the sampled tokens, [n]: ln p − ln q, or λ(ln p − ln ref) − (ln q − ln ref), within ±``clip``.

    Raises:
        AlignmentError: the teacher, or the reference, has not scored a token.
    """
    samples = tokens.samples
    teacher = tokens.gather([sample.teacher_logprobs for sample in samples], "log-probabilities that no teacher gave:")
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


def teacher_signal(tokens: Tokens, term: PolicyGradientTerm, weigh: Callable[[Tokens, Values], Values]) -> Values:
    """S of every token, [n], before its coefficient.

    Args:
        weigh: (tokens, ln u) -> the product of ``signal.weights``, [n].
    """
    signal = term.signal
    extrapolation = None if signal.extrapolation is None else at(signal.extrapolation, 0)
    ratio = log_ratio(tokens, extrapolation=extrapolation, clip=term.teacher_clip)
    if signal.floor is not None:
        ratio = np.maximum(ratio, np.log(signal.floor) / (1 - signal.floor))
    found = _credited(tokens, signal, ratio) * weigh(tokens, ratio)
    if signal.baseline == "none" or not len(found):
        return found
    return whiten(found) if signal.baseline == "batch_std" else found - found.mean()


def _credited(tokens: Tokens, signal: TeacherSignal, ratio: Values) -> Values:
    if signal.form == "imitation":
        return np.ones(len(ratio))
    immediate, cost = _parts(tokens, signal, ratio)
    if signal.form == "minillm":
        immediate = np.zeros_like(ratio)
    if signal.gamma_token == 0 and signal.gamma_turn == 0:
        return immediate
    turn, found = tokens.turn, np.empty_like(ratio)
    for _, here in tokens.by_episode():
        found[here] = temporal_credit(
            immediate[here], cost[here], turn[here], gamma_token=signal.gamma_token, gamma_turn=signal.gamma_turn
        )
        if signal.form == "minillm":
            found[here] /= np.arange(here.stop - here.start, 0, -1)
    return found


def _parts(tokens: Tokens, signal: TeacherSignal, ratio: Values) -> tuple[Values, Values]:
    """(A_f(u) − A_f(1), f(u)) of each token."""
    log_u = torch.from_numpy(ratio)
    parameters = {name: at(value, 0) for name, value in signal.parameters().items()}
    student = torch.from_numpy(student_logprobs(tokens))
    both = score_advantage(signal.divergence, torch.stack([log_u, torch.zeros_like(log_u)]), student_logprobs=student, **parameters)
    cost = sampled_divergence(signal.divergence, log_u, student_logprobs=student, **parameters)
    return (both[0] - both[1]).numpy(), cost.numpy()
