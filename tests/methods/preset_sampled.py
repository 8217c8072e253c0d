"""Presets that hear the teacher at sampled tokens a second time: see :mod:`.preset_dense`."""

from __future__ import annotations

import math

import torch

from .preset_dense import Losses, Reference, kl, most, over_tokens
from .preset_outcome import clipped, group_std, outcomes, played_by_student
from .preset_table import Table


def eopd(t: Table, step: int) -> Losses:
    """Clipped reverse-KL policy gradient + 1[H(p) > .8] KL(p̃‖q), p̃ the teacher over its 16 likeliest: arXiv 2603.07079."""
    ids = t.teacher.topk(16, -1).indices
    p, q = t.teacher.gather(-1, ids).softmax(-1), t.student.gather(-1, ids).exp()
    unsure = (-(t.teacher.exp() * t.teacher).sum(-1) > 0.8).double()
    return {
        "reverse": (1.0, over_tokens(clipped(t.ratio, t.gap), t.by_student)),
        "forward": (1.0, over_tokens(unsure * kl(p, q), t.by_student)),
    }


def opd_sampled(t: Table, step: int) -> Losses:
    """−ρ Â, Â = ln p − ln q: On-Policy Distillation, Thinking Machines, 2025."""
    return {"teacher": (1.0, over_tokens(-t.ratio * t.gap, t.by_student))}


def extrapolated(scale: float) -> Reference:
    """Â = λ(ln p − ln ref) − (ln q − ln ref), min(π_old/π_rollout, 5): arXiv 2602.12125."""

    def losses(t: Table, step: int) -> Losses:
        advantage = scale * (t.told - t.ref) - (t.old - t.ref)
        kappa = (t.old - t.rollout).exp().clamp(max=5.0).nan_to_num(1.0)  # an expert has no log-probabilities, and is not heard here
        return {"teacher": (1.0, over_tokens(-kappa * t.ratio * advantage, t.by_student))}

    return losses


def power_opd(t: Table, step: int) -> Losses:
    """r = p^α(y) − q^α(y), α = 5, and not on the token that ends a reply: PowerOPD, arXiv 2606.17199."""
    reward = t.told.exp() ** 5 - t.old.exp() ** 5
    return {"teacher": (1.0, over_tokens(-t.ratio * reward, t.by_student & ~t.ends))}


def reopold(t: Table, step: int) -> Losses:
    """max(ln p − ln q, ln λ/(1−λ)), λ = .3; first tokens above that floor, then the least sure 20 %: REOPOLD, arXiv 2603.11137."""
    floor = math.log(0.3) / 0.7
    counted = t.by_student & (t.gap >= floor)
    if step >= 30:
        counted = t.by_student.clone()
        counted[t.by_student] = most(t.entropy[t.by_student], 0.2)
    return {"teacher": (1.0, over_tokens(-t.ratio * t.gap.clamp(min=floor), counted))}


def minillm(t: Table, step: int) -> Losses:
    """KL(q‖p) now, and later Â_t = whiten(Σ_{s>t} γ^(s−t) r_s / (T − t)), γ = .95, PPO clip .2: MiniLLM, arXiv 2306.08543, §2.2.

    The paper has one turn. With several, γ^(s−t) counts tokens within the turn, and γ once a turn beyond.
    """
    advantage = torch.zeros(len(t.y), dtype=torch.float64)
    for name in played_by_student(t):
        here = t.of(name).tolist()
        for i, now in enumerate(here):
            for j in range(i + 1, len(here)):
                later = here[j]
                turns = t.turn[later] - t.turn[now]
                discount = 0.95 ** (turns or j - i)
                advantage[now] += discount * t.gap[later].clamp(-100, 100) / (len(here) - 1 - i)
    mine = advantage[t.by_student]
    advantage = (advantage - mine.mean()) / mine.std(correction=0)
    return {
        "now": (1.0, over_tokens(kl(t.student.exp(), t.teacher.exp()), t.by_student)),
        "later": (1.0, over_tokens(clipped(t.ratio, advantage), t.by_student)),
    }


def sod(t: Table, step: int) -> Losses:
    """Â = Â_GRPO + w_k g, w_k = min(Π_{u<k} (d_u+ε)/(d_{u+1}+ε), 1+δ), d_k = mean |g| of turn k, δ = .2: SOD, arXiv 2605.07725."""
    weight = torch.zeros(len(t.y), dtype=torch.float64)
    for name in played_by_student(t):
        here = t.of(name)
        turns = sorted({t.turn[i] for i in here.tolist()})
        apart = [t.gap[[i for i in here.tolist() if t.turn[i] == turn]].abs().mean() for turn in turns]
        for k, turn in enumerate(turns):
            product = math.prod(float((apart[u] + 1e-6) / (apart[u + 1] + 1e-6)) for u in range(k))
            weight[[i for i in here.tolist() if t.turn[i] == turn]] = min(product, 1.2) if k else 1.0
    return {"hybrid": (1.0, over_tokens(clipped(t.ratio, group_std(t) + weight * t.gap), t.by_student))}


def kdrl(t: Table, step: int) -> Losses:
    """GRPO's loss + β ½(ln q − ln p)² in wrong episodes, β from 5e-3 to 1e-3: KDRL, arXiv 2506.02208."""
    wrong = t.per_episode({name: float(r < 1) for returns in outcomes() for name, r in returns.items()}) == 1
    return {
        "outcome": (1.0, over_tokens(clipped(t.ratio, group_std(t)), t.by_student)),
        "teacher": (0.005 - 0.004 * min(step / 200, 1), over_tokens((t.lq - t.told) ** 2 / 2, t.by_student & wrong)),
    }


def sdar(t: Table, step: int) -> Losses:
    """GRPO's loss + .1 · sg[σ(5Δ)] (ln p − ln q), Δ = ln p − ln q: SDAR, arXiv 2605.15155. Its gradient is −gate ∇ln q, here with
    the ratio to the policy that sampled: −ρ · gate."""
    gate = torch.sigmoid(5 * t.gap)
    return {
        "outcome": (1.0, over_tokens(clipped(t.ratio, group_std(t)), t.by_student)),
        "imitation": (0.1, over_tokens(-t.ratio * gate, t.by_student)),
    }


SAMPLED: dict[str, Reference] = {
    "eopd": eopd,
    "opd_sampled": opd_sampled,
    "g_opd": extrapolated(1.0),
    "exopd": extrapolated(1.25),
    "power_opd": power_opd,
    "reopold": reopold,
    "minillm": minillm,
    "sod": sod,
    "kdrl": kdrl,
    "sdar": sdar,
}
"""Log-probabilities, advantages and weights are float32 in the rows."""
