"""Presets of sampled tokens a second time: see :mod:`.preset_dense`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .preset_batch import groups
from .preset_dense import Losses, Reference, kl, most, over_tokens
from .preset_table import Table


def over_sequences(t: Table, loss: Tensor, *, summed: bool = False) -> Tensor:
    """Of the student's episodes, each the mean (or the sum) of its tokens."""
    parts = [loss[t.of(name)] for name in played_by_student(t)]
    return torch.stack([part.sum() if summed else part.mean() for part in parts]).mean()


def played_by_student(t: Table) -> list[str]:
    return [name for name in dict.fromkeys(t.episode) if len(t.of(name))]


# --- Outcomes -----------------------------------------------------------------------------------------------------------


def outcomes() -> list[dict[str, float]]:
    """{episode: return} of each group of the student's; what broke is not among them."""
    plays = [{each.id: each.reward for each in group.episodes if each.status.trainable} for group in groups()]
    return [found for found in plays if "d0" not in found]


def group_std(t: Table) -> Tensor:
    """(R − mean) / (std + ε) of each token's episode, std with G − 1: DeepSeekMath, arXiv 2402.03300, §4.1.2."""
    found = {}
    for returns in outcomes():
        r = torch.tensor(list(returns.values()), dtype=torch.float64)
        found |= dict(zip(returns, ((r - r.mean()) / (r.std() + 1e-6)).tolist(), strict=True))
    return t.per_episode(found)


def group_mean(t: Table) -> Tensor:
    """R − mean: Understanding R1-Zero-Like Training, arXiv 2503.20783, §3.2."""
    return t.per_episode({name: r - sum(returns.values()) / len(returns) for returns in outcomes() for name, r in returns.items()})


def clipped(ratio: Tensor, advantage: Tensor, low: float = 0.2, high: float = 0.2) -> Tensor:
    """−min(ρÂ, clip(ρ, 1−ε, 1+ε)Â): Proximal Policy Optimization, arXiv 1707.06347, eq. 7."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def k3(t: Table, other: Tensor) -> Tensor:
    """u − 1 − ln u with u = other/π_θ: DeepSeekMath, arXiv 2402.03300, eq. 4."""
    u = (other - t.lq).exp()
    return u - 1 - u.log()


# --- Sampled log-ratios -------------------------------------------------------------------------------------------------


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


# --- Outcomes alone -----------------------------------------------------------------------------------------------------


def grpo_plain(t: Table, step: int) -> Losses:
    """Mean over episodes of the mean over tokens of the clipped surrogate: DeepSeekMath, arXiv 2402.03300, eq. 3 without its KL."""
    return {"outcome": (1.0, over_sequences(t, clipped(t.ratio, group_std(t))))}


def grpo(t: Table, step: int) -> Losses:
    """Eq. 3 with .04 D_KL[π_θ‖π_ref], estimated as eq. 4."""
    return {**grpo_plain(t, step), "reference": (0.04, over_sequences(t, k3(t, t.ref)))}


def dr_grpo(t: Table, step: int) -> Losses:
    """R − mean(R), tokens summed, divided by a constant: arXiv 2503.20783, §3.2."""
    return {"outcome": (1.0, over_sequences(t, clipped(t.ratio, group_mean(t)), summed=True) / 1024)}


def dapo(t: Table, step: int) -> Losses:
    """Clip [.8, 1.28], a mean over tokens, groups with one return left out: DAPO, arXiv 2503.14476, eq. 8 and 12. No episode of the
    batch is near the limit of 1024 tokens."""
    told_apart = t.per_episode({name: float(len(set(returns.values())) > 1) for returns in outcomes() for name in returns}) == 1
    return {"outcome": (1.0, over_tokens(clipped(t.ratio, group_std(t), 0.2, 0.28), t.by_student & told_apart))}


def gspo(t: Table, step: int) -> Losses:
    """Mean over episodes of −min(sÂ, clip(s, 1−3e-4, 1+4e-4)Â), s = (Π ρ)^(1/|y|): GSPO, arXiv 2507.18071, eq. 5–7."""
    losses = []
    for name in played_by_student(t):
        here = t.of(name)
        s = (t.lq[here] - t.old[here]).mean().exp()
        losses.append(clipped(s, group_std(t)[here][0], 3e-4, 4e-4))
    return {"outcome": (1.0, torch.stack(losses).mean())}


def cispo(t: Table, step: int) -> Losses:
    """−sg[min(ρ, 1.28)] Â ln π, a mean over tokens: MiniMax-M1, arXiv 2506.13585, eq. 4–5."""
    return {"outcome": (1.0, over_tokens(-t.ratio.detach().clamp(max=1.28) * group_std(t) * t.lq, t.by_student))}


def rloo(t: Table, step: int) -> Losses:
    """R_i less the mean of the others, on the whole episode: Back to Basics, arXiv 2402.14740, §2."""
    found = {n: r - (sum(rs.values()) - r) / (len(rs) - 1) for rs in outcomes() for n, r in rs.items()}
    return {"outcome": (1.0, over_sequences(t, -t.ratio * t.per_episode(found), summed=True))}


def gigpo(t: Table, step: int) -> Losses:
    """A_E + ω A_S, ω = 1; A_S: return from the state on, discounted by .95 a turn, less the mean of the state's visits; .01 KL to the
    reference: GiGPO, arXiv 2505.10978, eq. 3–8 without the division by the deviation."""
    visits: dict[tuple[str, str], list[float]] = {}
    returns: dict[tuple[str, int], tuple[float, str | None]] = {}
    for group in groups():
        for episode in group.trainable:
            for k, turn in enumerate(episode.turns):
                earned = sum(0.95 ** (j - k) * episode.turns[j].reward for j in range(k, len(episode.turns)))
                returns[episode.id, k] = earned, turn.anchor
                if turn.anchor is not None:
                    visits.setdefault((group.id, turn.anchor), []).append(earned)
    step_part = torch.zeros(len(t.y), dtype=torch.float64)
    for i, (name, turn) in enumerate(zip(t.episode, t.turn, strict=True)):
        earned, anchor = returns[name, turn]
        others = [earned] if anchor is None else visits[name[0], anchor]
        step_part[i] = earned - sum(others) / len(others)
    return {
        "outcome": (1.0, over_sequences(t, clipped(t.ratio, group_mean(t) + step_part))),
        "reference": (0.01, over_sequences(t, k3(t, t.ref))),
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
    "grpo": grpo,
    "grpo_plain": grpo_plain,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
    "gspo": gspo,
    "cispo": cispo,
    "rloo": rloo,
    "gigpo": gigpo,
}
"""Log-probabilities, advantages and weights are float32 in the rows."""
