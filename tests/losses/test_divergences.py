"""Divergences over the whole vocabulary: values and gradients against definitions, and rows that must do no harm."""

import math

import pytest
import torch
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError
from agentdistill.losses import DIVERGENCES, divergence, pathwise

from .definitions import CASES, IDS, definition

INF = math.inf

every_case = pytest.mark.parametrize(("name", "parameters"), CASES, ids=IDS)


def value_and_gradient(name: str, teacher: Tensor, student: Tensor, **choices: object) -> tuple[Tensor, Tensor]:
    leaf = student.detach().clone().requires_grad_()
    value = divergence(name, teacher, leaf, **choices)  # type: ignore[arg-type]  # tests pass anything
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


# --- Values ---------------------------------------------------------------------------------------------------------


GOLDEN = [
    ("forward_kl", {}, 0.085122825957),
    ("reverse_kl", {}, 0.092032850234),
    ("jeffreys", {}, 0.177155676191),
    ("jsd", {"beta": 0.1}, 0.007694687676),
    ("jsd", {"beta": 0.25}, 0.016156229978),
    ("jsd", {"beta": 0.5}, 0.021901178968),
    ("jsd", {}, 0.021901178968),
    ("jsd", {"beta": 0.75}, 0.016784267521),
    ("jsd", {"beta": 0.9}, 0.008184755843),
    ("tvd", {}, 0.2),
    ("chi2_pearson", {}, 0.163333333333),
    ("chi2_neyman", {}, 0.207142857143),
    ("hellinger", {}, 0.022021691174),
    ("alpha", {"alpha": -1}, 0.103571428571),
    ("alpha", {"alpha": 0}, 0.092032850234),
    ("alpha", {"alpha": 0.25}, 0.089927802121),
    ("alpha", {}, 0.088086764698),
    ("alpha", {"alpha": 0.75}, 0.086490687479),
    ("alpha", {"alpha": 1}, 0.085122825957),
    ("alpha", {"alpha": 2}, 0.081666666667),
    ("alpha", {"alpha": 3}, 0.080981481481),
    ("renyi", {}, 0.044535576616),
    ("renyi", {"alpha": 1}, 0.085122825957),
    ("renyi", {"alpha": 2}, 0.151289447546),
    ("renyi", {"alpha": 3}, 0.198006585777),
    ("renyi", {"alpha": INF}, 0.336472236621),
    ("skew_kl", {}, 0.069577966524),
    ("skew_kl", {"alpha": 0.2}, 0.055584723025),
    ("skew_kl", {"alpha": 0.5}, 0.022730254805),
    ("skew_reverse_kl", {}, 0.072827533459),
    ("skew_reverse_kl", {"alpha": 0.2}, 0.056395734945),
    ("skew_reverse_kl", {"alpha": 0.5}, 0.021072103132),
    ("alpha_beta", {"alpha": 1, "beta": 0}, 0.085122825957),
    ("alpha_beta", {"alpha": 0, "beta": 1}, 0.092032850234),
    ("alpha_beta", {}, 0.088086764698),
    ("alpha_beta", {"alpha": 1, "beta": 1}, 0.03),
    ("alpha_beta", {"alpha": 0.2, "beta": 0.7}, 0.102590650444),
    ("alpha_beta", {"alpha": 0.6, "beta": 0.3}, 0.098987121930),
    ("alpha_beta", {"alpha": 0.2, "beta": 0.5}, 0.133556582739),
    ("alpha_beta", {"alpha": 2, "beta": -1}, 0.081666666667),
    ("alpha_beta", {"alpha": 0.9, "beta": 0.2}, 0.076052027076),
    ("alpha_beta", {"alpha": 5, "beta": 1}, 0.003339666667),
    ("alpha_beta", {"alpha": 0.5, "beta": -0.5}, 0.351557379031),
    ("alpha_beta", {"alpha": 0, "beta": 0}, 0.379034266914),
    ("alpha_beta", {"alpha": 0, "beta": 0.5}, 0.180524672687),
    ("adaptive_kl", {}, 0.088577838096),
    ("todi", {}, 0.177155676191),
]


@pytest.mark.parametrize(("name", "parameters", "value"), GOLDEN)
def test_golden_values_of_pair_one(pair: tuple[Tensor, Tensor], name: str, parameters: dict[str, float], value: float) -> None:
    assert float(divergence(name, *pair, **parameters)) == pytest.approx(value, abs=1e-11)
    shifted = (pair[0] + 3.0, pair[1] - 7.0)  # logits, not only log-probabilities
    assert float(divergence(name, *shifted, **parameters)) == pytest.approx(value, abs=1e-11)


