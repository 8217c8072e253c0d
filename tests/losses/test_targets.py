"""What stands in for the teacher."""

import math

import pytest
import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError
from agentdistill.losses import bridge, divergence, geometric, mixture, skew
from agentdistill.losses.targets import Mixture

INF = math.inf


def logs(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


REFERENCE, SECOND = logs(0.4, 0.4, 0.2), logs(0.2, 0.5, 0.3)


def gradient(value: Tensor, student: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value.sum(), student)
    return found


def approximately(value: Tensor, expected: float) -> bool:
    return float(value.detach()) == pytest.approx(expected, abs=1e-11)


# --- Golden values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tau", "value"), [(0.4, 0.014994626617), (0.5, 0.023144895175), (0.9, 0.070319393363)])
def test_a_bridge_interpolates_logits(pair: tuple[Tensor, Tensor], tau: float, value: float) -> None:
    assert approximately(divergence("forward_kl", *pair, target=bridge(tau)), value)
    shifted = pair[0] + 5, pair[1] - 2
    assert approximately(divergence("forward_kl", *shifted, target=bridge(tau)), value)
    expected = torch.tensor([0.5844887891, 0.2606391904, 0.1548720205], dtype=torch.float64)
    torch.testing.assert_close(bridge(0.4)(*pair).exp(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("lam", "value"), [(0.5, 0.010944297141), (1.25, 0.164521494862), (2, 0.477252277665)])
def test_a_geometric_target_goes_beyond_the_teacher(pair: tuple[Tensor, Tensor], lam: float, value: float) -> None:
    assert approximately(divergence("reverse_kl", *pair, target=geometric(REFERENCE, lam)), value)
    expected = torch.tensor([0.7614214851, 0.1590523432, 0.0795261716], dtype=torch.float64)
    torch.testing.assert_close(geometric(REFERENCE + 3, 1.25)(*pair).exp(), expected, rtol=0, atol=1e-9)


def test_two_teachers_as_one_and_apart(pair: tuple[Tensor, Tensor]) -> None:
    p, q = pair
    mean, product = mixture(SECOND), mixture(SECOND, kind="geometric")
    assert approximately(divergence("forward_kl", p, q, target=mean), 0.006540505894)
    assert approximately(divergence("reverse_kl", p, q, target=mean), 0.006435053881)
    assert approximately(divergence("reverse_kl", p, q, target=product), 0.011271535399)
    expected = torch.tensor([0.4332634918, 0.3661744835, 0.2005620246], dtype=torch.float64)
    torch.testing.assert_close(product(p, q).exp(), expected, rtol=0, atol=1e-9)
    apart = {name: 0.5 * (divergence(name, p, q) + divergence(name, SECOND, q)) for name in ("forward_kl", "reverse_kl")}
    assert approximately(apart["forward_kl"], 0.139458511949)
    assert approximately(apart["reverse_kl"], 0.157918753710)
    assert float(apart["reverse_kl"]) - 0.011271535399 == pytest.approx(0.146647218310, abs=1e-11)


# --- Identities -----------------------------------------------------------------------------------------------------


@pytest.fixture
def rows() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(20)
    teacher, other, student = torch.randn(3, 4, 7, dtype=torch.float64)
    return teacher, other, student.requires_grad_()


@pytest.mark.parametrize("tau", [0.25, 0.4, 0.5, 0.9])
def test_forward_kl_to_a_bridge_has_the_gradient_of_renyi(rows: tuple[Tensor, Tensor, Tensor], tau: float) -> None:
    teacher, _, student = rows
    found = gradient(divergence("forward_kl", teacher, student, target=bridge(tau)), student)
    torch.testing.assert_close(found, gradient(divergence("renyi", teacher, student, alpha=tau), student), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "kind"), [("forward_kl", "arithmetic"), ("reverse_kl", "geometric")])
def test_the_mean_of_teachers_is_a_teacher(rows: tuple[Tensor, Tensor, Tensor], name: str, kind: str) -> None:
    """Up to a constant: the gradients are equal, the values not."""
    teacher, other, student = rows
    apart = 0.3 * divergence(name, teacher, student) + 0.7 * divergence(name, other, student)
    one = divergence(name, teacher, student, target=mixture(other, weights=(3, 7), kind=kind))
    torch.testing.assert_close(gradient(one, student), gradient(apart, student), rtol=1e-9, atol=1e-12)
    assert bool((apart - one > 1e-3).all())


def test_the_geometric_target_is_the_optimum_of_its_reward(rows: tuple[Tensor, Tensor, Tensor]) -> None:
    """Reverse KL to it has the gradient of KL(q‖ref) − λ E_q[ln p/ref]."""
    teacher, reference, student = rows
    q, p, ref = student.log_softmax(-1), teacher.log_softmax(-1), reference.log_softmax(-1)
    direct = (q.exp() * (q - ref) - 1.25 * q.exp() * (p - ref)).sum()
    found = gradient(divergence("reverse_kl", teacher, student, target=geometric(reference, 1.25)), student)
    torch.testing.assert_close(found, gradient(direct, student), rtol=1e-9, atol=1e-12)


def test_the_share_of_the_student_in_a_skewed_target_has_no_gradient(rows: tuple[Tensor, Tensor, Tensor]) -> None:
    teacher, _, student = rows
    p, q = teacher.softmax(-1), student.detach().softmax(-1)
    mixed = 0.1 * p + 0.9 * q
    value = divergence("forward_kl", teacher, student, target=skew(0.1))
    torch.testing.assert_close(value.detach(), (mixed * (mixed / q).log()).sum(-1), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient(value, student), 0.1 * (q - p), rtol=1e-9, atol=1e-12)
    moving = gradient(divergence("skew_reverse_kl", teacher, student, alpha=0.9), student)
    still = gradient(divergence("reverse_kl", teacher, student, target=skew(0.1)), student)
    assert float((moving - still).abs().max()) > 1e-3


def test_the_ends_are_the_teacher_the_reference_and_the_student(rows: tuple[Tensor, Tensor, Tensor]) -> None:
    teacher, other, student = rows
    p, ref, q = (each.detach().log_softmax(-1) for each in (teacher, other, student))
    for target, expected in (
        (geometric(other, 1), p),
        (geometric(other, 0), ref),
        (bridge(1), p),
        (bridge(0), q),
        (skew(1), p),
        (skew(0), q),
        (mixture(other, weights=(0, 2)), ref),
        (mixture(other, weights=(1, 0), kind="geometric"), p),
        (mixture(), p),
    ):
        found = target(teacher, student)
        assert not found.requires_grad
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# --- Without mass ---------------------------------------------------------------------------------------------------


def test_missing_tokens_and_missing_rows() -> None:
    teacher = torch.tensor([[0.0, 1.0, -INF, 0.5], [-INF] * 4, [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    other = torch.tensor([[0.0, -INF, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0], [-INF] * 4], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.3, 0.1, -INF], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    for lam in (0.5, 1.25):
        found = geometric(other, lam)(teacher, student).exp()
        assert (found[0] > 0).tolist() == [True, False, False, True]  # beyond the reference there is no finite optimum
        assert not found[1:].any()
    for kind, present in (("arithmetic", [True, True, True, True]), ("geometric", [True, False, False, True])):
        found = mixture(other, kind=kind)(teacher, student)
        assert (found[0].exp() > 0).tolist() == present
        torch.testing.assert_close(found[1], other[1].log_softmax(-1))  # who has nothing to say is not heard
        torch.testing.assert_close(found[2], teacher[2].log_softmax(-1))
    for target, present in ((bridge(0.5), [True, True, False, False]), (skew(0.5), [True, True, True, True])):
        found = target(teacher, student)
        assert (found[0].exp() > 0).tolist() == present
        assert bool(found[1].isneginf().all())
        torch.testing.assert_close(found[2].exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    silent = mixture(torch.full((4,), -INF))(torch.full((4,), -INF), torch.zeros(4))
    assert bool(silent.isneginf().all())


def test_a_masked_row_harms_no_target_and_no_target_harms_the_rest() -> None:
    torch.manual_seed(21)
    teacher, other = torch.randn(2, 5), torch.randn(2, 5)
    student = torch.randn(2, 5)
    teacher[1], other[1], student[1] = math.nan, math.nan, math.nan
    student.requires_grad_()
    mask = torch.tensor([True, False])
    for target in (geometric(other, 1.25), bridge(0.4), skew(0.3), mixture(other), mixture(other, kind="geometric")):
        for choices in ({}, {"route": "topk", "k": 2}):
            value = divergence("jsd", teacher, student, target=target, mask=mask, **choices)  # type: ignore[arg-type]  # str and int
            found = gradient(value, student)
            assert float(value[0].detach()) > 0
            assert float(value[1].detach()) == 0
            assert bool(found.isfinite().all())
            assert not found[1].any()


def test_half_precision_is_computed_in_float32() -> None:
    torch.manual_seed(22)
    teacher, other, student = torch.randn(3, 2, 9).bfloat16()
    for target in (geometric(other, 1.25), bridge(0.4), skew(0.3), mixture(other), mixture(other, kind="geometric")):
        assert target(teacher, student).dtype is torch.float32


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="lam=-1 is not a finite number"):
        geometric(REFERENCE, -1)
    with pytest.raises(ConfigError, match="lam=nan"):
        geometric(REFERENCE, math.nan)
    with pytest.raises(ConfigError, match=r"tau=1.5 is not in \[0, 1\]"):
        bridge(1.5)
    with pytest.raises(ConfigError, match=r"alpha=nan is not in \[0, 1\]"):
        skew(math.nan)
    with pytest.raises(ConfigError, match="did you mean 'geometric'"):
        mixture(SECOND, kind="geometrical")
    with pytest.raises(ConfigError, match="1 weights for 2 teachers"):
        mixture(SECOND, weights=(1,))
    for weights in ((0.0, 0.0), (1.0, -1.0), (1.0, math.nan)):
        with pytest.raises(ConfigError, match="must be finite"):
            mixture(SECOND, weights=weights)
    with pytest.raises(UsageError, match=r"reference_logits \(3,\) and teacher_logits \(4,\)"):
        geometric(REFERENCE, 1.0)(torch.zeros(4), torch.zeros(4))
    assert isinstance(mixture(SECOND), Mixture)
