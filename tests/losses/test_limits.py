"""Close to a limit of a parameter, and close to equal sides, where the formulas as written lose all their digits."""

import math

import mpmath
import pytest
import torch
from torch import Tensor

from agentdistill.losses import divergence, pathwise

NEAR = (1e-12, 1e-9, 1e-6, 1e-4, 1e-2)
INF = math.inf


@pytest.fixture(scope="module")
def rows() -> tuple[Tensor, Tensor]:
    """ln p and ln q: far apart, close, very close, and peaked."""
    torch.manual_seed(30)
    teacher = torch.randn(4, 6, dtype=torch.float64) * torch.tensor([[1.0], [1.0], [1.0], [8.0]])
    noise = torch.randn(4, 6, dtype=torch.float64) * torch.tensor([[1.0], [1e-3], [1e-7], [8.0]])
    return teacher.log_softmax(-1), (teacher + noise).log_softmax(-1)


def exactly(alpha: float, beta: float, teacher: Tensor, student: Tensor) -> tuple[mpmath.mpf, list[mpmath.mpf]]:
    """The α-β divergence of one row and its gradient with 120 digits; parameters at their limits are moved by 1e-60."""
    with mpmath.workdps(120):
        a, b = (mpmath.mpf(value) for value in (alpha, beta))
        a = a if a != 0 else mpmath.mpf("1e-50")
        b = b if b != 0 else mpmath.mpf("1e-52")
        b = b if a + b != 0 else b + mpmath.mpf("1e-54")
        p, q = ([mpmath.exp(mpmath.mpf(float(x))) for x in side] for side in (teacher, student))
        value = -sum(x**a * y**b - a / (a + b) * x ** (a + b) - b / (a + b) * y ** (a + b) for x, y in zip(p, q, strict=True)) / (a * b)
        pull = [(x**a * y**b - y ** (a + b)) / a for x, y in zip(p, q, strict=True)]
        return value, [y * sum(pull) - each for y, each in zip(q, pull, strict=True)]


def close_to_limits() -> list[tuple[float, float]]:
    limits = [(1.0, 0.0), (0.0, 1.0), (0.5, -0.5), (-0.5, 0.5), (0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (-1.0, 0.0), (0.0, -0.7), (2.0, -2.0)]
    moves = [(0.0, 0.0), *((s * d, t * d) for d in NEAR for s, t in ((1, 0), (0, 1), (1, -1), (1, 1), (-1, 0), (0, -1), (-1, 1), (0.5, 2)))]
    return [(alpha + da, beta + db) for alpha, beta in limits for da, db in moves]


@pytest.mark.ci
def test_alpha_beta_near_every_limit_is_exact(rows: tuple[Tensor, Tensor]) -> None:
    teacher, student = rows
    for alpha, beta in close_to_limits():
        value, gradient = pathwise("alpha_beta", teacher, student, {"alpha": alpha, "beta": beta})
        for row in range(4):
            expected, slopes = exactly(alpha, beta, teacher[row], student[row])
            assert float(value[row]) == pytest.approx(float(expected), rel=1e-8, abs=1e-13), (alpha, beta, row)
            scale = max(1.0, max(abs(float(slope)) for slope in slopes))
            assert gradient[row].tolist() == pytest.approx([float(slope) for slope in slopes], rel=1e-9, abs=1e-12 * scale)


@pytest.mark.parametrize("alpha", [-3.0, -0.2, 0.1, 0.3, 0.24, 0.7, 2.0, 6.0])
@pytest.mark.parametrize("beta", [-2.0, -0.11, 0.05, 0.2, 0.9, 4.0])
def test_alpha_beta_away_from_limits_is_exact(alpha: float, beta: float, rows: tuple[Tensor, Tensor]) -> None:
    for row in range(4):
        expected, slopes = exactly(alpha, beta, rows[0][row], rows[1][row])
        value, gradient = pathwise("alpha_beta", rows[0][row], rows[1][row], {"alpha": alpha, "beta": beta})
        assert float(value) == pytest.approx(float(expected), rel=1e-8, abs=1e-13)
        scale = max(1.0, max(abs(float(slope)) for slope in slopes))
        assert gradient.tolist() == pytest.approx([float(slope) for slope in slopes], rel=1e-9, abs=1e-12 * scale)


def test_alpha_runs_into_the_two_kl_divergences(rows: tuple[Tensor, Tensor]) -> None:
    for limit, name in ((0.0, "reverse_kl"), (1.0, "forward_kl")):
        expected = pathwise(name, *rows)
        for step in (0.0, *NEAR, *(-each for each in NEAR)):
            found = pathwise("alpha", *rows, {"alpha": limit + step})
            slack = 1e-13 + 60 * abs(step)  # the slope in α, for rows this far apart
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=slack, atol=slack)