def test_jsd_tends_to_the_two_divergences_on_its_own_scale(pair: tuple[Tensor, Tensor]) -> None:
    """β weighs the teacher: β → 0 is forward KL, β → 1 reverse KL, and neither limit is reached by a jump."""
    assert float(divergence("jsd", *pair, beta=1e-4)) / 1e-4 == pytest.approx(0.085114659283, abs=1e-9)
    assert float(divergence("jsd", *pair, beta=1 - 1e-4)) / 1e-4 == pytest.approx(0.092022493244, abs=1e-9)


def test_skewed_and_plain_forward_kl_are_divergences_and_not_cross_entropies(pair: tuple[Tensor, Tensor]) -> None:
    """The trap: without the teacher's entropy the gradient is right and the value .8714 instead of .0696."""
    for name in ("forward_kl", "skew_kl"):
        assert float(divergence(name, pair[0], pair[0])) == pytest.approx(0.0, abs=1e-15)


def test_the_limits_of_alpha_beta_divide_by_the_square(pair: tuple[Tensor, Tensor]) -> None:
    """The trap: half of the value at (0, ½) and (½, −½), where only one factor of the limit was kept."""
    assert float(divergence("alpha_beta", *pair, alpha=0, beta=0.5)) != pytest.approx(0.090262336344, abs=1e-6)
    assert float(divergence("alpha_beta", *pair, alpha=0.5, beta=-0.5)) != pytest.approx(0.351557379031 / 2, abs=1e-6)


def test_todi_has_the_value_of_jeffreys_and_another_gradient(pair: tuple[Tensor, Tensor]) -> None:
    todi, jeffreys = (value_and_gradient(name, *pair) for name in ("todi", "jeffreys"))
    torch.testing.assert_close(todi[0], jeffreys[0], rtol=0, atol=1e-12)
    assert float((todi[1] - jeffreys[1]).abs().max()) > 0.01


def test_the_head_of_adaptive_kl_is_the_first_token_and_those_down_to_mass_mu(pair: tuple[Tensor, Tensor]) -> None:
    """The traps: a head found in ascending order, or a mask of the sorted tokens laid over unsorted gaps."""
    p, q = torch.tensor([0.1, 0.6, 0.05, 0.25], dtype=torch.float64), torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    forward, backward = float(divergence("forward_kl", p.log(), q.log())), float(divergence("reverse_kl", p.log(), q.log()))
    for mu, head in ((0.5, {1}), (0.6, {1}), (0.85, {1, 3}), (0.96, {1, 3, 0}), (1.0, {0, 1, 2, 3})):
        gaps = (p - q).abs()
        share = float(sum(gaps[v] for v in head) / gaps.sum())
        found = float(divergence("adaptive_kl", p.log(), q.log(), mu=mu))
        assert found == pytest.approx(share * forward + (1 - share) * backward, abs=1e-12), mu
    assert float(divergence("adaptive_kl", pair[0], pair[0])) == 0.0  # no gap: half of each, both 0


@every_case
def test_nothing_is_negative_and_equal_sides_give_nothing(name: str, parameters: dict[str, float]) -> None:
    torch.manual_seed(0)
    t, s = torch.randn(500, 9), torch.randn(500, 9)
    assert bool((divergence(name, t, s, **parameters) > 0).all())
    value, gradient = value_and_gradient(name, t, t, **parameters)
    assert bool((value < 1e-6).all())
    assert bool((value >= 0).all())
    if parameters.get("alpha") != INF:  # there, every token has the largest ratio, and rounding picks one
        assert float(gradient.abs().max()) < 1e-6


# --- Gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab", [3, 17, 50_000])
@every_case
def test_value_and_gradient_equal_autograd_through_the_definition(name: str, parameters: dict[str, float], vocab: int) -> None:
    torch.manual_seed(vocab)
    teacher, student = (torch.randn(2, 3, vocab, dtype=torch.float64) * 2 for _ in range(2))
    weights = torch.arange(6.0, dtype=torch.float64).view(2, 3)
    student.requires_grad_()
    expected = definition(name, teacher.softmax(-1), student.softmax(-1), **parameters)
    (expected_grad,) = torch.autograd.grad((expected * weights).sum(), student)
    value = divergence(name, teacher, student, **parameters)
    (grad,) = torch.autograd.grad((value * weights).sum(), student)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-9)


