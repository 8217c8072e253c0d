"""A student, a teacher and a few tokens, small enough that every episode can be enumerated: what a gradient estimate is worth, exactly.

The student is a table of logits, one row a prefix, so that the parameters of one step are those of no other. That lets ∇_t, the influence
of the parameters at step t alone, be a gradient with respect to one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from agentdistill.credit.teacher_credit import temporal_credit

Generator = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
"""f(u) and A_f(u) = u f′(u) − f(u), u = p/q."""


def _jsd(beta: float) -> Generator:
    def mixture(u: Tensor) -> Tensor:
        return beta * u + 1 - beta

    return (
        lambda u: beta * u * (u / mixture(u)).log() - (1 - beta) * mixture(u).log(),
        lambda u: (1 - beta) * mixture(u).log(),
    )


def _alpha(alpha: float) -> Generator:
    return lambda u: (u**alpha - 1 - alpha * (u - 1)) / (alpha * (alpha - 1)), lambda u: (u**alpha - 1) / alpha


def _skew_kl(alpha: float) -> Generator:
    return lambda u: u * (u / (alpha * u + 1 - alpha)).log(), lambda u: (1 - alpha) * u / (alpha * u + 1 - alpha)


def _skew_reverse_kl(alpha: float) -> Generator:
    def mixture(u: Tensor) -> Tensor:
        return (1 - alpha) * u + alpha

    return lambda u: -mixture(u).log(), lambda u: mixture(u).log() - (1 - alpha) * u / mixture(u)


GENERATORS: dict[str, Generator] = {
    "forward_kl": (lambda u: u * u.log(), lambda u: u),
    "reverse_kl": (lambda u: -u.log(), lambda u: u.log() - 1),
    "jeffreys": (lambda u: (u - 1) * u.log(), lambda u: u.log() + u - 1),
    "jsd(.1)": _jsd(0.1),
    "jsd(.5)": _jsd(0.5),
    "jsd(.9)": _jsd(0.9),
    "tvd": (lambda u: (u - 1).abs() / 2, lambda u: (u - 1).sign() / 2),
    "chi2_pearson": (lambda u: (u - 1) ** 2, lambda u: u**2 - 1),
    "chi2_neyman": (lambda u: (u - 1) ** 2 / u, lambda u: 2 - 2 / u),
    "hellinger": (lambda u: (u.sqrt() - 1) ** 2 / 2, lambda u: (u.sqrt() - 1) / 2),
    **{f"alpha({alpha:g})": _alpha(alpha) for alpha in (-1, 0.25, 0.5, 0.75, 2, 3)},
    "skew_kl(.1)": _skew_kl(0.1),
    "skew_reverse_kl(.1)": _skew_reverse_kl(0.1),
}


@dataclass(frozen=True)
class Estimate:
    """Of a gradient, over all episodes."""

    mean: list[np.ndarray]
    """By step, [prefixes, V]: E Σ_t S_t ∇ln q(y_t)."""
    variance: float
    """Trace of its covariance."""

    @property
    def flat(self) -> np.ndarray:
        return np.concatenate([each.ravel() for each in self.mean])


@dataclass(frozen=True)
class Tree:
    """Episodes of ``turn``: the turn of each token, −1 for context between them."""

    turn: tuple[int, ...] = (0, 0, 0)
    vocabulary: int = 3
    seed: int = 0
    spread: float = 0.7
    """Scale of the logits."""

    @cached_property
    def turns(self) -> list[int]:
        """Of the sampled tokens alone."""
        return [k for k in self.turn if k >= 0]

    @cached_property
    def logits(self) -> tuple[list[Tensor], list[Tensor]]:
        """Student's and teacher's by step, [V^t, V]."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw() -> list[Tensor]:
            shapes = [(self.vocabulary**t, self.vocabulary) for t in range(len(self.turns))]
            return [self.spread * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

        return draw(), draw()

    @cached_property
    def episodes(self) -> np.ndarray:
        """All of them, [N, T]."""
        return np.array(list(product(range(self.vocabulary), repeat=len(self.turns))))

    @cached_property
    def prefixes(self) -> np.ndarray:
        """Row of the logits at which each episode takes each step, [N, T]."""
        powers = self.vocabulary ** np.arange(len(self.turns) - 1, -1, -1)
        before = (self.episodes * powers).cumsum(1) - self.episodes * powers
        return before // (powers * self.vocabulary)

    def probabilities(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        student, teacher = self.logits
        return [each.softmax(-1).numpy() for each in student], [each.softmax(-1).numpy() for each in teacher]

    def along(self, by_step: list[np.ndarray]) -> np.ndarray:
        """Values [V^t, V] (of the token) or [V^t] (of the prefix) by step, along each episode: [N, T]."""
        columns = []
        for t, values in enumerate(by_step):
            rows = values[self.prefixes[:, t]]
            columns.append(rows if values.ndim == 1 else rows[np.arange(len(rows)), self.episodes[:, t]])
        return np.stack(columns, 1)

    @cached_property
    def weights(self) -> np.ndarray:
        """q of each episode, [N]."""
        return np.asarray(self.along(self.probabilities()[0]).prod(1))

    def signals(self, name: str, *, full: bool) -> tuple[np.ndarray, np.ndarray]:
        """A_f(u_t) and the cost, f(u_t) or the divergence over the vocabulary, along each episode: [N, T] twice."""
        f, advantage = GENERATORS[name]
        student, teacher = self.probabilities()
        ratios = [torch.from_numpy(p / q) for p, q in zip(teacher, student, strict=True)]
        values = [f(u).numpy() for u in ratios]
        divergences = [(q * value).sum(-1) for q, value in zip(student, values, strict=True)]
        return self.along([advantage(u).numpy() for u in ratios]), self.along(divergences if full else values)

    def credit(self, immediate: np.ndarray, cost: np.ndarray, values: np.ndarray | None = None, **arguments: float) -> np.ndarray:
        """:func:`temporal_credit` of each episode, [N, T], the context tokens put in between and taken out again."""
        turn = np.array(self.turn)

        def spread(stream: np.ndarray) -> np.ndarray:
            found = np.full(len(turn), math.nan)
            found[turn >= 0] = stream
            return found

        rows = []
        for index in range(len(self.episodes)):
            known = None if values is None else spread(values[index])
            rows.append(temporal_credit(spread(immediate[index]), spread(cost[index]), turn, values=known, **arguments)[turn >= 0])
        return np.array(rows)

    def estimate(self, credit: np.ndarray) -> Estimate:
        """Mean and variance of Σ_t S_t ∇ln q(y_t), S [N, T]."""
        mean, square = [], 0.0
        for t, q in enumerate(self.probabilities()[0]):
            at = self.prefixes[:, t]
            score = np.eye(self.vocabulary)[self.episodes[:, t]] - q[at]
            total = np.zeros_like(q)
            np.add.at(total, at, (self.weights * credit[:, t])[:, None] * score)
            mean.append(total)
            square += float((self.weights * credit[:, t] ** 2 * (score**2).sum(1)).sum())
        return Estimate(mean, square - sum(float((each**2).sum()) for each in mean))

    def expected_given_prefix(self, values: np.ndarray, *, including: bool) -> np.ndarray:
        """E[values_t | y_<t], or of y_≤t where ``including``, along each episode: [N, T]."""
        found = np.empty_like(values)
        for t in range(values.shape[1]):
            key = self.prefixes[:, t] * self.vocabulary + self.episodes[:, t] if including else self.prefixes[:, t]
            mass, total = np.bincount(key, self.weights), np.bincount(key, self.weights * values[:, t])
            found[:, t] = (total / mass)[key]
        return found

    def gradient(self, name: str, gamma_token: float, gamma_turn: float) -> np.ndarray:
        """Σ_t ∇_t (D_t + Σ_{s>t} disc(t, s) E[D_s]) by autograd, flat: what the credit claims. With both γ = 1 it is ∇ E Σ_t D_t."""
        f, _ = GENERATORS[name]
        leaves = [each.clone().requires_grad_() for each in self.logits[0]]
        reach, expected = torch.ones(1, dtype=torch.float64), []
        for leaf, teacher in zip(leaves, self.logits[1], strict=True):
            q, p = leaf.softmax(-1), teacher.softmax(-1)
            expected.append((reach * (q * f(p / q)).sum(-1)).sum())
            reach = (reach[:, None] * q).reshape(-1)
        parts = []
        for t, leaf in enumerate(leaves):
            discounts = [self._discount(t, s, gamma_token, gamma_turn) for s in range(t, len(leaves))]
            total = sum(discount * each for discount, each in zip(discounts, expected[t:], strict=True))
            parts.append(torch.autograd.grad(total, leaf, retain_graph=True)[0].numpy().ravel())
        return np.concatenate(parts)

    def _discount(self, t: int, s: int, gamma_token: float, gamma_turn: float) -> float:
        apart = self.turns[s] - self.turns[t]
        return gamma_turn**apart if apart else gamma_token ** (s - t)

    def sequence_gradient(self, name: str) -> np.ndarray:
        """∇ of D_f between the distributions over whole episodes, Σ_y q(y) f(p(y)/q(y)), flat."""
        f, _ = GENERATORS[name]
        leaves = [each.clone().requires_grad_() for each in self.logits[0]]

        def whole(logits: list[Tensor]) -> Tensor:
            reach = torch.ones(1, dtype=torch.float64)
            for each in logits:
                reach = (reach[:, None] * each.softmax(-1)).reshape(-1)
            return reach

        q, p = whole(leaves), whole(self.logits[1])
        return np.concatenate([each.numpy().ravel() for each in torch.autograd.grad((q * f(p / q)).sum(), leaves)])


def bias_table(tree: Tree | None = None, gammas: tuple[float, ...] = (0.0, 0.5, 1.0)) -> list[dict[str, str | float]]:
    """One row a divergence and discount (γ_token = γ_turn = γ), all relative to the norm of the gradient that is meant:

    * ``bias``: of the mean against ∇ E Σ_t D_t; 0 at γ = 1.
    * ``sequence_bias``: of the mean against ∇ D_f of whole episodes; 0 only for reverse KL at γ = 1.
    * ``variance_sampled``, ``variance_full``: trace of the covariance of one episode's estimate, future cost f(u_s) or D_f(s).
    """
    tree = tree or Tree()
    rows: list[dict[str, str | float]] = []
    for name in GENERATORS:
        summed, sequence = tree.gradient(name, 1.0, 1.0), tree.sequence_gradient(name)
        for gamma in gammas:
            sampled, full = (
                tree.estimate(tree.credit(*tree.signals(name, full=form), gamma_token=gamma, gamma_turn=gamma)) for form in (False, True)
            )
            rows.append(
                {
                    "name": name,
                    "gamma": gamma,
                    "bias": float(np.linalg.norm(-sampled.flat - summed) / np.linalg.norm(summed)),
                    "sequence_bias": float(np.linalg.norm(-sampled.flat - sequence) / np.linalg.norm(sequence)),
                    "variance_sampled": sampled.variance,
                    "variance_full": full.variance,
                }
            )
    return rows
