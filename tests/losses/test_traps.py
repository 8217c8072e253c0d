"""Traps of whole distributions that stand in public code: each is named, and shown to fail what our form passes.

p teacher, q student; pair 1 is p = (.7, .2, .1), q = (.5, .3, .2).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from traps import tells_apart

from agentdistill.errors import ConfigError
from agentdistill.losses import bridge, divergence

Form = Callable[[Tensor, Tensor], Tensor]
"""(ln p, ln q) -> D."""
CLOSE = {"abs": 1e-9}


def of(name: str, **choices: object) -> Form:
    return lambda p, q: divergence(name, p, q, **choices)  # type: ignore[arg-type]  # tests pass anything


def gradient(form: Form, p: Tensor, q: Tensor) -> Tensor:
    """With respect to the student's logits."""
    leaf = q.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(form(p, leaf.log_softmax(-1)).sum(), leaf)
    return found


def kl(a: Tensor, b: Tensor) -> Tensor:
    return (a.exp() * (a - b)).sum(-1)


# --- Which divergence, and on which side ---------------------------------------------------------------------------------


def test_jensen_shannon_with_beta_on_the_students_side(pair: tuple[Tensor, Tensor]) -> None:
    """DistiLLM's js_distance and KDFlow put the weight on the student; TRL, SDPO and OPSD, as GKD's paper, on the teacher."""

    def check(form: Callable[[float], Form]) -> None:
        assert float(form(0.1)(*pair)) == pytest.approx(0.007694687676, **CLOSE)
        assert float(form(0.9)(*pair)) == pytest.approx(0.008184755843, **CLOSE)

    tells_apart(check, ours=lambda beta: of("jsd", beta=beta), trapped=lambda beta: of("jsd", beta=1 - beta))


def test_jensen_shannon_that_jumps_at_its_ends(pair: tuple[Tensor, Tensor]) -> None:
    """TRL's GKD takes forward KL at β = 0 and reverse KL at β = 1, although JSD_β tends to 0 there: the loss jumps by a factor of ten."""
    near = 1e-6

    def trapped(beta: float) -> Form:
        return of({0.0: "forward_kl", 1.0: "reverse_kl"}[beta]) if beta in (0, 1) else of("jsd", beta=beta)

    def check(form: Callable[[float], Form]) -> None:
        for end, inside in ((0.0, near), (1.0, 1 - near)):
            try:
                value = float(form(end)(*pair))
            except ConfigError:  # refused is no jump
                continue
            assert value == pytest.approx(float(form(inside)(*pair)), abs=1e-4)

    tells_apart(check, ours=lambda beta: of("jsd", beta=beta), trapped=trapped)
    with pytest.raises(ConfigError, match="forward_kl"):
        of("jsd", beta=0)(*pair)
    assert float(of("jsd", beta=1e-4)(*pair)) / 1e-4 == pytest.approx(0.085114659283, **CLOSE)
    assert float(of("jsd", beta=1 - 1e-4)(*pair)) / 1e-4 == pytest.approx(0.092022493244, **CLOSE)


def test_cross_entropy_returned_as_a_divergence(pair: tuple[Tensor, Tensor]) -> None:
    """DistiLLM's forward_kl and skewed_forward_kl leave out Σ p ln p: the gradient is right, the value is not and never reaches 0."""

    def mixed(p: Tensor, q: Tensor) -> Tensor:
        return torch.logaddexp(p + math.log(0.1), q + math.log(0.9))

    forms = [
        (of("forward_kl"), lambda p, q: -(p.exp() * q).sum(-1), 0.085122825957, 0.886941378501),
        (of("skew_kl", alpha=0.1), lambda p, q: -(p.exp() * mixed(p, q)).sum(-1), 0.069577966524, 0.871396519067),
    ]
    for ours, trapped, value, entropy in forms:

        def check(form: Form, value: float = value) -> None:
            assert float(form(*pair)) == pytest.approx(value, **CLOSE)
            assert float(form(pair[0], pair[0])) == pytest.approx(0, **CLOSE)

        tells_apart(check, ours=ours, trapped=trapped)
        assert float(trapped(*pair)) == pytest.approx(entropy, **CLOSE)
        torch.testing.assert_close(gradient(ours, *pair), gradient(trapped, *pair))


