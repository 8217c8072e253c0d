"""Outcome, critic and teacher become one advantage: the four modes, their gates, and what ties them together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agentdistill.credit.combine import (
    NOBODY,
    PARTS,
    Scaling,
    Weights,
    agreement_gate,
    combine,
    combine_parts,
    outcome_gate,
    outcome_sigmoid_gate,
    route_by,
    sigmoid_gate,
    threshold_gate,
)
from agentdistill.errors import AlignmentError, ConfigError, UsageError

Z = np.array([1.0, -1.0, 0.5, 0.0])
C = np.array([0.2, 0.4, np.nan, -0.3])
S = np.array([0.3, 0.3, -2.0, 5.0])
streams = arrays(np.float64, 6, elements=st.floats(-50, 50))


def test_add_is_the_weighted_sum_and_what_nobody_reviewed_adds_nothing():
    total = combine("add", Z, C, S, weights=Weights(outcome=1, critic=0.5, teacher=0.1))
    assert total == pytest.approx([1 + 0.1 + 0.03, -1 + 0.2 + 0.03, 0.5 - 0.2, -0.15 + 0.5])


def test_one_number_for_the_episode_reaches_every_token_and_absent_parts_are_zero():
    assert combine("add", 0.5, None, S, weights=Weights(1, 7, 0)).tolist() == [0.5] * 4
    assert combine("add", Z, None, None, weights=Weights(2, 1, 1)) == pytest.approx(2 * Z)
    assert combine("add", 0.5, None, None, weights=Weights(2, 1, 1)).tolist() == [1.0]


def test_a_part_whose_weight_is_zero_is_never_read():
    wild = np.array([np.inf, -np.inf, np.nan, 1.0])
    assert combine("add", Z, wild, wild, weights=Weights(1, 0, 0)) == pytest.approx(Z)
    gated = combine("gate", Z, None, wild, weights=Weights(1, 0, 1), gate=[0, 0, 1, 1])
    assert gated == pytest.approx([1, -1, 0.5, 1])


def test_the_parts_sum_to_the_whole():
    for mode, more in (("add", {}), ("gate", {"gate": sigmoid_gate(S)}), ("route", {"route": [0, 1, 2, NOBODY]}), ("scale", {})):
        weights = Weights(1, 0.5, 0.5)
        parts = combine_parts(mode, Z, C, S, weights=weights, **more)
        assert set(parts) <= set(PARTS)
        assert combine(mode, Z, C, S, weights=weights, **more) == pytest.approx(sum(parts.values()))


# --------------------------------------------------------------------------------------------------------------------
# Scale
# --------------------------------------------------------------------------------------------------------------------


def test_a_ratio_stretches_the_outcome_towards_what_the_teacher_prefers():
    """λ .5, ε .2: exp(.3) = 1.35 is clipped to 1.2, exp(−.3) = .74 to .8, exp(.1) = 1.105 passes."""
    total = combine("scale", [1.0, -1.0, 2.0, 0.0], None, [0.3, 0.3, 0.1, 9.0], weights=Weights(1, 0, 0.5))
    assert total == pytest.approx([1.1, -0.9, 2 * (0.5 + 0.5 * math.exp(0.1)), 0.0])


def test_a_residual_is_added_and_stopped_at_zero():
    scaling = Scaling(form="residual", temperature=0.03, bound=0.5)
    total = combine("scale", [1.0, -1.0, 0.05, 0.0], None, [0.03, 0.03, -9.0, 9.0], weights=Weights(1, 0, 0.1), scaling=scaling)
    assert total == pytest.approx([1 + 0.1 * math.tanh(1), -1 + 0.1 * math.tanh(1), 0.0, 0.0])
    bound = combine("scale", 1.0, None, 9.0, weights=Weights(1, 0, 3), scaling=Scaling(form="residual", bound=0.5))
    assert bound.tolist() == [1.5]


def test_small_residuals_are_left_out():
    scaling = Scaling(form="residual", temperature=1, threshold=0.02)
    total = combine("scale", 1.0, None, [0.01, 1.0], weights=Weights(1, 0, 0.5), scaling=scaling)
    assert total == pytest.approx([1.0, 1 + 0.5 * math.tanh(1)])


@given(streams, streams, streams, st.floats(0, 1), st.floats(0, 0.99), st.sampled_from(["ratio", "residual"]))
def test_scaling_never_turns_the_sign_of_what_it_scales(z, c, s, share, clip, form):
    scaling = Scaling(form=form, clip=clip, temperature=0.03, bound=0.5)
    base = combine("add", z, c, None, weights=Weights(1, 0.3, 0))
    total = combine("scale", z, c, s, weights=Weights(1, 0.3, share), scaling=scaling)
    assert (base * total >= 0).all()
    assert (total[base == 0] == 0).all()
    if form == "ratio":
        assert (np.sign(total) == np.sign(base)).all()
        assert (np.abs(total - base) <= clip * np.abs(base) * (1 + 1e-12) + 1e-300).all()


def test_an_unreviewed_token_keeps_its_outcome_as_it_is():
    for form in ("ratio", "residual"):
        total = combine("scale", 0.7, None, [np.nan, 1.0], weights=Weights(1, 0, 0.5), scaling=Scaling(form=form))
        assert total[0] == 0.7
        assert total[1] > 0.7


def test_a_gap_without_bound_is_clipped_before_it_overflows():
    with np.errstate(over="raise"):
        total = combine("scale", [1.0, 1.0, -1.0], None, [np.inf, -np.inf, 1e9], weights=Weights(1, 0, 0.5))
    assert total == pytest.approx([1.1, 0.9, -0.9])


# --------------------------------------------------------------------------------------------------------------------
# Gate, route, and the equality of a gated loss with a shaped advantage
# --------------------------------------------------------------------------------------------------------------------


@given(streams, streams, streams, arrays(np.bool_, 6))
def test_a_route_is_a_gate_with_complementary_masks(z, c, s, right):
    weights = Weights(1, 1, 0.3)
    routed = combine("route", z, c, s, weights=weights, route=route_by(right))
    masks = {"outcome": outcome_gate(right, "right"), "critic": np.zeros(6), "teacher": outcome_gate(right, "wrong")}
    assert np.array_equal(masks["outcome"] + masks["teacher"], np.ones(6))
    assert np.array_equal(routed, combine("gate", z, c, s, weights=weights, gate=masks))
    assert np.array_equal(routed, np.where(right, z, 0.3 * s))


@given(streams, streams, arrays(np.float64, 6, elements=st.floats(0, 1)))
def test_a_gate_is_an_addition_with_a_weight_a_token(z, s, gate):
    gated = combine("gate", z, None, s, weights=Weights(1, 0, 0.4), gate=gate)
    assert gated == pytest.approx(combine("add", z, None, gate * s, weights=Weights(1, 0, 0.4)), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("form", ["score", "sampled square"])
def test_gating_a_distillation_loss_is_shaping_the_advantage(form):
    """∇[−Σ A ln q + λ Σ w ℓ] = ∇[−Σ (A + λ w S) ln q] for ℓ = −sg[S] ln q and for ℓ = ½ (ln q − ln p)², whose gradient is −S ∇ln q."""
    rng = np.random.default_rng(3)
    logits, teacher = rng.normal(size=(2, 40, 9))
    tokens = torch.tensor(rng.integers(0, 9, 40))
    outcome, gate = rng.normal(size=40), rng.uniform(size=40)
    student = torch.tensor(logits, requires_grad=True)
    ln_q = student.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    ln_p = torch.tensor(teacher).log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    gap = (ln_p - ln_q).detach()

    distillation = -gap * ln_q if form == "score" else 0.5 * (ln_q - ln_p).square()
    separate = -(torch.tensor(outcome) * ln_q).sum() + 0.3 * (torch.tensor(gate) * distillation).sum()
    (expected,) = torch.autograd.grad(separate, student, retain_graph=True)

    advantage = combine("gate", outcome, None, gap.numpy(), weights=Weights(1, 0, 0.3), gate=gate)
    (shaped,) = torch.autograd.grad(-(torch.tensor(advantage) * ln_q).sum(), student, retain_graph=True)
    assert (shaped - expected).abs().max() < 1e-9
    ungated = combine("add", outcome, None, gap.numpy(), weights=Weights(1, 0, 0.3))
    (other,) = torch.autograd.grad(-(torch.tensor(ungated) * ln_q).sum(), student)
    assert (other - expected).abs().max() > 1e-2


def test_gated_self_imitation_hears_the_teacher_through_the_gate_alone():
    """S = 1: no token is pushed down, however much the teacher dislikes it."""
    gap = np.array([-9.0, -0.1, 0.0, 0.2, 9.0])
    advantage = combine("gate", 0.0, None, np.ones(5), weights=Weights(0, 0, 0.1), gate=sigmoid_gate(gap, beta=5))
    assert (advantage > 0).all()
    assert (np.diff(advantage) > 0).all()
    assert advantage[2] == pytest.approx(0.05)


# --------------------------------------------------------------------------------------------------------------------
# Gates
# --------------------------------------------------------------------------------------------------------------------


def test_gates_have_the_values_that_their_formulas_say():
    assert sigmoid_gate([0.2, -0.2, np.nan], beta=5) == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0])
    assert outcome_sigmoid_gate([1.0, -1.0], gamma=2, low=0.2, high=0.8) == pytest.approx(
        [0.2 + 0.6 / (1 + math.exp(2)), 0.2 + 0.6 / (1 + math.exp(-2))]
    )
    assert agreement_gate([1, 1, -1, 0, 0], [0.1, -0.1, -3, 0, 2]).tolist() == [1, 0, 1, 1, 0]
    assert agreement_gate(1.0, [np.nan, 2.0]).tolist() == [0, 1]
    assert outcome_gate([True, False], "wrong").tolist() == [0, 1]
    assert outcome_gate([True, False], "right").tolist() == [1, 0]
    assert threshold_gate([0.7, 0.8, 0.9, np.nan], 0.8).tolist() == [0, 0, 1, 0]
    assert threshold_gate([0.7, 0.8, 0.9, np.nan], 0.8, "at_least").tolist() == [0, 1, 1, 0]
    assert threshold_gate([0.7, 0.8, 0.9, np.nan], 0.8, "below").tolist() == [1, 0, 0, 0]


@given(streams, streams, st.floats(-20, 20))
def test_every_gate_stays_within_zero_and_one(one, other, parameter):
    for gate in (
        sigmoid_gate(one, parameter),
        outcome_sigmoid_gate(one, parameter),
        agreement_gate(one, other),
        threshold_gate(one, parameter),
    ):
        assert gate.shape == (6,)
        assert ((gate >= 0) & (gate <= 1)).all()


# --------------------------------------------------------------------------------------------------------------------
# What is refused
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "more", "error", "says"),
    [
        ("ad", {}, ConfigError, "did you mean 'add'"),
        ("add", {"gate": np.ones(4)}, UsageError, "gate is for mode=gate, but mode is add"),
        ("gate", {"route": np.zeros(4, int)}, UsageError, "mode=gate needs gate|route is for mode=route"),
        ("gate", {}, UsageError, "mode=gate needs gate"),
        ("route", {}, UsageError, "mode=route needs route"),
        ("route", {"route": [0, 1, 2, 3]}, UsageError, "0 to 2 for outcome, critic, teacher"),
        ("route", {"route": [0, 1]}, AlignmentError, "the sample has 4 tokens"),
        ("gate", {"gate": [0.5, 0.5]}, AlignmentError, "the sample has 4 tokens"),
        ("gate", {"gate": [0, 0, 0, 1.5]}, UsageError, r"outside \[0, 1\]"),
        ("gate", {"gate": [0, 0, 0, np.nan]}, UsageError, r"outside \[0, 1\]"),
        ("gate", {"gate": {"teachr": np.ones(4)}}, UsageError, "did you mean 'teacher'"),
        ("scale", {"scaling": Scaling(form="ratios")}, ConfigError, "did you mean 'ratio'"),
        ("scale", {"scaling": Scaling(clip=1.0)}, ConfigError, "could turn"),
        ("scale", {"scaling": Scaling(form="residual", temperature=0)}, ConfigError, "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(mode, more, error, says):
    with pytest.raises(error, match=says):
        combine(mode, Z, C, S, weights=Weights(1, 0, 0.5), **more)


def test_a_share_beyond_one_is_refused_where_it_could_turn_the_sign():
    with pytest.raises(ConfigError, match="the sign of the outcome could turn"):
        combine("scale", Z, None, S, weights=Weights(1, 0, 6))


def test_streams_of_different_lengths_and_outcomes_that_are_no_numbers_are_refused():
    with pytest.raises(AlignmentError, match=r"\(4,\) \(outcome\).*\(3,\) \(teacher\)"):
        combine("add", Z, None, S[:3], weights=Weights(1, 0, 1))
    with pytest.raises(UsageError, match="not finite"):
        combine("add", [1.0, np.nan], None, None, weights=Weights(1, 0, 0))
