"""Every divergence as its paper writes it, in probabilities, for the tests to compare with. Slow, and unstable near limits."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Case = tuple[str, dict[str, float]]

CASES: list[Case] = [
    ("forward_kl", {}),
    ("reverse_kl", {}),
    ("jeffreys", {}),
    ("jsd", {"beta": 0.1}),
    ("jsd", {"beta": 0.5}),
    ("jsd", {"beta": 0.9}),
    ("tvd", {}),
    ("chi2_pearson", {}),
    ("chi2_neyman", {}),
    ("hellinger", {}),
    ("alpha", {"alpha": -1.0}),
    ("alpha", {"alpha": 0.0}),
    ("alpha", {"alpha": 0.5}),
    ("alpha", {"alpha": 1.0}),
    ("alpha", {"alpha": 2.5}),
    ("renyi", {"alpha": 0.3}),
    ("renyi", {"alpha": 1.0}),
    ("renyi", {"alpha": 2.0}),
    ("renyi", {"alpha": math.inf}),
    ("skew_kl", {"alpha": 0.0}),
    ("skew_kl", {"alpha": 0.1}),
    ("skew_reverse_kl", {"alpha": 0.0}),
    ("skew_reverse_kl", {"alpha": 0.1}),
    ("alpha_beta", {"alpha": 0.2, "beta": 0.7}),
    ("alpha_beta", {"alpha": 1.0, "beta": 1.0}),
    ("alpha_beta", {"alpha": 0.5, "beta": -0.5}),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.5}),
    ("alpha_beta", {"alpha": 0.4, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.0}),
    ("alpha_beta", {"alpha": -0.3, "beta": 0.6}),
    ("adaptive_kl", {"mu": 0.5}),
    ("adaptive_kl", {"mu": 1.0}),
    ("todi", {"beta": 1.0}),
    ("todi", {"beta": -0.7}),
]
"""Each divergence with the parameters that matter; infinite or undefined for no pair of full supports."""

IDS = [name + "".join(f"-{value:g}" for value in parameters.values()) for name, parameters in CASES]

GENERATORS: list[tuple[str, dict[str, float], Callable[[Tensor], Tensor]]] = [
    ("forward_kl", {}, lambda u: u * u.log()),
    ("reverse_kl", {}, lambda u: -u.log()),
    ("jeffreys", {}, lambda u: (u - 1) * u.log()),
    ("jsd", {"beta": 0.3}, lambda u: 0.3 * u * (u / (0.3 * u + 0.7)).log() - 0.7 * (0.3 * u + 0.7).log()),
    ("tvd", {}, lambda u: 0.5 * (u - 1).abs()),
    ("chi2_pearson", {}, lambda u: (u - 1) ** 2),
    ("chi2_neyman", {}, lambda u: (u - 1) ** 2 / u),
    ("hellinger", {}, lambda u: 0.5 * (u.sqrt() - 1) ** 2),
    ("alpha", {"alpha": 0.25}, lambda u: (u**0.25 - 1 - 0.25 * (u - 1)) / (0.25 * (0.25 - 1))),
    ("alpha", {"alpha": -1.5}, lambda u: (u**-1.5 - 1 + 1.5 * (u - 1)) / (-1.5 * (-1.5 - 1))),
    ("alpha", {"alpha": 3.0}, lambda u: (u**3 - 1 - 3 * (u - 1)) / 6),
    ("skew_kl", {"alpha": 0.1}, lambda u: u * (u / (0.1 * u + 0.9)).log()),
    ("skew_reverse_kl", {"alpha": 0.1}, lambda u: -(0.9 * u + 0.1).log()),
    ("alpha_beta", {"alpha": 0.25, "beta": 0.75}, lambda u: (u**0.25 - 1 - 0.25 * (u - 1)) / (0.25 * (0.25 - 1))),
]
"""f of each divergence that has one."""


def kl(a: Tensor, b: Tensor) -> Tensor:
    """Σ a ln(a/b), 0 ln 0 = 0."""
    return torch.where(a > 0, a * (torch.where(a > 0, a, 1.0) / b).log(), 0.0).sum(-1)


def power_divergence(p: Tensor, q: Tensor, alpha: float, beta: float) -> Tensor:
    """The α-β divergence with the limits of its paper's supplement, each written out."""
    total = alpha + beta
    if alpha == 0 and beta == 0:
        return 0.5 * ((p.log() - q.log()) ** 2).sum(-1)
    if beta == 0:
        return ((p**alpha * alpha * (p / q).log() - p**alpha + q**alpha) / alpha**2).sum(-1)
    if alpha == 0:
        return ((q**beta * beta * (q / p).log() - q**beta + p**beta) / beta**2).sum(-1)
    if total == 0:
        return ((alpha * (q / p).log() + (p / q) ** alpha - 1) / alpha**2).sum(-1)
    return (-(p**alpha * q**beta - alpha / total * p**total - beta / total * q**total) / (alpha * beta)).sum(-1)