def test_reverse_kl_with_its_sign_turned(pair: tuple[Tensor, Tensor]) -> None:
    """DistiLLM-2's trainer falls back to Σ q (ln p − ln q), under the name of reverse KL: descending it leaves the teacher."""

    def check(form: Form) -> None:
        assert float(form(*pair)) == pytest.approx(0.092032850234, **CLOSE)
        p, q = pair
        after = (q - 0.1 * gradient(form, p, q)).log_softmax(-1)
        assert float(kl(after, p)) < float(kl(q, p))

    tells_apart(check, ours=of("reverse_kl"), trapped=lambda p, q: (q.exp() * (p - q)).sum(-1))


def test_the_generator_of_the_other_direction(pair: tuple[Tensor, Tensor]) -> None:
    """OPSD writes Σ p f(q/p): with f = u ln u, forward KL's generator in Σ q f(p/q), that is reverse KL."""

    def f(u: Tensor) -> Tensor:
        return u * u.log()

    def check(form: Form) -> None:
        assert float(form(*pair)) == pytest.approx(float((pair[1].exp() * f((pair[0] - pair[1]).exp())).sum()), **CLOSE)

    tells_apart(check, ours=of("forward_kl"), trapped=lambda p, q: (p.exp() * f((q - p).exp())).sum(-1))


def test_probabilities_interpolated_where_logits_are_meant(pair: tuple[Tensor, Tensor]) -> None:
    """TAID as it is often retold, αp + (1−α)q; paper and code interpolate logits, which is another target."""

    def mixture(p: Tensor, q: Tensor) -> Tensor:
        return kl((0.4 * p.exp() + 0.6 * q.exp().detach()).log(), q)

    def check(form: Form) -> None:
        assert float(form(*pair)) == pytest.approx(0.014994626617, **CLOSE)

    tells_apart(check, ours=of("forward_kl", target=bridge(0.4)), trapped=mixture)


def test_todi_with_the_two_directions_exchanged(pair: tuple[Tensor, Tensor]) -> None:
    """ToDi retold the wrong way round: forward KL is to weigh more where the teacher likes a token better, p > q."""

    def form(sign: float) -> Form:
        def value(p: Tensor, q: Tensor) -> Tensor:
            a = torch.sigmoid(sign * (p - q)).detach()
            return (a * p.exp() * (p - q) + (1 - a) * q.exp() * (q - p)).sum(-1)

        return value

    def check(one: Form) -> None:
        torch.testing.assert_close(gradient(one, *pair), gradient(form(1.0), *pair))

    tells_apart(check, ours=of("todi", beta=1.0), trapped=form(-1.0))


# --- Limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "beta", "golden", "lost"),
    [(0.0, 0.5, 0.180524672687, 0.5), (0.5, -0.5, 0.351557379031, 0.5), (0.5, 0.0, None, 0.5), (0.0, 1.0, 0.092032850234, 1.0)],
)
def test_limits_of_alpha_beta_that_lose_a_factor(
    alpha: float, beta: float, golden: float | None, lost: float, pair: tuple[Tensor, Tensor]
) -> None:
    """ABKD's branches for α = 0, β = 0 and α + β = 0 divide by β or α, not by its square: half the value at .5. At 1 nobody sees it."""
    near = float(of("alpha_beta", alpha=alpha + 1e-7, beta=beta + 1e-7)(*pair))

    def check(form: Form) -> None:
        assert float(form(*pair)) == pytest.approx(near, abs=1e-6)
        assert golden is None or float(form(*pair)) == pytest.approx(golden, **CLOSE)

    ours = of("alpha_beta", alpha=alpha, beta=beta)
    if lost == 1:
        check(ours)
        return
    tells_apart(check, ours=ours, trapped=lambda p, q: ours(p, q) * lost)


# --- The head of adaptive KL ----------------------------------------------------------------------------------------------

FOUR = tuple(torch.tensor(row, dtype=torch.float64).log() for row in ([0.1, 0.15, 0.5, 0.25], [0.3, 0.05, 0.25, 0.4]))


def adaptive(head_of: Callable[[Tensor], Tensor]) -> Form:
    def value(p: Tensor, q: Tensor) -> Tensor:
        head, gaps = head_of(p.exp()), (p.exp() - q.exp()).abs()
        w = gaps[head].sum() / gaps.sum()
        return w * kl(p, q) + (1 - w) * kl(q, p)

    return value


def sorted_mask(p: Tensor) -> Tensor:
    ordered = p.sort(descending=True).values
    found = ordered.cumsum(-1) <= 0.5
    found[0] = True
    return found