@every_case
def test_masked_rows_hold_anything_and_change_nothing(name: str, parameters: dict[str, float]) -> None:
    torch.manual_seed(8)
    teacher, student = torch.randn(5, 17, dtype=torch.float64), torch.randn(5, 17, dtype=torch.float64)
    mask = torch.tensor([True, False, True, False, False])
    expected = value_and_gradient(name, teacher[mask], student[mask], **parameters)
    for row, waste in ((1, math.nan), (3, INF), (4, -INF)):
        teacher[row], student[row] = waste, waste
    value, gradient = value_and_gradient(name, teacher, student, mask=mask, **parameters)
    torch.testing.assert_close((value[mask], gradient[mask]), expected, rtol=1e-9, atol=1e-12)
    assert not value[~mask].any()
    assert not gradient[~mask].any()


@every_case
def test_float32_agrees_with_float64(name: str, parameters: dict[str, float]) -> None:
    torch.manual_seed(1)
    teacher, student = torch.randn(64, 200) * 3, torch.randn(64, 200) * 3
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        t, s = teacher.to(dtype), student.to(dtype)
        exact, exact_gradient = value_and_gradient(name, t.double(), s.double(), **parameters)
        value, gradient = value_and_gradient(name, t, s, **parameters)
        assert value.dtype is torch.float32
        assert gradient.dtype is dtype
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
        if dtype is torch.float32:
            torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [case for case in CASES if case[0] not in ("adaptive_kl", "todi")],
    ids=[i for i in IDS if i[:4] not in ("adap", "todi")],
)
def test_gradient_equals_finite_differences(name: str, parameters: dict[str, float]) -> None:
    """But for those whose weights have no gradient: there, the slope of the value is another, and autograd is the reference."""
    torch.manual_seed(2)
    teacher, student = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    _, gradient = value_and_gradient(name, teacher, student, **parameters)
    differences = torch.zeros_like(student)
    for v in range(5):
        for weight, steps in ((4 / 3, 1e-4), (-1 / 3, 2e-4)):  # fourth order
            shift = torch.zeros(5, dtype=torch.float64)
            shift[v] = steps
            slope = divergence(name, teacher, student + shift, **parameters) - divergence(name, teacher, student - shift, **parameters)
            differences[:, v] += weight * slope / (2 * steps)
    torch.testing.assert_close(gradient, differences, rtol=1e-9, atol=1e-9)


def test_the_gradient_of_renyi_is_that_of_forward_kl_to_a_bridge() -> None:
    torch.manual_seed(9)
    teacher, student = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    for order in (0.25, 0.4, 0.5, 0.9, 3.0):
        _, gradient = value_and_gradient("renyi", teacher, student, alpha=order)
        expected = student.softmax(-1) - (order * teacher + (1 - order) * student).softmax(-1)
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


# --- Rows without mass ----------------------------------------------------------------------------------------------


@every_case
def test_rows_without_a_target_give_nothing_and_harm_nothing(name: str, parameters: dict[str, float]) -> None:
    torch.manual_seed(4)
    teacher, student = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    expected = value_and_gradient(name, teacher[[0, 2]], student[[0, 2]], **parameters)[1]
    teacher[1] = -INF
    value, gradient = value_and_gradient(name, teacher, student, **parameters)
    assert float(value[1]) == 0.0
    assert not gradient[1].any()
    torch.testing.assert_close(gradient[[0, 2]], expected, rtol=0, atol=1e-15)


@every_case
def test_tokens_that_neither_side_has_are_as_if_absent(name: str, parameters: dict[str, float]) -> None:
    torch.manual_seed(5)
    teacher, student = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    expected = value_and_gradient(name, teacher[:, :4], student[:, :4], **parameters)
    teacher[:, 4:], student[:, 4:] = -INF, -INF
    value, gradient = value_and_gradient(name, teacher, student, **parameters)
    torch.testing.assert_close(value, expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient[:, :4], expected[1], rtol=1e-12, atol=1e-12)
    assert not gradient[:, 4:].any()


