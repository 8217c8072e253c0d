"""The fast forms against ``pathwise``, which has tests of its own, and against autograd."""

import math

import pytest
import torch
from torch import Tensor

from agentdistill.errors import ConfigError
from agentdistill.losses import divergence, pathwise
from agentdistill.losses.fused import Scratch, fused_pathwise, log_normaliser

FAST = [("forward_kl", {}), ("reverse_kl", {}), ("jsd", {"beta": 0.5}), ("jsd", {"beta": 0.1}), ("jsd", {"beta": 0.93})]


def fused(name: str, teacher: Tensor, student: Tensor, parameters: dict[str, float], weights: Tensor | None = None) -> tuple[Tensor, ...]:
    """Value, weights · gradient and the teacher's normaliser."""
    probs, out = torch.empty_like(student), torch.empty_like(student)
    lse = log_normaliser(student, probs=probs)
    value, teacher_lse = fused_pathwise(
        name,
        teacher,
        student,
        parameters,
        student_lse=lse,
        student_probs=probs,
        weights=torch.ones(len(student), dtype=student.dtype) if weights is None else weights,
        scratch=Scratch(len(student) + 1, student),
        out=out,
    )
    return value, out, teacher_lse


def logits(rows: int, vocab: int, dtype: torch.dtype, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(vocab)
    teacher, student = scale * torch.randn(2, rows, vocab, generator=generator, dtype=torch.float64)
    return (teacher + 5).to(dtype), (student - 7).to(dtype)  # not normalised, each with an offset of its own


@pytest.mark.parametrize("vocab", [3, 257, 50_000])
@pytest.mark.parametrize(("name", "parameters"), FAST)
def test_value_and_gradient_are_those_of_autograd_in_float64(name: str, parameters: dict[str, float], vocab: int) -> None:
    teacher, student = logits(4, vocab, torch.float64)
    weights = torch.tensor([0.5, -2.0, 0.0, 3.0], dtype=torch.float64)
    value, gradient, teacher_lse = fused(name, teacher, student, parameters, weights)
    leaf = student.clone().requires_grad_()
    p, q = teacher.softmax(-1), leaf.softmax(-1)
    beta = parameters.get("beta", 0.0)
    m = beta * p + (1 - beta) * q
    wanted = {
        "forward_kl": (p * (p / q).log()).sum(-1),
        "reverse_kl": (q * (q / p).log()).sum(-1),
        "jsd": (beta * p * (p / m).log() + (1 - beta) * q * (q / m).log()).sum(-1),
    }[name]
    (expected,) = torch.autograd.grad((weights * wanted).sum(), leaf)
    torch.testing.assert_close(value, wanted.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(teacher_lse, teacher.logsumexp(-1))


@pytest.mark.parametrize("vocab", [3, 50_000])
@pytest.mark.parametrize(("name", "parameters"), FAST)
def test_float32_is_right_to_five_digits(name: str, parameters: dict[str, float], vocab: int) -> None:
    teacher, student = logits(4, vocab, torch.float32)
    value, gradient, _ = fused(name, teacher, student, parameters)
    exact, exact_gradient = pathwise(name, teacher.double().log_softmax(-1), student.double().log_softmax(-1), parameters)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("name", "parameters"), FAST)
def test_equal_distributions_have_nothing_between_them(name: str, parameters: dict[str, float]) -> None:
    _, student = logits(3, 1000, torch.float32)
    value, gradient, _ = fused(name, student + 11, student, parameters)
    assert bool((value >= 0).all())
    assert float(value.max()) < 1e-5
    assert float(gradient.abs().max()) < 1e-6


def troubled() -> dict[str, tuple[Tensor, Tensor]]:
    inf = -math.inf
    plain = [0.3, 1.0, -2.0, 0.1]
    return {
        "the teacher lacks mass": (torch.tensor([[0.0, 1.0, inf, inf], plain]), torch.tensor([plain, plain])),
        "the student lacks mass": (torch.tensor([plain, plain]), torch.tensor([[0.0, inf, 1.0, 2.0], plain])),
        "a masked vocabulary": (torch.tensor([[0.0, 1.0, 2.0, inf]] * 2), torch.tensor([[1.0, 0.0, 0.5, inf]] * 2)),
        "a row without a target": (torch.tensor([[inf] * 4, plain]), torch.tensor([plain, [1.0, 2.0, 3.0, 4.0]])),
        "a vanishing probability": (torch.tensor([[0.0, 200.0, 0.0, 0.0]] * 2), torch.tensor([[200.0, 0.0, 0.0, -300.0]] * 2)),
        "something that is no number": (torch.tensor([[0.0, math.nan, 1.0, 2.0], plain]), torch.tensor([plain, plain])),
    }


@pytest.mark.parametrize("case", troubled())
@pytest.mark.parametrize(("name", "parameters"), FAST)
def test_trouble_is_treated_as_pathwise_treats_it(name: str, parameters: dict[str, float], case: str) -> None:
    teacher, student = troubled()[case]
    value, gradient, _ = fused(name, teacher, student, parameters)
    empty = teacher.amax(-1, keepdim=True).isneginf()
    exact, exact_gradient = pathwise(
        name, teacher.masked_fill(empty, 0).log_softmax(-1).masked_fill(empty, -math.inf), student.log_softmax(-1), parameters
    )
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=1e-6, equal_nan=True)
    finite = exact.isfinite()
    torch.testing.assert_close(gradient[finite], exact_gradient[finite], rtol=1e-5, atol=1e-6)
    assert bool(gradient[finite].isfinite().all())


@pytest.mark.parametrize(("name", "parameters"), FAST)
def test_the_gradient_may_take_the_place_of_the_logits(name: str, parameters: dict[str, float]) -> None:
    teacher, student = logits(3, 50, torch.float64)
    _, apart, _ = fused(name, teacher, student, parameters)
    probs = torch.empty_like(student)
    lse = log_normaliser(student, probs=probs)
    ones, kept = torch.ones(3, dtype=torch.float64), teacher.clone()
    fused_pathwise(
        name,
        teacher,
        student,
        parameters,
        student_lse=lse,
        student_probs=probs,
        weights=ones,
        scratch=Scratch(3, student),
        out=student,
    )
    assert torch.equal(student, apart)
    assert torch.equal(teacher, kept)


def test_it_is_what_the_public_function_gives() -> None:
    teacher, student = logits(3, 20, torch.float64)
    torch.testing.assert_close(fused("jsd", teacher, student, {"beta": 0.3})[0], divergence("jsd", teacher, student, beta=0.3))


def test_unknown_names_and_parameters_are_refused() -> None:
    teacher, student = logits(2, 5, torch.float64)
    with pytest.raises(ConfigError, match="did you mean"):
        fused("forward_kll", teacher, student, {})
    with pytest.raises(ConfigError, match="bta"):
        fused("jsd", teacher, student, {"bta": 0.5})
