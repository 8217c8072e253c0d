"""What sampled tokens are worth: by generators, by enumeration of every token, and at the ends of the number line."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError
from agentdistill.losses import DIVERGENCES, divergence, expected_advantage, pathwise, sampled_divergence, score_advantage

from .definitions import CASES, GENERATORS, IDS, definition

INF = math.inf
WHOLE = {"renyi", "adaptive_kl"}
"""What no single token determines."""
SAMPLED = [(name, parameters) for name, parameters in CASES if name not in WHOLE]

every_sampled = pytest.mark.parametrize(("name", "parameters"), SAMPLED, ids=[i for i in IDS if i.split("-")[0] not in WHOLE])


def gradient_of(name: str, teacher: Tensor, student: Tensor, parameters: dict[str, float]) -> Tensor:
    leaf = student.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(name, teacher, leaf, **parameters).sum(), leaf)
    return gradient


def expected_gradient(advantages: Tensor, student: Tensor) -> Tensor:
    """−E_{y∼q}[A(y) ∇ln q(y)], every token written out."""
    total = torch.zeros_like(student)
    for y, probability in enumerate(student.softmax(-1)):
        leaf = student.clone().requires_grad_()
        (score,) = torch.autograd.grad(leaf.log_softmax(-1)[y], leaf)
        total -= probability * advantages[y] * score
    return total


@every_sampled
def test_the_mean_of_the_score_function_is_the_gradient_and_of_the_value_the_divergence(name: str, parameters: dict[str, float]) -> None:
    """∇D = −E_q[A ∇ln q] and D = E_q f(u), by enumerating every token; any constant added to A changes nothing."""
    torch.manual_seed(3)
    teacher, student = torch.randn(7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    advantage = score_advantage(name, p - q, student_logprobs=q, **parameters)
    for baseline in (0.0, 0.8, expected_advantage(name, p, q, **parameters)):
        found = expected_gradient(advantage - baseline, student)
        torch.testing.assert_close(found, gradient_of(name, teacher, student, parameters), rtol=1e-9, atol=1e-9)
    value = (q.exp() * sampled_divergence(name, p - q, student_logprobs=q, **parameters)).sum()
    torch.testing.assert_close(value, divergence(name, teacher, student, **parameters), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "parameters", "generator"), GENERATORS, ids=[f"{case[0]}-{case[1]}" for case in GENERATORS])
def test_the_advantage_is_u_f_prime_minus_f(name: str, parameters: dict[str, float], generator: Callable[[Tensor], Tensor]) -> None:
    u = torch.tensor([0.01, 0.3, 0.999, 1.001, 2.5, 90.0], dtype=torch.float64, requires_grad=True)
    f = generator(u)
    (slope,) = torch.autograd.grad(f.sum(), u)
    log_ratio = u.detach().log()
    torch.testing.assert_close(score_advantage(name, log_ratio, **parameters), (u * slope - f).detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sampled_divergence(name, log_ratio, **parameters), f.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=IDS)
def test_the_advantage_is_the_slope_of_the_divergence_and_its_mean_the_baseline(name: str, parameters: dict[str, float]) -> None:
    """A = −∂D/∂q of the unnormalised definition, its constant included."""
    torch.manual_seed(4)
    p, q = torch.randn(2, 3, 6, dtype=torch.float64).softmax(-1)
    leaf = q.clone().requires_grad_()
    (slope,) = torch.autograd.grad(definition(name, p, leaf, **parameters).sum(), leaf)
    baseline = expected_advantage(name, p.log(), q.log(), **parameters)
    torch.testing.assert_close(baseline, -(q * slope).sum(-1), rtol=1e-9, atol=1e-9)
    if name not in WHOLE:
        found = score_advantage(name, (p / q).log(), student_logprobs=q.log(), **parameters)
        torch.testing.assert_close(found, -slope, rtol=1e-9, atol=1e-9)


def test_the_baseline_of_reverse_kl_leaves_the_log_ratio_plus_the_divergence(pair: tuple[Tensor, Tensor]) -> None:
    p, q = pair
    left = score_advantage("reverse_kl", p - q) - expected_advantage("reverse_kl", p, q)
    torch.testing.assert_close(left, p - q + 0.092032850234, rtol=0, atol=1e-11)
    assert float(expected_advantage("reverse_kl", torch.full_like(p, -INF), q)) == 0.0


def test_power_opd_is_a_bounded_alpha_beta_advantage(pair: tuple[Tensor, Tensor]) -> None:
    """p^α − q^α is α times the advantage of the α-β divergence with β = 1 (PowerOPD, arXiv 2606.17199)."""
    p, q = pair
    found = 5 * score_advantage("alpha_beta", p - q, student_logprobs=q, alpha=5, beta=1)
    torch.testing.assert_close(found, p.exp() ** 5 - q.exp() ** 5, rtol=1e-12, atol=1e-12)
    assert bool((found.abs() < 1).all())


@pytest.mark.parametrize(
    ("name", "error"),
    [("forward_kl", 0.393), ("jsd", 0.048), ("chi2_pearson", 0.397), ("hellinger", 0.049), ("skew_kl", 0.336), ("skew_reverse_kl", 0.021)],
)
def test_minus_f_is_no_immediate_credit_but_for_reverse_kl(pair: tuple[Tensor, Tensor], name: str, error: float) -> None:
    p, q = pair
    wrong = expected_gradient(-sampled_divergence(name, p - q), q)
    assert float((wrong - gradient_of(name, p, q, {})).abs().max()) == pytest.approx(error, abs=5e-4)
    right = expected_gradient(-sampled_divergence("reverse_kl", p - q), q)
    torch.testing.assert_close(right, gradient_of("reverse_kl", p, q, {}), rtol=1e-9, atol=1e-12)


BOUNDS = {
    "forward_kl": (0.0, INF),
    "jsd": (0.5 * math.log(0.5), INF),
    "tvd": (-0.5, 0.5),
    "chi2_pearson": (-1.0, INF),
    "chi2_neyman": (-INF, 2.0),
    "hellinger": (-0.5, INF),
    "alpha": (-2.0, INF),
    "skew_kl": (0.0, 9.0),
    "skew_reverse_kl": (math.log(0.1), INF),
}


@every_sampled
def test_extreme_log_ratios_give_numbers_and_the_table_s_bounds(name: str, parameters: dict[str, float]) -> None:
    for dtype in (torch.float64, torch.float32):
        log_ratio = torch.tensor([-1e30, -1e4, -800.0, -90.0, -1e-30, 0.0, 1e-30, 90.0, 800.0, 1e4, 1e30], dtype=dtype)
        for student in (torch.full_like(log_ratio, -1.0), torch.full_like(log_ratio, -1e4), torch.zeros_like(log_ratio)):
            kept = log_ratio[log_ratio + student <= 0]  # p is no more than 1
            advantage = score_advantage(name, kept, student_logprobs=student[: len(kept)], **parameters)
            value = sampled_divergence(name, kept, student_logprobs=student[: len(kept)], **parameters)
            assert not bool(advantage.isnan().any()), (name, dtype, advantage)
            assert not bool(value.isnan().any()), (name, dtype, value)
        everywhere = {"student_logprobs": torch.full_like(log_ratio, -5.0)}
        assert not bool(score_advantage(name, log_ratio, **everywhere, **parameters).isnan().any())
        assert not bool(sampled_divergence(name, log_ratio, **everywhere, **parameters).isnan().any())
    if name in BOUNDS:
        defaults = score_advantage(name, log_ratio)
        low, high = BOUNDS[name]
        assert float(defaults.min()) == pytest.approx(low, abs=1e-5) if low > -INF else float(defaults.min()) < -1e29
        assert float(defaults.max()) == pytest.approx(high, abs=1e-5) if high < INF else float(defaults.max()) > 1e29


def test_a_token_that_the_teacher_excludes_has_the_limit_s_worth() -> None:
    none = torch.tensor([-INF], dtype=torch.float64)
    worth = {name: float(score_advantage(name, none)) for name in set(DIVERGENCES) - WHOLE}
    assert worth.pop("todi") == -INF
    assert worth == {
        "forward_kl": 0.0,
        "reverse_kl": -INF,
        "jeffreys": -INF,
        "jsd": pytest.approx(0.5 * math.log(0.5)),
        "tvd": -0.5,
        "chi2_pearson": -1.0,
        "chi2_neyman": -INF,
        "hellinger": -0.5,
        "alpha": -2.0,
        "skew_kl": 0.0,
        "skew_reverse_kl": pytest.approx(math.log(0.1)),
        "alpha_beta": -2.0,
    }
    values = {name: float(sampled_divergence(name, none)) for name in set(DIVERGENCES) - WHOLE}
    assert {name for name, value in values.items() if value == INF} == {"reverse_kl", "jeffreys", "chi2_neyman", "todi"}
    assert not any(math.isnan(value) for value in values.values())


def test_everything_is_detached_and_mistakes_are_named(pair: tuple[Tensor, Tensor]) -> None:
    ratio = torch.zeros(3, requires_grad=True)
    for function in (score_advantage, sampled_divergence):
        for name in set(DIVERGENCES) - WHOLE:
            assert not function(name, ratio, student_logprobs=ratio - 1).requires_grad
        with pytest.raises(ConfigError, match="did you mean 'reverse_kl'"):
            function("revers_kl", ratio)
        with pytest.raises(UsageError, match=r"alpha \+ beta = 1.2 depends on q\(y\) itself"):
            function("alpha_beta", ratio, alpha=0.5, beta=0.7)
        with pytest.raises(UsageError, match=r"student_logprobs \(2,\) and log_ratio \(3,\)"):
            function("alpha_beta", ratio, student_logprobs=torch.zeros(2))
        for name in WHOLE:
            with pytest.raises(ConfigError, match="expected_advantage"):
                function(name, ratio)
    for name, entry in DIVERGENCES.items():
        assert not expected_advantage(name, pair[0], pair[1].clone().requires_grad_()).requires_grad, entry
    with pytest.raises(UsageError, match=r"teacher_logprobs \(3,\) and student \(2,\)"):
        expected_advantage("jsd", pair[0], torch.zeros(2))


def test_no_advantage_is_changed_in_place() -> None:
    ratio = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    for name, parameters in [*SAMPLED, ("alpha", {"alpha": 0.0})]:
        found = score_advantage(name, ratio, student_logprobs=ratio - 2, **parameters)
        found += 1
        found = sampled_divergence(name, ratio, student_logprobs=ratio - 2, **parameters)
        found += 1
        assert ratio.tolist() == [-1.0, 0.5], name
    teacher, student = torch.randn(2, 5, dtype=torch.float64).log_softmax(-1)
    kept = teacher.clone(), student.clone()
    for name, parameters in CASES:
        pathwise(name, teacher, student, parameters)
        assert torch.equal(teacher, kept[0]), name
        assert torch.equal(student, kept[1]), name
