"""How far each biased choice is from the gradient that it stands for, computed by enumeration: the tables of docs/objective.md.

One position, 64 tokens, a Zipf-like teacher and a student that differs from it by noise; nothing is sampled, every mean is a sum
over the vocabulary (or over all outcomes of a group).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agentdistill.credit.outcome import group_advantages
from agentdistill.losses import divergence, score_advantage
from agentdistill.losses.mismatch import mismatch_weight
from agentdistill.losses.policy_gradient import policy_gradient

VOCAB = 64


def pair(noise: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(teacher, student) log-probabilities, float64 [V]."""
    generator = torch.Generator().manual_seed(seed)
    teacher = -1.3 * torch.arange(1, VOCAB + 1, dtype=torch.float64).log()
    student = teacher + noise * torch.randn(VOCAB, generator=generator, dtype=torch.float64)
    return teacher.log_softmax(-1), student.log_softmax(-1)


def gradient(name: str, teacher: Tensor, student: Tensor, **options: Any) -> tuple[float, Tensor]:
    """Value, and gradient with respect to the student's logits."""
    logits = student.clone().requires_grad_()
    value = divergence(name, teacher, logits, **options)
    (found,) = torch.autograd.grad(value, logits)
    return float(value.detach()), found


def compared(found: Tensor, true: Tensor) -> tuple[float, float]:
    """(relative error, cosine)."""
    return float((found - true).norm() / true.norm()), float(torch.dot(found, true) / (found.norm() * true.norm()))


RESTS: dict[str, dict[str, Any]] = {
    "tail": {"tail": True},
    "renormalise": {"renormalise": True},
    "renormalise: teacher": {"renormalise": "teacher"},
    "tail: false": {"tail": False},
    "form: score": {"tail": False, "form": "score"},
}


def support_table(k: int = 8) -> Iterator[dict[str, str]]:
    """Each way of leaving tokens out, against the sum over the whole vocabulary."""
    teacher, student = pair()
    for name in ("forward_kl", "reverse_kl", "jsd"):
        full, true = gradient(name, teacher, student)
        for support in ("teacher", "student", "union", "intersection"):
            for rest, options in RESTS.items():
                value, found = gradient(name, teacher, student, route="topk", k=k, support=support, **options)
                error, cosine = compared(found, true)
                yield {
                    "divergence": name,
                    "support": support,
                    "rest": rest,
                    "value": f"{value:.4f} of {full:.4f}",
                    "gradient error": f"{error:.3f}",
                    "cosine": f"{cosine:.3f}",
                }


def scores(student: Tensor) -> Tensor:
    """∇ln q(y) with respect to the logits, a row a token: [V, V]."""
    return torch.eye(VOCAB, dtype=torch.float64) - student.exp()


def sampled_gradient(student: Tensor, advantages: Tensor) -> Tensor:
    """The mean of the score-function gradient: −Σ_y q(y) A(y) ∇ln q(y)."""
    return -(student.exp() * advantages) @ scores(student)


def teacher_clip_table() -> Iterator[dict[str, str]]:
    """Bounds of the log-ratio, and bounded advantages in their place, against reverse KL."""
    teacher, student = pair()
    _, true = gradient("reverse_kl", teacher, student)
    ratio = teacher - student
    choices = {f"teacher_clip: {bound:g}": ratio.clamp(-bound, bound) for bound in (0.5, 1.0, 2.0)}
    choices |= {f"signal.floor: {floor:g}": ratio.clamp_min(float(np.log(floor) / (1 - floor))) for floor in (0.1, 0.3, 0.5)}
    choices |= {
        "signal.divergence: tvd": score_advantage("tvd", ratio),
        "signal.divergence: skew_reverse_kl": score_advantage("skew_reverse_kl", ratio),
    }
    for choice, advantages in choices.items():
        error, cosine = compared(sampled_gradient(student, advantages), true)
        yield {"choice": choice, "gradient error": f"{error:.3f}", "cosine": f"{cosine:.3f}"}


def mismatch_table() -> Iterator[dict[str, str]]:
    """Sampling from an engine that is not quite the trainer: what each correction of a token leaves of the true gradient."""
    teacher, student = pair()
    _, rollout = pair(noise=0.0)
    rollout = (student + 0.5 * torch.randn(VOCAB, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).log_softmax(-1)
    _, true = gradient("reverse_kl", teacher, student)
    advantages = teacher - student
    weights: dict[str, Tensor] = {"not corrected": torch.ones(VOCAB, dtype=torch.float64), "exact": (student - rollout).exp()}
    for kind, bound in (("tis", {"cap": 2.0}), ("tis", {"cap": 1.2}), ("icepop", {"band": (0.5, 5.0)}), ("mis", {"band": (0.5, 2.0)})):
        told = ", ".join(f"{key} {value}" for key, value in bound.items())
        weights[f"{kind}, {told}"] = mismatch_weight(student, rollout, kind=kind, **bound).weight
    for choice, weight in weights.items():
        found = -(rollout.exp() * weight * advantages) @ scores(student)
        error, cosine = compared(found, true)
        yield {"correction": choice, "gradient error": f"{error:.3f}", "cosine": f"{cosine:.3f}"}


def ppo_clip_table() -> Iterator[dict[str, str]]:
    """The policy has moved away from the one that sampled: what each surrogate leaves of the exact importance-sampled gradient."""
    teacher, student = pair()
    old = (student + 0.3 * torch.randn(VOCAB, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).log_softmax(-1)
    _, true = gradient("reverse_kl", teacher, student)
    advantages = teacher - student
    for choice, options in (
        ("no clip", {}),
        ("ppo_clip: [0.2, 0.2]", {"ppo_clip": (0.2, 0.2)}),
        ("ppo_clip: [0.2, 0.28]", {"ppo_clip": (0.2, 0.28)}),
        ("cispo, [1, 0.28]", {"surrogate": "cispo", "ppo_clip": (1.0, 0.28)}),
    ):
        logits = student.clone().requires_grad_()
        result = policy_gradient(logits.log_softmax(-1), advantages, old_logprobs=old, **options)  # type: ignore[arg-type]  # options
        (found,) = torch.autograd.grad((old.exp() * result.loss).sum(), logits)
        error, cosine = compared(found, true)
        yield {"surrogate": choice, "gradient error": f"{error:.3f}", "cosine": f"{cosine:.3f}"}


def baseline_table(group: int = 4) -> Iterator[dict[str, str]]:
    """A task with success probability s, plays of 0 or 1, all outcomes of a group enumerated: the mean of the estimate over ds/dθ, and its
    standard deviation. 1 everywhere is no bias; what differs between tasks is which tasks are trained on most."""
    for baseline in ("none", "rloo", "group", "group_std", "maxrl"):
        row = {"baseline": baseline}
        for success in (0.05, 0.5, 0.9):
            mean = square = 0.0
            for plays in product((0, 1), repeat=group):
                chance = float(np.prod([success if play else 1 - success for play in plays]))
                advantages = group_advantages([float(play) for play in plays], baseline)  # type: ignore[arg-type]  # a Baseline
                score = np.array([1 / success if play else -1 / (1 - success) for play in plays])  # d ln P / ds
                estimate = float((advantages * score).mean())
                mean += chance * estimate
                square += chance * estimate**2
            row[f"s = {success:g}"] = f"{mean:.3f} ± {np.sqrt(square - mean**2):.2f}"
        yield row
