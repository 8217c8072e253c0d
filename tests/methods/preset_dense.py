"""Presets over whole distributions a second time: each paper's loss, by autograd, without a line of the library's losses or credit.

A reference maps a :class:`~.preset_table.Table` and a step to {term: (coefficient, loss)}. Numbers that a preset's file holds stand here
again, as they stand in the paper: a default that drifts is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .preset_batch import SPECIAL
from .preset_table import Table

Losses = dict[str, tuple[float, Tensor]]
Reference = Callable[[Table, int], Losses]


def over_tokens(loss: Tensor, counted: Tensor) -> Tensor:
    """Of all tokens that count, alike."""
    return loss[counted].mean()


def kl(a: Tensor, b: Tensor) -> Tensor:
    """KL(a‖b) of rows of probabilities."""
    return (a * (a / b).log()).sum(-1)


def imitation(t: Table, step: int) -> Losses:
    """−E ln q(ŷ): Sequence-Level Knowledge Distillation, arXiv 1606.07947, eq. 7 with samples for the mode; supervised fine-tuning."""
    return {"demonstrations": (1.0, over_tokens(-t.lq, ~t.by_student))}


def seqkd(t: Table, step: int) -> Losses:
    return {"teacher_text": imitation(t, step)["demonstrations"]}


def of_data(divergence: Callable[[Tensor, Tensor], Tensor]) -> Reference:
    return lambda t, step: {"teacher": (1.0, over_tokens(divergence(t.teacher.exp(), t.student.exp()), ~t.by_student))}


def of_everything(divergence: Callable[[Tensor, Tensor], Tensor]) -> Reference:
    return lambda t, step: {"teacher": (1.0, divergence(t.teacher.exp(), t.student.exp()).mean())}


def jsd(p: Tensor, q: Tensor, beta: float = 0.5) -> Tensor:
    """β KL(p‖M) + (1−β) KL(q‖M), M = βp + (1−β)q: On-Policy Distillation of Language Models, arXiv 2306.13649, eq. 1."""
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def tvd(p: Tensor, q: Tensor) -> Tensor:
    """½ Σ |p − q|: f-Divergence Minimization for Sequence-Level Knowledge Distillation, arXiv 2307.15190, §3."""
    return (p - q).abs().sum(-1) / 2


def skew_reverse(p: Tensor, q: Tensor, alpha: float = 0.1) -> Tensor:
    """KL(q‖(1−α)p + αq): DistiLLM, arXiv 2402.03898, §3.1."""
    return kl(q, (1 - alpha) * p + alpha * q)


def alpha_beta(p: Tensor, q: Tensor, a: float = 0.5, b: float = 0.5) -> Tensor:
    """−1/(αβ) Σ (p^α q^β − α/(α+β) p^(α+β) − β/(α+β) q^(α+β)): ABKD, arXiv 2505.04560."""
    s = a + b
    return -(p**a * q**b - a / s * p**s - b / s * q**s).sum(-1) / (a * b)


def adaptive(p: Tensor, q: Tensor, mu: float = 0.5) -> Tensor:
    """g_h/(g_h+g_t) FKL + g_t/(g_h+g_t) RKL, g = Σ |p − q| of head and tail, without gradient: AKL, arXiv 2404.02657."""
    rows = []
    for a, b in zip(p, q, strict=True):
        order = a.argsort(descending=True)
        size = max(1, int((a[order].cumsum(0) <= mu).sum()))
        gaps = (a - b).abs().detach()[order]
        head, tail = gaps[:size].sum(), gaps[size:].sum()
        rows.append((head * kl(a, b) + tail * kl(b, a)) / (head + tail))
    return torch.stack(rows)


def todi(p: Tensor, q: Tensor, beta: float = 1.0) -> Tensor:
    """Σ_v α_v p ln(p/q) + (1−α_v) q ln(q/p), α_v = sg σ(β ln p/q): ToDi, arXiv 2505.16297."""
    weight = torch.sigmoid(beta * (p / q).log()).detach()
    return (weight * p * (p / q).log() + (1 - weight) * q * (q / p).log()).sum(-1)


def taid(t: Table, step: int) -> Losses:
    """KL(p_τ‖q), p_τ = softmax((1−τ) sg z_q + τ z_p), τ = .4 at the start: TAID, arXiv 2501.16937, §3.1. Logits up to a constant."""
    bridge = (0.6 * t.student.detach() + 0.4 * t.teacher).softmax(-1)
    return {"teacher": (1.0, over_tokens(kl(bridge, t.student.exp()), ~t.by_student))}


def opd(t: Table, step: int) -> Losses:
    """KL(q‖p) at each token of the student: arXiv 2306.13649 with λ = 1."""
    return {"teacher": (1.0, over_tokens(kl(t.student.exp(), t.teacher.exp()), t.by_student))}


def most(values: Tensor, share: float) -> Tensor:
    """True for the largest ⌈share · n⌉ of n."""
    found = torch.zeros(len(values), dtype=torch.bool)
    found[values.argsort(descending=True)[: math.ceil(share * len(values))]] = True
    return found


def opd_topk(t: Table, step: int) -> Losses:
    """KL(q̃‖p̃) over the teacher's 32 likeliest, both renormalised; the 20 % least sure tokens, no special ones: arXiv 2603.25562."""
    ids = t.teacher.topk(32, -1).indices
    p, q = (side.gather(-1, ids).softmax(-1) for side in (t.teacher, t.student))
    counted = t.by_student.clone()
    counted[t.by_student] = most(t.entropy[t.by_student], 0.2)
    counted &= torch.tensor([int(y) not in SPECIAL for y in t.y])
    return {"teacher": (1.0, over_tokens(kl(q, p), counted))}


def rethinking(t: Table, step: int) -> Losses:
    """Σ_{v ∈ top-16 of q} sg[q (ln q − ln p)] ∇ ln q: Rethinking On-Policy Distillation, arXiv 2604.13016. Value: Σ q (ln q − ln p)."""
    ids = t.student.topk(16, -1).indices
    lp, lq = t.teacher.gather(-1, ids), t.student.gather(-1, ids)
    price = (lq.exp() * (lq - lp)).detach()
    loss = price + price * (lq - lq.detach())
    return {"teacher": (1.0, over_tokens(loss.sum(-1), t.by_student))}


EXACT: dict[str, Reference] = {
    "sft": imitation,
    "sft_64": imitation,
    "sft_teacher": imitation,
    "seqkd": seqkd,
    "word_kd": of_data(kl),
    "abkd": of_data(alpha_beta),
    "akl": of_data(adaptive),
    "todi": of_data(todi),
    "taid": taid,
    "gkd": of_everything(jsd),
    "f_distill": of_everything(tvd),
    "distillm": of_everything(skew_reverse),
    "opd": opd,
    "opd_topk": opd_topk,
    "rethinking": rethinking,
}
"""Nothing that a record rounds to float32 is in them but choices of tokens."""