def ascending(p: Tensor) -> Tensor:
    order = p.argsort()
    found = torch.zeros_like(p, dtype=torch.bool)
    found[order[p[order].cumsum(-1) <= 0.5]] = True
    return found


@pytest.mark.parametrize("head", [sorted_mask, ascending])
def test_a_head_that_is_not_the_teachers_likeliest_tokens(head: Callable[[Tensor], Tensor]) -> None:
    """AKL in TAID's repository lays the mask of sorted tokens on gaps in the order of ids; KDFlow's sums up from the least likely."""
    p, q = FOUR
    first = (p.exp()[2] - q.exp()[2]).abs() / (p.exp() - q.exp()).abs().sum()  # the head is token 2 alone: .5 of the mass

    def check(form: Form) -> None:
        assert float(form(p, q)) == pytest.approx(float(first * kl(p, q) + (1 - first) * kl(q, p)), **CLOSE)
        for order in itertools.permutations(range(4)):
            assert float(form(p[list(order)], q[list(order)])) == pytest.approx(float(form(p, q)), **CLOSE)

    tells_apart(check, ours=of("adaptive_kl", mu=0.5), trapped=adaptive(head))


# --- Parts of the vocabulary ----------------------------------------------------------------------------------------------


def test_only_the_teacher_renormalised_over_its_top_tokens(pair: tuple[Tensor, Tensor]) -> None:
    """EOPD-style forward KL: the student is not renormalised, so −ln of its mass on the support is added, .2231 here."""
    p, q = pair

    def check(form: Form) -> None:
        assert float(form(p, q)) == pytest.approx(0.053814235469, **CLOSE)
        assert float(form(p, p)) == pytest.approx(0, **CLOSE)

    both, one = (of("forward_kl", route="topk", k=2, renormalise=sides) for sides in (True, "teacher"))
    tells_apart(check, ours=both, trapped=one)
    assert float(one(p, q)) == pytest.approx(0.276957786784, **CLOSE)
    assert float(one(p, q) - both(p, q)) == pytest.approx(-math.log(0.8), **CLOSE)


@pytest.mark.parametrize("ours", [{"tail": True}, {"renormalise": True}], ids=["tail", "renormalised"])
def test_top_tokens_of_reverse_kl_with_nothing_for_the_rest(ours: dict[str, bool], pair: tuple[Tensor, Tensor]) -> None:
    """verl's top-k reverse KL, taken out and asked for again: negative, and descending it pushes the student off the support."""
    p, q = pair

    def check(form: Form) -> None:
        assert float(form(p, q)) >= 0
        assert float(gradient(form, p, p).abs().max()) < 1e-9, "where both agree there is nothing to do"
        at, steps = p.clone(), 20
        for _ in range(steps):
            at = (at - 0.5 * gradient(form, p, at)).log_softmax(-1)
        assert float(at.exp()[2]) < 0.11, "the mass off the support grew"

    bare = of("reverse_kl", route="topk", k=2, tail=False)
    tells_apart(check, ours=of("reverse_kl", route="topk", k=2, **ours), trapped=bare)
    assert float(bare(p, q)) == pytest.approx(-0.046596585878, **CLOSE)


# --- Precision -----------------------------------------------------------------------------------------------------------


def test_a_loss_accumulated_in_bfloat16() -> None:
    """Liger's fused JSD of bfloat16 heads reads 2 % low: the sum over the vocabulary is kept in the inputs' type."""
    torch.manual_seed(0)
    p, q = (torch.randn(8, 4096).mul(2).bfloat16() for _ in range(2))
    exact = of("jsd")(p.double(), q.double())

    def trapped(teacher: Tensor, student: Tensor) -> Tensor:
        lp, lq = teacher.log_softmax(-1), student.log_softmax(-1)
        m = (0.5 * lp.exp() + 0.5 * lq.exp()).log()
        terms = 0.5 * lp.exp() * (lp - m) + 0.5 * lq.exp() * (lq - m)
        total = torch.zeros(8, dtype=torch.bfloat16)
        for piece in terms.split(64, -1):
            total += piece.sum(-1)
        return total

    def check(form: Form) -> None:
        assert float((form(p, q).double() / exact - 1).abs().max()) < 1e-4

    tells_apart(check, ours=of("jsd"), trapped=trapped)
