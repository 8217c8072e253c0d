"""Divergences over a part of the vocabulary, against every token of every set written out."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError
from agentdistill.losses import DIVERGENCES, divergence, sparse_divergence, sparse_pathwise

from .definitions import CASES, IDS, Case, definition, score_constant

INF = math.inf
SUPPORTS = ("teacher", "student", "union", "intersection")
REMAINDERS: list[dict[str, Any]] = [
    {},
    {"renormalise": True},
    {"renormalise": "teacher"},
    {"tail": False},
    {"form": "score"},
]

every_case = pytest.mark.parametrize(("name", "parameters"), CASES, ids=IDS)
every_remainder = pytest.mark.parametrize("rest", REMAINDERS, ids=str)


def likeliest(logits: Tensor, k: int) -> set[int]:
    return set(sorted(range(len(logits)), key=lambda v: (-float(logits[v]), v))[:k])


def chosen(side: str, teacher: Tensor, student: Tensor, k: int) -> list[int]:
    first, second = likeliest(teacher, k), likeliest(student, k)
    return sorted({"teacher": first, "student": second, "union": first | second, "intersection": first & second}[side])


def written_out(case: Case, ids: list[int], teacher: Tensor, student: Tensor, rest: dict[str, Any]) -> tuple[float, Tensor]:
    """Value and gradient of one row, in probabilities and by autograd."""
    name, parameters = case
    if not ids:
        return 0.0, torch.zeros_like(student)
    z = student.clone().requires_grad_()
    p, q = teacher.softmax(-1), z.softmax(-1)
    a, b = p[ids], q[ids]
    outside = [v for v in range(len(student)) if v not in ids]
    if rest.get("renormalise"):
        a = a / a.sum()
        b = b / b.sum() if rest["renormalise"] is True else b
    elif rest.get("tail", "form" not in rest) and outside:
        a, b = torch.cat((a, p[outside].sum()[None])), torch.cat((b, q[outside].sum()[None]))
    value = definition(name, a, b, **parameters)
    if "form" not in rest:
        (gradient,) = torch.autograd.grad(value, z)
        return float(value.detach()), gradient
    leaf = b.detach().requires_grad_()
    (slope,) = torch.autograd.grad(definition(name, a, leaf, **parameters), leaf)
    credit = -slope - score_constant(name, a, leaf.detach(), parameters)
    (gradient,) = torch.autograd.grad(-(leaf.detach() * credit * b.log()).sum(), z)
    return float(value.detach()), gradient


@pytest.mark.parametrize("side", SUPPORTS)
@every_remainder
@every_case
def test_value_and_gradient_equal_the_sum_written_out(name: str, parameters: dict[str, float], side: str, rest: dict[str, Any]) -> None:
    torch.manual_seed(11)
    teacher, student = torch.randn(2, 2, 7, dtype=torch.float64), torch.randn(2, 2, 7, dtype=torch.float64, requires_grad=True)
    for k in (1, 3, 12):
        value = divergence(name, teacher, student, route="topk", k=k, support=side, **rest, **parameters)
        (gradient,) = torch.autograd.grad(value.sum(), student)
        for row in [(i, j) for i in range(2) for j in range(2)]:
            t, s = teacher[row], student[row].detach()
            expected, expected_gradient = written_out((name, parameters), chosen(side, t, s, k), t, s, rest)
            assert float(value[row].detach()) == pytest.approx(expected, abs=1e-9), (k, row)
            torch.testing.assert_close(gradient[row], expected_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "choices", "value"),
    [
        ("reverse_kl", {"k": 2, "renormalise": True}, 0.059537303309),
        ("forward_kl", {"k": 2, "renormalise": True}, 0.053814235469),
        ("forward_kl", {"k": 1}, 0.082282878505),
        ("reverse_kl", {"k": 1, "tail": True}, 0.087176693572),
        ("forward_kl", {"k": 2, "tail": False}, 0.154437544013),
        ("reverse_kl", {"k": 2, "tail": False}, -0.046596585878),
        ("forward_kl", {"k": 2, "renormalise": "teacher"}, 0.276957786784),
    ],
)
def test_golden_values_of_pair_one(pair: tuple[Tensor, Tensor], name: str, choices: dict[str, Any], value: float) -> None:
    assert float(divergence(name, *pair, route="topk", **choices)) == pytest.approx(value, abs=1e-11)
    k = choices.pop("k")
    ids = torch.arange(k)
    assert float(sparse_divergence(name, ids, pair[0][:k], pair[1], **choices)) == pytest.approx(value, abs=1e-11)


@every_remainder
@every_case
def test_the_sparse_form_equals_the_dense_one(name: str, parameters: dict[str, float], rest: dict[str, Any]) -> None:
    torch.manual_seed(12)
    teacher, student = torch.randn(4, 9, dtype=torch.float64), torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    dense = divergence(name, teacher, student, route="topk", k=3, **rest, **parameters)
    (expected,) = torch.autograd.grad(dense.sum(), student)
    logprobs, ids = teacher.log_softmax(-1).topk(3, -1)
    order = torch.tensor([2, 0, 1])
    ids = torch.cat((ids[:, order], torch.tensor([[-1, 5]] * 4)), -1)  # order and padding do not matter, nor what padding holds
    logprobs = torch.cat((logprobs[:, order], torch.tensor([[math.nan, -INF]] * 4, dtype=torch.float64)), -1)
    sparse = sparse_divergence(name, ids, logprobs, student, **rest, **parameters)
    (gradient,) = torch.autograd.grad(sparse.sum(), student)
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    value, slope = sparse_pathwise(name, ids, logprobs, student.detach().log_softmax(-1), parameters, **rest)
    torch.testing.assert_close((value, slope), (sparse.detach(), gradient), rtol=1e-12, atol=1e-12)


@every_remainder
@every_case
def test_masked_rows_and_rows_without_a_target_hold_anything(name: str, parameters: dict[str, float], rest: dict[str, Any]) -> None:
    torch.manual_seed(13)
    teacher, student = torch.randn(4, 9, dtype=torch.float64), torch.randn(4, 9, dtype=torch.float64)
    choices: dict[str, Any] = {"route": "topk", "k": 3, "support": "union", **rest, **parameters}
    leaf = student[:2].clone().requires_grad_()
    expected = divergence(name, teacher[:2], leaf, **choices)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), leaf)
    teacher[2] = -INF
    teacher[3], student[3] = math.nan, math.nan
    mask = torch.tensor([True, True, True, False])
    leaf = student.clone().requires_grad_()
    value = divergence(name, teacher, leaf, mask=mask, **choices)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close((value[:2], gradient[:2]), (expected, expected_gradient), rtol=1e-12, atol=1e-12)
    assert not value[2:].any()
    assert not gradient[2:].any()
    logprobs, ids = torch.cat((teacher[:2].log_softmax(-1), teacher[2:])).topk(3, -1)
    ids[3] = 8
    value = sparse_divergence(name, ids, logprobs, leaf, mask=mask, **rest, **parameters)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert bool(value.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert not value[2:].any()
    assert not gradient[2:].any()


# --- What is said of each remainder ---------------------------------------------------------------------------------


def test_a_tail_is_a_lower_bound_of_every_f_divergence() -> None:
    torch.manual_seed(14)
    teacher, student = torch.randn(200, 12, dtype=torch.float64), torch.randn(200, 12, dtype=torch.float64)
    for name in set(DIVERGENCES) - {"alpha_beta", "adaptive_kl", "todi"}:
        full = divergence(name, teacher, student)
        for k in (1, 4, 11):
            assert bool((divergence(name, teacher, student, route="topk", k=k, support="student") <= full + 1e-12).all()), name


def test_renormalised_there_is_no_gradient_outside_and_a_tail_spreads_it_in_proportion_to_the_student() -> None:
    torch.manual_seed(15)
    teacher, student = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64, requires_grad=True)
    outside = [v for v in range(8) if v not in likeliest(teacher, 3)]
    (renormalised,) = torch.autograd.grad(divergence("forward_kl", teacher, student, route="topk", k=3, renormalise=True), student)
    assert not renormalised[outside].any()
    (tail,) = torch.autograd.grad(divergence("forward_kl", teacher, student, route="topk", k=3), student)
    share = tail[outside] / student.detach().softmax(-1)[outside]
    torch.testing.assert_close(share, share[:1].expand(len(outside)), rtol=1e-12, atol=1e-12)
    assert float(share[0]) != 0


def test_a_bare_partial_sum_can_be_negative_and_falls_by_leaving_the_support() -> None:
    teacher = torch.tensor([2.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    student = teacher.clone().requires_grad_()
    value = divergence("reverse_kl", teacher, student, route="topk", k=2, tail=False)
    (gradient,) = torch.autograd.grad(value, student)
    assert bool((gradient[2:] < 0).all())  # descent raises what is outside, although the student is the teacher
    (score,) = torch.autograd.grad(divergence("reverse_kl", teacher, student, route="topk", k=2, form="score"), student)
    assert float(score.abs().max()) < 1e-15


def test_the_tail_keeps_its_digits_where_the_support_holds_nearly_everything() -> None:
    """ln(1 − Σ) would leave −inf, or noise of the size of the tail itself."""
    teacher = torch.tensor([0.0, -30.0, -60.0, -61.0], dtype=torch.float64)
    student = torch.tensor([0.0, -31.0, -64.0, -60.5], dtype=torch.float64)
    tail_p = teacher.log_softmax(-1)[2:].logsumexp(-1)
    tail_q = student.log_softmax(-1)[2:].logsumexp(-1)
    parts = torch.cat((teacher.log_softmax(-1)[:2], tail_p[None])), torch.cat((student.log_softmax(-1)[:2], tail_q[None]))
    expected = (parts[0].exp() * (parts[0] - parts[1])).sum()
    found = divergence("forward_kl", teacher, student, route="topk", k=2)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_a_server_whose_rounded_mass_exceeds_one_leaves_an_empty_tail() -> None:
    ids, logprobs = torch.tensor([0, 1]), torch.tensor([0.6, 0.41]).log()
    student = torch.zeros(4, requires_grad=True)
    value = sparse_divergence("forward_kl", ids, logprobs, student)
    (gradient,) = torch.autograd.grad(value, student)
    assert float(value.detach()) == pytest.approx(0.6 * math.log(2.4) + 0.41 * math.log(1.64), abs=1e-6)
    assert bool(gradient.isfinite().all())


def test_ties_go_to_the_smaller_id() -> None:
    teacher = torch.zeros(3, 50, dtype=torch.bfloat16)
    teacher[1, 40] = 1.0
    student = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    leaf = student.requires_grad_()
    value = divergence("forward_kl", teacher, leaf, route="topk", k=4, renormalise=True)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert [row.nonzero()[:, 0].tolist() for row in gradient] == [[0, 1, 2, 3], [0, 1, 2, 40], [0, 1, 2, 3]]


def test_an_empty_intersection_gives_nothing() -> None:
    teacher, student = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]]), torch.tensor([[0.0, 5.0, 0.0], [0.0, 5.0, 1.0]]).requires_grad_()
    for rest in REMAINDERS:
        value = divergence("forward_kl", teacher, student, route="topk", k=1, support="intersection", **rest)
        (gradient,) = torch.autograd.grad(value.sum(), student)
        assert float(value[0].detach()) == 0.0
        assert not gradient[0].any()


def test_a_token_without_mass_is_none_of_the_likeliest() -> None:
    """Else, a bare reverse KL over the teacher's three would be infinite for a teacher that has two."""
    teacher, student = torch.tensor([1.0, 0.0, -INF, -INF]), torch.tensor([0.5, 0.0, 0.2, 0.1])
    for rest in ({"tail": False}, {"renormalise": True}):
        three = divergence("reverse_kl", teacher, student, route="topk", k=3, **rest)
        torch.testing.assert_close(three, divergence("reverse_kl", teacher, student, route="topk", k=2, **rest))
    assert float(divergence("reverse_kl", teacher, student, route="topk", k=2)) == INF  # the tail's mass is the student's alone


