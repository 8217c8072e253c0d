"""Presets that hear the outcome alone a second time: see :mod:`.preset_dense`."""

from __future__ import annotations

import torch
from torch import Tensor

from .preset_batch import AFTER, groups
from .preset_dense import Losses, Reference, over_tokens
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


# --- Methods -----------------------------------------------------------------------------------------------------


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


def ppo(t: Table, step: int) -> Losses:
    """Â_k = Σ_l λ^l δ_{k+l}, δ_k = r_k + V_{k+1} − V_k, λ = .95, a step a turn; an episode that was cut goes on with V: arXiv 1506.02438,
    eq. 16, in the clipped surrogate of arXiv 1707.06347, a mean over tokens. The value learns Â + V where a turn begins, and
    where the one before it ended in the same row; here it still says 0 everywhere."""
    targets = []
    advantage = torch.zeros(len(t.y), dtype=torch.float64)
    for episode in (each for group in groups() for each in group.trainable):
        here = t.of(episode.id).tolist()
        firsts = {t.turn[i]: float(t.value[i]) for i in reversed(here)}
        beyond, running = (AFTER if episode.stop.truncated else 0.0), 0.0
        for turn in sorted(firsts, reverse=True):
            running = episode.turns[turn].reward + beyond - firsts[turn] + 0.95 * running
            beyond = firsts[turn]
            follows = turn > 0 and episode.turns[turn - 1].segment == episode.turns[turn].segment
            targets += [running + beyond] * (2 if follows else 1)
            advantage[[i for i in here if t.turn[i] == turn]] = running
    return {
        "outcome": (1.0, over_tokens(clipped(t.ratio, advantage), t.by_student)),
        "value/outcome": (1.0, torch.tensor(targets, dtype=torch.float64).square().mean() / 2),
    }


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


OUTCOME: dict[str, Reference] = {
    "grpo": grpo,
    "grpo_plain": grpo_plain,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
    "gspo": gspo,
    "cispo": cispo,
    "rloo": rloo,
    "gigpo": gigpo,
    "ppo": ppo,
}
"""Advantages and log-probabilities are float32 in the rows."""