def test_alpha_near_its_limits_is_smooth(rows: tuple[Tensor, Tensor]) -> None:
    """Equal steps of α around a limit make equal steps of the value: no branch changes within 1e-9."""
    for limit in (0.0, 1.0):
        for step in (1e-3, 1e-5):
            low, middle, high = (pathwise("alpha", *rows, {"alpha": limit + each})[0] for each in (-step, 0.0, step))
            bend = (low + high - 2 * middle) / step**2
            assert bool((bend.abs() < 2e3).all())


def test_renyi_near_one_is_exact(rows: tuple[Tensor, Tensor]) -> None:
    teacher, student = rows
    for order in (1.0, *(1 + sign * step for step in NEAR for sign in (1, -1)), 0.3, 0.9, 1.1, 1.24, 1.26, 2.0, 7.0):
        value, gradient = pathwise("renyi", teacher, student, {"alpha": order})
        for row in range(4):
            with mpmath.workdps(120):
                a = mpmath.mpf(order) if order != 1 else 1 + mpmath.mpf("1e-50")
                p, q = ([mpmath.exp(mpmath.mpf(float(x))) for x in side[row]] for side in (teacher, student))
                p, q = [x / sum(p) for x in p], [y / sum(q) for y in q]  # what float64 leaves would be divided by a − 1
                tilted = [x**a * y ** (1 - a) for x, y in zip(p, q, strict=True)]
                expected = mpmath.log(sum(tilted)) / (a - 1)
            assert float(value[row]) == pytest.approx(float(expected), rel=1e-7, abs=1e-13), (order, row)
            slopes = [float(y - each / sum(tilted)) for y, each in zip(q, tilted, strict=True)]
            assert gradient[row].tolist() == pytest.approx(slopes, rel=1e-9, abs=1e-12)


def test_renyi_of_nearly_disjoint_sides_does_not_underflow() -> None:
    teacher, student = torch.tensor([0.0, -300.0], dtype=torch.float64), torch.tensor([-300.0, 0.0], dtype=torch.float64)
    assert float(divergence("renyi", teacher, student)) == pytest.approx(-2 * math.log(2 * math.exp(-150)), rel=1e-12)
    for dtype in (torch.float32, torch.float64):
        leaf = student.to(dtype).requires_grad_()
        value = divergence("renyi", teacher.to(dtype), leaf, alpha=2)
        (gradient,) = torch.autograd.grad(value, leaf)
        assert float(value.detach()) == pytest.approx(300, rel=1e-6)
        assert gradient.tolist() == pytest.approx([-1.0, 1.0], abs=1e-6)


def test_renyi_of_a_large_order_nears_the_largest_log_ratio(rows: tuple[Tensor, Tensor]) -> None:
    for order in (1e3, 1e6, 1e12):
        found = divergence("renyi", *rows, alpha=order)
        torch.testing.assert_close(found, divergence("renyi", *rows, alpha=INF), rtol=20 / order, atol=20 / order + 1e-12)


@pytest.mark.parametrize(("skewed", "plain"), [("skew_kl", "forward_kl"), ("skew_reverse_kl", "reverse_kl")])
def test_a_skew_runs_into_the_plain_divergence_in_value_gradient_and_score_form(
    rows: tuple[Tensor, Tensor], skewed: str, plain: str
) -> None:
    teacher, student = rows[0], rows[1].clone().requires_grad_()
    for choices in ({}, {"route": "topk", "k": 3, "tail": False}, {"route": "topk", "k": 3, "form": "score"}):
        expected = divergence(plain, teacher, student, **choices)  # type: ignore[arg-type]  # str, int and bool
        (expected_gradient,) = torch.autograd.grad(expected.sum(), student)
        for alpha in (0.0, 1e-15, 1e-12):
            value = divergence(skewed, teacher, student, alpha=alpha, **choices)  # type: ignore[arg-type]  # str, int and bool
            (gradient,) = torch.autograd.grad(value.sum(), student)
            torch.testing.assert_close((value, gradient), (expected, expected_gradient), rtol=1e-4, atol=1e-4 if alpha else 1e-15)


def test_float32_keeps_its_digits_near_limits() -> None:
    torch.manual_seed(31)
    teacher, student = torch.randn(32, 300).double(), torch.randn(32, 300).double()
    for name, key, limits in (("alpha", "alpha", (0.0, 1.0)), ("renyi", "alpha", (1.0,))):
        for value in (limit + sign * step for limit in limits for step in NEAR for sign in (1, -1)):
            exact = divergence(name, teacher, student, **{key: value})
            torch.testing.assert_close(
                divergence(name, teacher.float(), student.float(), **{key: value}).double(), exact, rtol=1e-5, atol=1e-5
            )