def test_renormalised_over_a_support_where_one_side_has_nothing_is_infinite() -> None:
    teacher, student = torch.tensor([1.0, 0.0, -INF, -INF]), torch.tensor([-INF, -INF, 0.0, 0.3])
    for name in ("forward_kl", "reverse_kl", "jsd"):
        for side in ("teacher", "student"):
            assert float(divergence(name, teacher, student, route="topk", k=2, support=side, renormalise=True)) == INF


def test_a_wide_vocabulary_in_float32_agrees_with_float64() -> None:
    torch.manual_seed(16)
    teacher, student = torch.randn(2, 50_000) * 3, torch.randn(2, 50_000) * 3
    for rest in REMAINDERS:
        for side in SUPPORTS:
            exact, found = (
                divergence("jsd", teacher.to(dtype), student.to(dtype), route="topk", k=64, support=side, **rest)
                for dtype in (torch.float64, torch.float32)
            )
            torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


# --- Mistakes -------------------------------------------------------------------------------------------------------


def test_mistakes_are_named() -> None:
    ok = torch.zeros(2, 3)
    for choices, error, words in (
        ({}, ConfigError, "needs k"),
        ({"k": 0}, UsageError, "k=0: the support needs one token"),
        ({"k": 2, "support": "techer"}, ConfigError, "did you mean 'teacher'"),
        ({"k": 2, "tail": True, "renormalise": True}, ConfigError, "two ways to account for the mass"),
        ({"k": 2, "renormalise": "student"}, ConfigError, "renormalise='student': expected False, True"),
        ({"k": 2, "form": "scores"}, ConfigError, "did you mean 'score'"),
        ({"k": 2, "form": "score", "tail": True}, ConfigError, "tail=False and renormalise=False"),
        ({"k": 2, "form": "score", "renormalise": "teacher"}, ConfigError, "tail=False and renormalise=False"),
    ):
        with pytest.raises(error, match=words):
            divergence("jsd", ok, ok, route="topk", **choices)  # type: ignore[arg-type]  # what is to be refused
    for choices in ({"k": 2}, {"support": "student"}, {"tail": False}, {"renormalise": True}, {"form": "score"}):
        with pytest.raises(ConfigError, match="belong to route='topk'"):
            divergence("jsd", ok, ok, **choices)  # type: ignore[arg-type]  # what is to be refused
    with pytest.raises(UsageError, match="do not fit"):
        sparse_divergence("jsd", torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 3), ok)
    with pytest.raises(UsageError, match=r"ids are torch\.float32"):
        sparse_divergence("jsd", torch.zeros(2, 2), torch.zeros(2, 2), ok)
    with pytest.raises(UsageError, match=r"ids go up to 3, but .* 3 tokens"):
        sparse_divergence("jsd", torch.tensor([[0, 3], [0, 1]]), torch.zeros(2, 2), ok)