ONLY_TEACHER = {"forward_kl", "jeffreys", "chi2_pearson", "alpha 1", "alpha 2.5", "renyi 1", "renyi 2", "renyi inf", "skew_kl 0"}
"""Infinite where the student lacks what the teacher has."""
ONLY_STUDENT = {"reverse_kl", "jeffreys", "chi2_neyman", "alpha -1", "alpha 0", "skew_reverse_kl 0"}
"""Infinite where the teacher lacks what the student has."""
BOTH = {"alpha_beta 0.5 -0.5", "alpha_beta 0 0", "adaptive_kl 0.5", "todi 1"}


@every_case
def test_one_sided_mass_is_infinite_exactly_where_the_definition_is(name: str, parameters: dict[str, float]) -> None:
    """Against the definition with the missing mass at 1e-300 where it is finite, and growing without bound where it is not."""
    key = " ".join([name, *(f"{value:g}" for value in parameters.values())])
    by_hand = {"alpha_beta 0 0.5": (False, True), "alpha_beta 0.4 0": (True, False), "alpha_beta -0.3 0.6": (False, True)}
    by_hand |= {"adaptive_kl 1": (True, False)}
    on_teacher, on_student = by_hand.get(key, (key in ONLY_TEACHER | BOTH, key in ONLY_STUDENT | BOTH))
    one = torch.tensor([[0.3, -0.2, -INF]], dtype=torch.float64)
    both = torch.tensor([[0.1, -0.4, 0.2]], dtype=torch.float64)
    for teacher, student, infinite in ((both, one, on_teacher), (one, both, on_student)):
        value, gradient = value_and_gradient(name, teacher, student, **parameters)
        assert (float(value) == INF) is infinite, (key, value)
        if not infinite:
            nearly = definition(name, teacher.softmax(-1).clamp_min(1e-250), student.softmax(-1).clamp_min(1e-250), **parameters)
            torch.testing.assert_close(value, nearly, rtol=1e-9, atol=1e-9)
            assert bool(gradient.isfinite().all())


def test_crossed_supports_are_infinite_exactly_where_the_definition_is() -> None:
    teacher = torch.tensor([[0.0, 0.0, -INF]], dtype=torch.float64)
    student = torch.tensor([[-INF, 0.0, 0.0]], dtype=torch.float64)
    assert float(divergence("forward_kl", teacher, student)) == INF
    assert float(divergence("reverse_kl", teacher, student)) == INF
    for name, expected in (("jsd", 0.5 * math.log(2)), ("tvd", 0.5), ("hellinger", 0.5), ("renyi", math.log(2) * 2)):
        value, gradient = value_and_gradient(name, teacher, student)
        assert float(value) == pytest.approx(expected, abs=1e-12), name
        assert bool(gradient.isfinite().all())


def test_disjoint_supports() -> None:
    teacher, student = torch.tensor([0.0, -INF], dtype=torch.float64), torch.tensor([-INF, 0.0], dtype=torch.float64)
    bounded = {"jsd": math.log(2), "tvd": 1.0, "hellinger": 1.0, "alpha": 4.0, "alpha_beta": 4.0, "skew_kl": math.log(10)}
    for name, entry in DIVERGENCES.items():
        value, gradient = value_and_gradient(name, teacher, student)
        if name in bounded or name == "skew_reverse_kl":
            assert float(value) == pytest.approx(bounded.get(name, math.log(10)), abs=1e-12), name
            assert bool(gradient.isfinite().all()), name
        else:
            assert float(value) == INF, (name, entry)


@pytest.mark.parametrize("masking", ["multiply", "where"])
def test_an_infinite_row_that_is_not_used_leaves_the_gradient_finite(masking: str) -> None:
    """The trap of masking after the arithmetic: a finite loss with a NaN gradient."""
    teacher = torch.tensor([[0.0, 1.0], [0.0, -INF]])
    student = torch.zeros(2, 2, requires_grad=True)
    value = divergence("reverse_kl", teacher, student)
    used = torch.tensor([True, False])
    loss = value[used].sum() if masking == "multiply" else torch.where(used, value, 0.0).sum()
    (grad,) = torch.autograd.grad(loss, student)
    assert bool(loss.isfinite())
    assert bool(grad.isfinite().all())
    assert not grad[1].any()


@pytest.mark.parametrize("temperature", [0.1, 0.05, 0.01])
def test_cold_distributions_have_finite_gradients(temperature: float) -> None:
    torch.manual_seed(6)
    for name, parameters in CASES:
        value, gradient = value_and_gradient(name, torch.randn(8, 50) / temperature, torch.randn(8, 50) / temperature, **parameters)
        assert not bool(value.isnan().any())
        assert bool(gradient[value.isfinite()].isfinite().all()), (name, parameters)


