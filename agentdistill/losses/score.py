"""The score-function form of a divergence: what a sampled token is worth.

For any differentiable f and a fixed prefix, ∇D_f(p‖q) = −E_{y∼q}[A_f(u(y)) ∇ln q(y)] with A_f(u) = u f′(u) − f(u) and u = p/q, so
A_f is the advantage with which a policy gradient descends D_f ("A Survey of On-Policy Distillation for Large Language Models",
arXiv 2604.00626; "On-Policy Distillation", Thinking Machines Lab, for reverse KL). Any constant may be added as a baseline.

    score_advantage      A_f(u)      the credit of a token for the divergence at its own position
    sampled_divergence   f(u)        its mean is the divergence; −f(u) is the credit of a token for the divergence at later positions
    expected_advantage   E_q A       the closed-form baseline of A

The two credits are the same up to a constant for reverse KL alone, where A = ln u − 1 and −f = ln u. For every other f, a log-ratio
or −f(u) in the place of A_f descends something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError
from agentdistill.losses.catalogue import lookup
from agentdistill.losses.families import Sides
from agentdistill.losses.powers import alpha_beta_pull, alpha_beta_terms, box_cox

Form = Callable[..., Tensor]
"""(ln u, **parameters) -> A or f, of the same shape."""


def _mixture(log_ratio: Tensor, weight: float) -> Tensor:
    """ln(weight · u + 1 − weight)."""
    if weight in (0, 1):
        return log_ratio * weight if weight else torch.zeros_like(log_ratio)
    return torch.logaddexp(log_ratio + math.log(weight), torch.full_like(log_ratio, math.log1p(-weight)))


def _share(log_ratio: Tensor, weight: float) -> Tensor:
    """ln(u / (weight · u + 1 − weight)), which keeps its digits where u is large."""
    return -_mixture(-log_ratio, 1 - weight)


def _ratio_times(log_ratio: Tensor, factor: Tensor) -> Tensor:
    """u · factor, 0 where u is."""
    return (log_ratio.exp() * factor).masked_fill(log_ratio.exp() == 0, 0.0)


def _skew_reverse_advantage(log_ratio: Tensor, *, alpha: float) -> Tensor:
    return _mixture(log_ratio, 1 - alpha) - _share(log_ratio, 1 - alpha).exp() * (1 - alpha) if alpha else log_ratio - 1


def _skew_value(log_ratio: Tensor, *, alpha: float) -> Tensor:
    return _ratio_times(log_ratio, _share(log_ratio, alpha))


def _jsd_value(log_ratio: Tensor, *, beta: float) -> Tensor:
    return beta * _ratio_times(log_ratio, _share(log_ratio, beta)) - (1 - beta) * _mixture(log_ratio, beta)


def _todi(log_ratio: Tensor, forward: Tensor, backward: Tensor, beta: float) -> Tensor:
    """σ(βr) u · forward + (1 − σ(βr)) · backward; σ^… may vanish faster than what it multiplies grows."""
    sharp = log_ratio * beta if beta else torch.zeros_like(log_ratio)
    raised = (log_ratio + torch.nn.functional.logsigmoid(sharp)).exp()
    weight = torch.sigmoid(-sharp)
    return (raised * forward).masked_fill(raised == 0, 0.0) + (weight * backward).masked_fill(weight == 0, 0.0)


def _todi_advantage(log_ratio: Tensor, *, beta: float) -> Tensor:
    return _todi(log_ratio, torch.ones_like(log_ratio), log_ratio - 1, beta)


def _todi_value(log_ratio: Tensor, *, beta: float) -> Tensor:
    return _todi(log_ratio, log_ratio, -log_ratio, beta)


def _alpha_value(log_ratio: Tensor, *, alpha: float) -> Tensor:
    return alpha_beta_terms(log_ratio, torch.zeros_like(log_ratio), alpha, 1 - alpha, 1.0)


_ADVANTAGES: Mapping[str, Form] = {
    "forward_kl": lambda r: r.exp(),
    "reverse_kl": lambda r: r - 1,
    "jeffreys": lambda r: r + torch.expm1(r),
    "jsd": lambda r, *, beta: (1 - beta) * _mixture(r, beta),
    "tvd": lambda r: 0.5 * r.sign(),
    "chi2_pearson": lambda r: torch.expm1(2 * r),
    "chi2_neyman": lambda r: -2 * torch.expm1(-r),
    "hellinger": lambda r: 0.5 * torch.expm1(0.5 * r),
    "alpha": lambda r, *, alpha: box_cox(r, alpha),
    "skew_kl": lambda r, *, alpha: (1 - alpha) * _share(r, alpha).exp(),
    "skew_reverse_kl": _skew_reverse_advantage,
    "todi": _todi_advantage,
}

_VALUES: Mapping[str, Form] = {
    "forward_kl": lambda r: _ratio_times(r, r),
    "reverse_kl": lambda r: -r,
    "jeffreys": lambda r: r * torch.expm1(r),
    "jsd": _jsd_value,
    "tvd": lambda r: 0.5 * torch.expm1(r).abs(),
    "chi2_pearson": lambda r: torch.expm1(r).square(),
    "chi2_neyman": lambda r: 4 * torch.sinh(0.5 * r).square(),
    "hellinger": lambda r: 0.5 * torch.expm1(0.5 * r).square(),
    "alpha": _alpha_value,
    "skew_kl": _skew_value,
    "skew_reverse_kl": lambda r, *, alpha: -_mixture(r, 1 - alpha),
    "todi": _todi_value,
}


def score_advantage(name: str, log_ratio: Tensor, *, student_logprobs: Tensor | None = None, **parameters: float) -> Tensor:
    """A_f(u) of a sampled token, from ln u = ln p − ln q. Detached: an advantage is a number, not a path for gradients.

    ========================  ==============================  =========================================
    name                      f(u)                            A_f(u)
    ========================  ==============================  =========================================
    ``forward_kl``            u ln u                          u
    ``reverse_kl``            −ln u                           ln u − 1
    ``jeffreys``              (u−1) ln u                      ln u + u − 1
    ``jsd`` (β)               βu ln(u/M) − (1−β) ln M         (1−β) ln M,  M = βu + 1 − β
    ``tvd``                   ½ |u−1|                         ½ sign(u−1)
    ``chi2_pearson``          (u−1)²                          u² − 1
    ``chi2_neyman``           (u−1)²/u                        2 − 2/u
    ``hellinger``             ½ (√u−1)²                       ½ (√u−1)
    ``alpha`` (α)             (u^α−1−α(u−1)) / (α(α−1))       (u^α−1)/α
    ``skew_kl`` (α)           u ln(u/M)                       (1−α) u/M,  M = αu + 1 − α
    ``skew_reverse_kl`` (α)   −ln M                           ln M − (1−α) u/M,  M = (1−α)u + α
    ``alpha_beta`` (α, β)     its term / q                    q^{α+β−1} (u^α−1)/α
    ``todi`` (β)              a u ln u − (1−a) ln u           a u + (1−a)(ln u − 1),  a = σ(β ln u)
    ========================  ==============================  =========================================

    The mean over y ∼ q of A_f(u) ∇ln q(y) is −∇D_f; ``reverse_kl`` without its constant −1 is the teacher's log-ratio.
    ``forward_kl`` grows as u and is heavy-tailed where the teacher likes a token far more than the student does; ``DIVERGENCES``
    says the range of each.

    Args:
        name: a key of ``DIVERGENCES``, but for ``renyi`` and ``adaptive_kl``, which no single token determines.
        log_ratio: ln p(y) − ln q(y), any shape.
        student_logprobs: ln q(y), of the same shape. Needed by ``alpha_beta`` unless α + β = 1; ``None``: not given.
        **parameters: as for :func:`~agentdistill.losses.divergence`.

    Raises:
        ConfigError: unknown name or parameter, or a divergence that needs whole distributions.
        UsageError: ``student_logprobs`` missing, or of another shape.
    """
    if not isinstance(log_ratio, Tensor):
        raise UsageError(f"log_ratio is a {type(log_ratio).__name__}; expected a torch.Tensor of ln p − ln q")
    return _sampled(_ADVANTAGES, alpha_beta_pull, name, log_ratio, student_logprobs, parameters)


def sampled_divergence(name: str, log_ratio: Tensor, *, student_logprobs: Tensor | None = None, **parameters: float) -> Tensor:
    """f(u) of a sampled token: the one-sample value whose mean under the student is the divergence. Detached.

    The table and the arguments are those of :func:`score_advantage`; ``alpha_beta`` and ``todi`` give their term divided by q.

    Raises:
        ConfigError: unknown name or parameter, or a divergence that needs whole distributions.
        UsageError: ``student_logprobs`` missing, or of another shape.
    """
    if not isinstance(log_ratio, Tensor):
        raise UsageError(f"log_ratio is a {type(log_ratio).__name__}; expected a torch.Tensor of ln p − ln q")
    return _sampled(_VALUES, alpha_beta_terms, name, log_ratio, student_logprobs, parameters)


def _sampled(
    forms: Mapping[str, Form],
    powers: Form,
    name: str,
    log_ratio: Tensor,
    student_logprobs: Tensor | None,
    parameters: Mapping[str, float],
) -> Tensor:
    chosen = lookup(name).parameters(parameters)
    if student_logprobs is not None and student_logprobs.shape != log_ratio.shape:
        raise UsageError(f"student_logprobs {tuple(student_logprobs.shape)} and log_ratio {tuple(log_ratio.shape)} differ in shape")
    with torch.no_grad():
        if name in forms:
            return forms[name](log_ratio.detach(), **chosen)
        if name != "alpha_beta":
            raise ConfigError(
                f"divergence {name!r} depends on the whole distributions: a sampled token has no advantage of its own; use it where "
                "both are known (divergence, pathwise), or take its mean from expected_advantage"
            )
        total = chosen["alpha"] + chosen["beta"]
        if abs(total - 1) < 1e-12:
            return powers(log_ratio.detach(), torch.zeros_like(log_ratio), chosen["alpha"], chosen["beta"], 1.0)
        if student_logprobs is None:
            raise UsageError(
                f"divergence 'alpha_beta' with alpha + beta = {total:g} depends on q(y) itself, not on p/q alone: give student_logprobs, "
                "or choose alpha + beta = 1"
            )
        student = student_logprobs.detach()
        return powers(log_ratio.detach() + student, student, chosen["alpha"], chosen["beta"], total, -student)


def expected_advantage(name: str, teacher_logprobs: Tensor, student_logprobs: Tensor, **parameters: float) -> Tensor:
    """E_{y∼q}[A(y)], [..., V] -> [...]: the baseline of :func:`score_advantage` in closed form. Detached.

    For ``reverse_kl``, A − E A = ln u + KL(q‖p). Subtracting it changes no mean gradient. See "KL for a KL: On-Policy
    Distillation with Control Variate Baseline", Oh et al., arXiv 2605.07865.

    Args:
        name: a key of ``DIVERGENCES``, any.
        teacher_logprobs: ln p, [..., V], normalised; a row of nothing but −inf yields 0.
        student_logprobs: ln q, [..., V], normalised.
        **parameters: as for :func:`~agentdistill.losses.divergence`.

    Raises:
        ConfigError: unknown name or parameter.
        UsageError: shapes that differ.
    """
    entry = lookup(name)
    chosen = entry.parameters(parameters)
    if teacher_logprobs.shape != student_logprobs.shape:
        raise UsageError(f"teacher_logprobs {tuple(teacher_logprobs.shape)} and student {tuple(student_logprobs.shape)} differ in shape")
    with torch.no_grad():
        teacher, student = teacher_logprobs.detach(), student_logprobs.detach()
        _, pull, constant = entry.parts(Sides(teacher, student, student.exp()), **chosen)
        baseline = constant[..., 0] if isinstance(constant, Tensor) else constant
        return (pull.sum(-1) + baseline).masked_fill(teacher.amax(-1).isneginf(), 0.0)