def adaptive(p: Tensor, q: Tensor, mu: float) -> Tensor:
    with torch.no_grad():
        order = p.argsort(dim=-1, descending=True, stable=True)
        within = p.gather(-1, order).cumsum(-1) <= mu + 1e-12
        within[..., 0] = True
        head = torch.zeros_like(within).scatter(-1, order, within)
        gap = (p - q).abs()
        in_head, everything = (gap * head).sum(-1), gap.sum(-1)
        weight = torch.where(everything > 0, in_head / everything, 0.5)
    return weight * kl(p, q) + (1 - weight) * kl(q, p)


def definition(name: str, p: Tensor, q: Tensor, **parameters: float) -> Tensor:
    """D [...] from probabilities [..., V], summed over what is given: a part of a vocabulary gives the bare partial sum."""
    alpha, beta = parameters.get("alpha", 0.5), parameters.get("beta", 0.5)
    if name == "renyi":
        if alpha == 1:
            return kl(p, q)
        return (p / q).amax(-1).log() if math.isinf(alpha) else (p**alpha * q ** (1 - alpha)).sum(-1).log() / (alpha - 1)
    if name == "jsd":
        mixture = beta * p + (1 - beta) * q
        return beta * kl(p, mixture) + (1 - beta) * kl(q, mixture)
    if name == "todi":
        share = torch.sigmoid(parameters.get("beta", 1.0) * (p.detach() / q.detach()).log())
        return (share * p * (p / q).log() + (1 - share) * q * (q / p).log()).sum(-1)
    forms: dict[str, Callable[[], Tensor]] = {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "jeffreys": lambda: kl(p, q) + kl(q, p),
        "tvd": lambda: 0.5 * (p - q).abs().sum(-1),
        "chi2_pearson": lambda: ((p - q) ** 2 / q).sum(-1),
        "chi2_neyman": lambda: ((p - q) ** 2 / p).sum(-1),
        "hellinger": lambda: 0.5 * ((p.sqrt() - q.sqrt()) ** 2).sum(-1),
        "alpha": lambda: power_divergence(p, q, alpha, 1 - alpha),
        "skew_kl": lambda: kl(p, alpha * p + (1 - alpha) * q),
        "skew_reverse_kl": lambda: kl(q, (1 - alpha) * p + alpha * q),
        "alpha_beta": lambda: power_divergence(p, q, alpha, beta),
        "adaptive_kl": lambda: adaptive(p, q, parameters.get("mu", 0.5)),
    }
    return forms[name]()


def score_constant(name: str, p: Tensor, q: Tensor, parameters: dict[str, float]) -> float:
    """What A = −∂D/∂q has as a constant, which the score form leaves out: the −1 of q ln q where it stands alone, weighted."""
    if name in ("reverse_kl", "jeffreys", "skew_reverse_kl"):
        return -1.0
    if name == "adaptive_kl":
        backward = adaptive(p, q, parameters["mu"])
        forward, reverse = kl(p, q), kl(q, p)
        return -float((backward - forward) / (reverse - forward))
    return 0.0