def test_a_nan_is_not_hidden() -> None:
    student = torch.zeros(1, 3)
    for name, parameters in CASES:
        assert bool(divergence(name, torch.tensor([[0.0, math.nan, 0.0]]), student, **parameters).isnan()), name
        assert bool(divergence(name, student, torch.tensor([[0.0, math.nan, 0.0]]), **parameters).isnan()), name


def test_the_teacher_receives_no_gradient() -> None:
    teacher = torch.zeros(2, 3, requires_grad=True)
    value = divergence("jsd", teacher, torch.randn(2, 3, requires_grad=True))
    value.sum().backward()
    assert teacher.grad is None


# --- Mistakes -------------------------------------------------------------------------------------------------------


def test_mistakes_are_named() -> None:
    ok = torch.zeros(2, 3)
    with pytest.raises(ConfigError, match="did you mean 'reverse_kl'"):
        divergence("reverse-kl", ok, ok)
    with pytest.raises(ConfigError, match="no route 'tok'; available: full, topk"):
        divergence("jsd", ok, ok, route="tok")
    with pytest.raises(ConfigError, match="'reverse_kl': no parameter 'beta'"):
        divergence("reverse_kl", ok, ok, beta=0.5)
    with pytest.raises(UsageError, match=r"\(2, 3\).*\(2, 4\)"):
        divergence("jsd", ok, torch.zeros(2, 4))
    with pytest.raises(UsageError, match="no vocabulary axis"):
        divergence("jsd", torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(UsageError, match=r"teacher_logits are torch\.int64"):
        divergence("jsd", ok.long(), ok)
    for mask in (torch.ones(3, dtype=torch.bool), torch.ones(2)):
        with pytest.raises(UsageError, match=r"expected \(2,\) of torch\.bool"):
            divergence("jsd", ok, ok, mask=mask)


@pytest.mark.parametrize(
    ("name", "key", "bad", "words"),
    [
        ("jsd", "beta", (0.0, 1.0, math.nan, -1.0), "strictly between 0 and 1; the limits are forward_kl and reverse_kl"),
        ("skew_kl", "alpha", (1.0, -0.1, math.nan), r"in \[0, 1\)"),
        ("skew_reverse_kl", "alpha", (1.0, -0.1), r"in \[0, 1\)"),
        ("alpha", "alpha", (INF, -INF, math.nan), "a finite number"),
        ("alpha_beta", "beta", (INF, math.nan), "a finite number"),
        ("renyi", "alpha", (0.0, -1.0, math.nan), r"in \(0, inf\]"),
        ("adaptive_kl", "mu", (0.0, 1.1, math.nan), r"in \(0, 1\]"),
        ("todi", "beta", (INF, math.nan), "a finite number"),
        ("todi", "beta", ("1", True, None), "is not a number; expected a finite number"),
    ],
)
def test_a_parameter_out_of_range_is_refused_in_words(name: str, key: str, bad: tuple[object, ...], words: str) -> None:
    for value in bad:
        with pytest.raises(ConfigError, match=f"{name!r}: {key}=.*{words}"):
            divergence(name, torch.zeros(3), torch.zeros(3), **{key: value})  # type: ignore[arg-type]  # what is to be refused


def test_the_table_says_formula_paper_range_and_character_of_each() -> None:
    assert set(DIVERGENCES) == {name for name, _ in CASES}
    for entry in DIVERGENCES.values():
        assert "arXiv" in entry.paper
        assert all((entry.formula, entry.bounded, entry.character))
        assert all(parameter.meaning and parameter.holds(parameter.default) for parameter in entry.takes.values())
        assert entry.parameters({}) == entry.defaults


def test_pathwise_takes_log_probabilities_and_leaves_them_alone(pair: tuple[Tensor, Tensor]) -> None:
    teacher, student = (side.clone() for side in pair)
    for name, parameters in CASES:
        value, gradient = pathwise(name, teacher, student, parameters)
        assert float(value) == pytest.approx(float(divergence(name, *pair, **parameters)), abs=1e-15)
        assert float(gradient.sum()) == pytest.approx(0.0, abs=1e-12)
    assert torch.equal(teacher, pair[0])
    assert torch.equal(student, pair[1])
