"""Surrogates of the policy gradient, each against its own definition: values, gradients, and what a mask may not let through."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError
from agentdistill.losses import PolicyGradient, policy_gradient
from agentdistill.losses.mismatch import mismatch_weight, sequence_total


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def run(ratio: float, advantage: float, **settings) -> tuple[float, float, PolicyGradient]:
    """Loss and gradient in ln π_θ of one token with π_old = e⁻¹."""
    student = tensor(math.log(ratio) - 1.0).requires_grad_()
    result = policy_gradient(student, tensor(advantage), old_logprobs=tensor(-1.0), **settings)
    (gradient,) = torch.autograd.grad(result.loss.sum(), student)
    return float(result.loss.detach()), float(gradient), result


# --- dual clip ------------------------------------------------------------------------------------------------------


def test_dual_clip_bounds_what_a_bad_token_can_cost_and_leaves_good_ones_alone() -> None:
    """ratio, advantage -> loss, gradient, clipped; ppo_clip .2, dual_clip 3."""
    cases = [
        (2.9, -2.0, 5.8, 5.8, False),
        (3.1, -2.0, 6.0, 0.0, True),
        (1e9, -2.0, 6.0, 0.0, True),
        (0.5, -2.0, 1.6, 0.0, True),
        (3.1, 2.0, -2.4, 0.0, True),
        (1.1, 2.0, -2.2, -2.2, False),
        (1e9, 0.0, 0.0, 0.0, False),
    ]
    for ratio, advantage, loss, slope, clipped in cases:
        found_loss, gradient, result = run(ratio, advantage, ppo_clip=(0.2, 0.2), dual_clip=3.0)
        assert found_loss == pytest.approx(loss, abs=1e-9), (ratio, advantage)
        assert gradient == pytest.approx(slope, abs=1e-9), (ratio, advantage)
        assert bool(result.clipped) is clipped


def test_dual_clip_is_the_maximum_of_the_clipped_term_and_c_times_the_advantage() -> None:
    torch.manual_seed(0)
    student, old, advantages = torch.randn(3, 400, dtype=torch.float64) * 1.5
    leaf = student.clone().requires_grad_()
    ratio = (leaf - old).exp()
    term = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.3) * advantages)
    expected = -torch.where(advantages < 0, torch.maximum(term, 2.0 * advantages), term)
    found = policy_gradient(leaf, advantages, old_logprobs=old, ppo_clip=(0.2, 0.3), dual_clip=2.0)
    torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(each.sum(), leaf)[0] for each in (found.loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert torch.equal(found.clipped, (gradients[0] == 0) & (advantages != 0))


def test_dual_clip_works_without_a_ppo_clip() -> None:
    assert run(5.0, -1.0, dual_clip=3.0)[:2] == (3.0, 0.0)
    assert run(5.0, 1.0, dual_clip=3.0)[:2] == pytest.approx((-5.0, -5.0))


# --- cispo ----------------------------------------------------------------------------------------------------------


def test_cispo_weighs_the_score_function_by_the_clipped_ratio_and_drops_no_token() -> None:
    """ratio, advantage -> gradient, at a bound; upper bound 1.5 and, in the last two, lower bound .8."""
    cases = [
        (1.2, 2.0, (1.0, 0.5), -2.4, False),
        (9.0, 2.0, (1.0, 0.5), -3.0, True),
        (9.0, -2.0, (1.0, 0.5), 3.0, True),
        (0.1, 2.0, (1.0, 0.5), -0.2, False),
        (0.1, 2.0, (0.2, 0.5), -1.6, True),
        (0.1, -2.0, (0.2, 0.5), 1.6, True),
    ]
    for ratio, advantage, clip, slope, clipped in cases:
        loss, gradient, result = run(ratio, advantage, surrogate="cispo", ppo_clip=clip)
        assert gradient == pytest.approx(slope), (ratio, advantage)
        assert loss == pytest.approx(slope * (math.log(ratio) - 1.0)), "−w Â ln π_θ"
        assert bool(result.clipped) is clipped


def test_cispo_and_ppo_have_the_same_gradient_where_nothing_is_clipped() -> None:
    torch.manual_seed(1)
    old, advantages = torch.randn(2, 50, dtype=torch.float64)
    leaf = (old + 0.05 * torch.randn(50, dtype=torch.float64)).requires_grad_()
    losses = [policy_gradient(leaf, advantages, old_logprobs=old, surrogate=name, ppo_clip=(0.5, 0.5)).loss for name in ("ppo", "cispo")]
    first, second = (torch.autograd.grad(loss.sum(), leaf)[0] for loss in losses)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def test_the_trapped_form_of_cispo_which_lets_gradient_through_the_ratio_is_another_one() -> None:
    _, gradient, _ = run(9.0, 2.0, surrogate="cispo", ppo_clip=(1.0, 0.5))
    _, trapped, _ = run(9.0, 2.0, ppo_clip=(1.0, 0.5))
    assert (gradient, trapped) == pytest.approx((-3.0, 0.0))


# --- gspo -----------------------------------------------------------------------------------------------------------

LENGTHS = (4, 1, 7)
SEQUENCE = torch.repeat_interleave(torch.arange(3), torch.tensor(LENGTHS))


@pytest.mark.parametrize("advantages", [(1.0, -2.0, 0.5), (-1.0, 2.0, -0.5)])
@pytest.mark.parametrize("clip", [None, (0.01, 0.02), (0.3, 0.4)])
def test_gspo_has_the_gradient_of_the_sequence_form(clip: tuple[float, float] | None, advantages: tuple[float, ...]) -> None:
    """The definition: −mean over sequences of min(s Â, clip(s) Â), s = exp(mean_t(ln π_θ − ln π_old)), differentiated through s."""
    torch.manual_seed(2)
    old = -torch.rand(12, dtype=torch.float64)
    leaf = (old + 0.2 * torch.randn(12, dtype=torch.float64)).requires_grad_()
    advantage = torch.tensor(advantages, dtype=torch.float64)
    ratios = torch.stack([each.mean().exp() for each in (leaf - old).split(LENGTHS)])
    low, high = (0.0, math.inf) if clip is None else (1 - clip[0], 1 + clip[1])
    direct = -torch.minimum(ratios * advantage, ratios.clamp(low, high) * advantage).mean()
    log_ratio = sequence_total((leaf - old).detach(), SEQUENCE, mean=True)
    result = policy_gradient(leaf, advantage[SEQUENCE], old_logprobs=old, surrogate="gspo", ppo_clip=clip, sequence_log_ratio=log_ratio)
    token_form = torch.stack([each.mean() for each in result.loss.split(LENGTHS)]).mean()
    assert float(token_form.detach()) == pytest.approx(float(direct.detach()), rel=1e-12)
    found, expected = (torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in (token_form, direct))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(result.ratio, ratios.detach()[SEQUENCE])
    for one in result.clipped.split(LENGTHS):
        assert one.all() or not one.any(), "a sequence is clipped as a whole"


def test_gspo_clips_a_sequence_whose_tokens_cancel_less_than_ppo_does() -> None:
    old, student = tensor(-1.0, -1.0), tensor(-0.5, -1.5)
    kept = policy_gradient(student, tensor(1.0, 1.0), old_logprobs=old, ppo_clip=(0.2, 0.2), sequence_log_ratio=tensor(0.0, 0.0))
    assert not kept.clipped.any()
    assert policy_gradient(student, tensor(1.0, 1.0), old_logprobs=old, ppo_clip=(0.2, 0.2)).clipped.tolist() == [True, False]


# --- trust region in probability ------------------------------------------------------------------------------------


def test_tv_mask_drops_the_tokens_that_would_leave_the_region_further() -> None:
    """π_θ, π_rollout, Â -> dropped, and dropped by the symmetric form; lo .1, hi .2."""
    cases = [
        (0.75, 0.5, 1.0, True, True),
        (0.75, 0.5, -1.0, False, True),
        (0.65, 0.5, 1.0, False, False),
        (0.35, 0.5, -1.0, True, True),
        (0.35, 0.5, 1.0, False, True),
        (0.45, 0.5, -1.0, False, False),
        (1e-3, 1e-6, 1.0, False, False),
        (0.75, math.nan, 1.0, False, False),
    ]
    for probability, rollout, advantage, dropped, symmetric in cases:
        for form, expected in ((False, dropped), (True, symmetric)):
            student = tensor(math.log(probability)).requires_grad_()
            result = policy_gradient(
                student,
                tensor(advantage),
                rollout_logprobs=tensor(rollout).log(),
                tv_mask=(0.1, 0.2),
                tv_mask_symmetric=form,
            )
            (gradient,) = torch.autograd.grad(result.loss.sum(), student)
            assert bool(result.dropped) is expected, (probability, rollout, advantage, form)
            assert float(gradient) == (0.0 if expected else -advantage)
            assert float(result.loss.detach()) == (0.0 if expected else -advantage)


def test_the_mask_looks_at_probabilities_and_not_at_ratios() -> None:
    """A ratio of 1000 on a rare token passes; a ratio of 1.5 on a likely one does not. That is what tells it from ppo_clip."""
    student, rollout = tensor(1e-3, 0.9).log(), tensor(1e-6, 0.6).log()
    masked = policy_gradient(student, tensor(1.0, 1.0), old_logprobs=rollout, rollout_logprobs=rollout, tv_mask=(0.2, 0.2))
    assert masked.dropped.tolist() == [False, True]
    assert not masked.clipped.any()


def test_the_ratio_penalty_pulls_every_token_back_dropped_ones_too() -> None:
    old = tensor(0.5, 0.5).log()
    student = tensor(0.9, 0.4).log().requires_grad_()
    result = policy_gradient(
        student,
        tensor(1.0, 0.0),
        old_logprobs=old,
        ppo_clip=(0.1, 0.1),
        rollout_logprobs=old,
        kappa=tensor(0.5, 0.5),
        tv_mask=(0.2, 0.2),
        ratio_penalty=1e-3,
    )
    (gradient,) = torch.autograd.grad(result.loss.sum(), student)
    drift = (student - old).detach()
    assert result.dropped.tolist() == [True, False]
    assert not result.clipped.any(), "a clip did not decide what a mask had dropped"
    torch.testing.assert_close(result.loss.detach(), 1e-3 * drift.square())
    torch.testing.assert_close(gradient, 2e-3 * drift)


# --- kappa ----------------------------------------------------------------------------------------------------------


def test_kappa_is_multiplied_in_without_a_gradient_of_its_own() -> None:
    student, old, rollout = tensor(-1.0, -1.0, -1.0).requires_grad_(), tensor(-1.1, -0.9, -1.0), tensor(-3.0, -1.0, math.nan)
    kappa = mismatch_weight(old, rollout, kind="tis", cap=2.0).weight
    given = policy_gradient(student, tensor(1.0, -1.0, 1.0), old_logprobs=old, kappa=kappa.clone().requires_grad_())
    short = policy_gradient(student, tensor(1.0, -1.0, 1.0), old_logprobs=old, rollout_logprobs=rollout, mismatch_cap=2.0)
    torch.testing.assert_close(given.loss, short.loss)
    gradients = [torch.autograd.grad(each.loss.sum(), student)[0] for each in (given, short)]
    torch.testing.assert_close(*gradients)
    assert float(kappa[2]) == 1.0, "no rollout log-probability, no correction"


def test_a_token_that_kappa_masks_says_nothing_however_far_it_drifted() -> None:
    student = torch.tensor([-1.0], requires_grad=True)
    result = policy_gradient(student, torch.ones(1), old_logprobs=torch.tensor([-900.0]), kappa=torch.zeros(1))
    (gradient,) = torch.autograd.grad(result.loss.sum(), student)
    assert (float(result.loss.detach()), float(gradient)) == (0.0, 0.0)


# --- mistakes and numerics ------------------------------------------------------------------------------------------


def test_mistakes_are_named() -> None:
    one = torch.zeros(2)
    for settings_, kind, message in (
        ({"surrogate": "cipso"}, ConfigError, "no surrogate 'cipso'; .*did you mean 'cispo'"),
        ({"surrogate": "gspo"}, UsageError, "needs sequence_log_ratio"),
        ({"surrogate": "cispo", "dual_clip": 3.0}, ConfigError, "does not act on surrogate 'cispo'"),
        ({"dual_clip": 1.0}, ConfigError, "dual_clip=1 is not above 1"),
        ({"tv_mask": (0.2, 0.2)}, UsageError, "needs rollout_logprobs"),
        ({"tv_mask_symmetric": True}, ConfigError, "there is no tv_mask"),
        ({"ratio_penalty": -1.0}, ConfigError, "would reward drift"),
        ({"kappa": one, "mismatch_cap": 2.0, "rollout_logprobs": one}, ConfigError, "same mismatch twice"),
        ({"kappa": torch.zeros(3)}, UsageError, r"kappa \(3,\) and student_logprobs \(2,\)"),
        ({"sequence_log_ratio": torch.zeros(3)}, UsageError, r"sequence_log_ratio \(3,\)"),
    ):
        with pytest.raises(kind, match=message):
            policy_gradient(one, one, **settings_)


logprob = st.one_of(st.floats(-800, 0, width=32), st.just(-math.inf), st.just(-1e30), st.just(0.0))
surrogates = st.sampled_from(
    [
        {},
        {"ppo_clip": (0.2, 0.3)},
        {"ppo_clip": (1.0, 5.0), "dual_clip": 3.0},
        {"dual_clip": 3.0},
        {"surrogate": "cispo"},
        {"surrogate": "cispo", "ppo_clip": (1.0, 0.5)},
        {"tv_mask": (0.2, 0.2)},
        {"tv_mask": (0.0, 0.0), "tv_mask_symmetric": True, "ratio_penalty": 1e-3},
        {"mismatch_cap": 4.0, "ratio_penalty": 1.0},
    ]
)


tokens = given(
    logprob, logprob, st.one_of(logprob, st.just(math.nan)), st.sampled_from([-3.0, -0.5, 0.0, 0.5, 3.0]), surrogates, st.booleans()
)


def check_numerics(student: float, old: float, rollout: float, advantage: float, form: dict, whole: bool) -> None:
    """A finite loss has a finite gradient, and a token without a say has neither."""
    leaf = torch.tensor([student], requires_grad=True)
    sequence = {"sequence_log_ratio": torch.tensor([old - student])} if whole else {}
    result = policy_gradient(
        leaf, torch.tensor([advantage]), old_logprobs=torch.tensor([old]), rollout_logprobs=torch.tensor([rollout]), **form, **sequence
    )
    (gradient,) = torch.autograd.grad(result.loss.sum(), leaf)
    if bool(result.loss.isfinite().all()):
        assert bool(gradient.isfinite().all())
    if (advantage == 0 or bool(result.dropped)) and "ratio_penalty" not in form:
        assert (float(result.loss.detach()), float(gradient)) == (0.0, 0.0)


test_a_finite_loss_has_a_finite_gradient = settings(max_examples=800, deadline=None)(tokens(check_numerics))
test_a_finite_loss_has_a_finite_gradient_in_five_thousand_cases = pytest.mark.ci(
    settings(max_examples=5000, deadline=None)(tokens(check_numerics))
)
