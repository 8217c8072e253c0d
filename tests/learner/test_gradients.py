"""The chunked kernel against the plain implementation: whole logits, autograd, one row at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agentdistill.config.schedule import Linear
from agentdistill.config.schema import DivergenceTerm, KLTerm, PolicyGradientTerm, SupervisedTerm, Term, at
from agentdistill.types import Sample

TERMS: dict[str, Term] = {
    "forward_kl": DivergenceTerm(divergence="forward_kl"),
    "reverse_kl": DivergenceTerm(divergence="reverse_kl"),
    "jsd": DivergenceTerm(divergence="jsd", beta=0.3),
    "ppo": PolicyGradientTerm(ppo_clip=(0.2, 0.3)),
    "plain": PolicyGradientTerm(ppo_clip=None),
    "capped": PolicyGradientTerm(ppo_clip=(0.5, 0.5), mismatch_cap=1.3),
    "supervised": SupervisedTerm(tokens="all"),
    "kl_teacher": KLTerm(against="teacher", estimator="k2"),
    "kl_reference": KLTerm(against="reference", estimator="k3"),
}


def naive_token_loss(term: Term, name: str, sample: Sample, t: int, lp: torch.Tensor, lq: torch.Tensor) -> torch.Tensor:
    """ℓ at one position by the formulas of the papers, in probabilities rather than logarithms where that is possible."""
    q, y = lq.exp(), int(sample.token_ids[t])
    if isinstance(term, DivergenceTerm):
        p = lp.exp()
        if term.divergence == "forward_kl":
            return (p * (p / q).log()).sum()
        if term.divergence == "reverse_kl":
            return (q * (q / p).log()).sum()
        m = term.beta * p + (1 - term.beta) * q
        return (term.beta * p * (p / m).log() + (1 - term.beta) * q * (q / m).log()).sum()
    if isinstance(term, SupervisedTerm):
        return -q[y].log()
    if isinstance(term, KLTerm):
        other = sample.teacher_logprobs if term.against == "teacher" else sample.ref_logprobs
        assert other is not None
        u = float(np.exp(np.float64(other[t]))) / q[y]
        return 0.5 * u.log() ** 2 if term.estimator == "k2" else u - 1 - u.log()
    old = lq[y].detach() if sample.old_logprobs is None else torch.tensor(float(sample.old_logprobs[t]), dtype=lq.dtype)
    ratio, advantage = (lq[y] - old).exp(), float(sample.advantages[name][t])
    kappa = 1.0 if term.mismatch_cap is None else min(float((old - float(sample.rollout_logprobs[t])).exp()), term.mismatch_cap)
    if term.ppo_clip is None:
        return -kappa * ratio * advantage
    low, high = 1 - term.ppo_clip[0], 1 + term.ppo_clip[1]
    return -kappa * torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)


def naive(
    model: Any, samples: Sequence[Sample], terms: Mapping[str, Term], teacher: Any, step: int = 0
) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for name, term in terms.items():
        count = sum(int(sample.masks[name].sum()) for sample in samples)
        for sample in samples:
            lq = model(input_ids=torch.as_tensor(sample.token_ids[None], dtype=torch.long)).logits[0].log_softmax(-1)
            for t in np.flatnonzero(sample.masks[name]):
                lp = teacher.row(sample.episode, int(t)) if teacher is not None else torch.zeros_like(lq[0])
                loss = naive_token_loss(term, name, sample, int(t), lp, lq[t - 1])
                total = total + at(term.weight, step) * float(sample.weights[name][t]) * loss / count
    total.backward()
    return float(total.detach()), {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-9) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", TERMS)
def test_gradient_equals_the_naive_implementation(tools: Any, name: str, tied: bool) -> None:
    terms, samples, teacher = {name: TERMS[name]}, tools.samples((name,), count=3), tools.teacher()
    loss, expected = naive(tools.gpt2(tied=tied), samples, terms, teacher)
    report, found = tools.run(tools.gpt2(tied=tied), samples, terms, teacher=teacher, chunk_tokens=5, micro_batch_tokens=40)
    assert report.total == pytest.approx(loss, abs=1e-9)
    assert any(bool(value.abs().max() > 1e-4) for value in expected.values())
    assert_equal(found, expected)


def test_all_terms_together_equal_the_naive_implementation(tools: Any) -> None:
    terms = {name: term.model_copy(update={"weight": 0.5 + 0.1 * i}) for i, (name, term) in enumerate(TERMS.items())}
    samples, teacher = tools.samples(tuple(terms), count=3), tools.teacher()
    loss, expected = naive(tools.gpt2(), samples, terms, teacher)
    report, found = tools.run(tools.gpt2(), samples, terms, teacher=teacher, chunk_tokens=7)
    assert report.total == pytest.approx(loss, abs=1e-9)
    assert report.total == pytest.approx(sum(terms[name].weight * value for name, value in report.components.items()), abs=1e-12)
    assert_equal(found, expected)


def test_two_components_on_one_token_sum(tools: Any) -> None:
    samples, teacher = tools.samples(("kl", "sft"), count=3), tools.teacher()
    samples = [replace(s, masks={"kl": s.sampled, "sft": s.sampled}) for s in samples]
    kl, sft = {"kl": DivergenceTerm(weight=0.7)}, {"sft": SupervisedTerm(weight=0.4)}
    _, first = tools.run(tools.gpt2(), samples, kl, teacher=teacher)
    _, second = tools.run(tools.gpt2(), samples, sft)
    report, both = tools.run(tools.gpt2(), samples, {**kl, **sft}, teacher=teacher)
    assert_equal(both, {name: first[name] + second[name] for name in first}, 1e-12)
    assert report.metrics["loss/total"] == pytest.approx(0.7 * report.components["kl"] + 0.4 * report.components["sft"], abs=1e-12)


def test_adding_a_component_never_rescales_another(tools: Any) -> None:
    samples, teacher = tools.samples(("kl", "sft")), tools.teacher()
    alone, _ = tools.run(tools.gpt2(), samples, {"kl": DivergenceTerm()}, teacher=teacher)
    beside, _ = tools.run(tools.gpt2(), samples, {"kl": DivergenceTerm(), "sft": SupervisedTerm()}, teacher=teacher)
    assert alone.components["kl"] == pytest.approx(beside.components["kl"], abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 8, 1000])
def test_chunk_size_changes_nothing(tools: Any, chunk: int) -> None:
    samples, teacher = tools.samples(tuple(TERMS)), tools.teacher()
    report, found = tools.run(tools.gpt2(), samples, TERMS, teacher=teacher, chunk_tokens=chunk)
    expected_report, expected = tools.run(tools.gpt2(), samples, TERMS, teacher=teacher, chunk_tokens=17)
    assert report.total == pytest.approx(expected_report.total, abs=1e-12)
    assert_equal(found, expected, 1e-11)


@pytest.mark.parametrize("normaliser", ["token", "turn", "sequence", "constant"])
@pytest.mark.parametrize("budget", [1, 20, 45, 10_000])
def test_splitting_into_micro_batches_changes_nothing(tools: Any, budget: int, normaliser: str) -> None:
    constant = 7.0 if normaliser == "constant" else None
    terms = {name: term.model_copy(update={"normaliser": normaliser, "constant": constant}) for name, term in TERMS.items()}
    samples, teacher = tools.samples(tuple(terms)), tools.teacher()
    report, found = tools.run(tools.gpt2(), samples, terms, teacher=teacher, micro_batch_tokens=budget)
    expected_report, expected = tools.run(tools.gpt2(), samples, terms, teacher=teacher, micro_batch_tokens=60)
    assert report.total == pytest.approx(expected_report.total, abs=1e-9)
    assert_equal(found, expected)


def test_masking_equals_slicing(tools: Any) -> None:
    """A sample whose masks are empty has exactly the effect of a sample that is not there."""
    samples, teacher = tools.samples(tuple(TERMS)), tools.teacher()
    empty = [replace(s, masks={name: np.zeros(len(s), bool) for name in TERMS}) for s in tools.samples(tuple(TERMS), seed=9, prefix="x")]
    mixed = [one for pair in zip(samples, empty, strict=True) for one in pair]
    report, found = tools.run(tools.gpt2(), samples, TERMS, teacher=teacher)
    masked_report, masked = tools.run(tools.gpt2(), mixed, TERMS, teacher=teacher)
    assert report.total == masked_report.total
    assert all(torch.equal(found[name], masked[name]) for name in found)
    assert report.metrics == masked_report.metrics


def test_unreviewed_positions_that_no_mask_covers_contribute_nothing(tools: Any) -> None:
    """NaN streams, infinite weights and foreign ids outside the masks never reach the arithmetic."""
    samples, teacher = tools.samples(tuple(TERMS)), tools.teacher()

    def spoil(sample: Sample) -> Sample:
        outside = ~np.any([sample.masks[name] for name in TERMS], axis=0)
        bad = {
            who: np.where(outside, np.nan, getattr(sample, who)).astype(np.float32)
            for who in ("old_logprobs", "ref_logprobs", "teacher_logprobs")
        }
        weights = {name: np.where(sample.masks[name], w, np.inf).astype(np.float32) for name, w in sample.weights.items()}
        advantages = {name: np.where(sample.masks[name], a, np.nan).astype(np.float32) for name, a in sample.advantages.items()}
        return replace(sample, **bad, weights=weights, advantages=advantages)

    report, found = tools.run(tools.gpt2(), samples, TERMS, teacher=teacher)
    spoilt_report, spoilt = tools.run(tools.gpt2(), [spoil(s) for s in samples], TERMS, teacher=teacher)
    assert report.total == spoilt_report.total
    assert all(torch.equal(found[name], spoilt[name]) for name in found)


def test_padded_rows_contribute_nothing(tools: Any) -> None:
    """A short row beside a long one has the gradient that it has alone."""
    short, long = tools.samples(("kl",), count=1, low=6, high=7)[0], tools.samples(("kl",), count=1, low=40, high=41, prefix="l")[0]
    terms, teacher = {"kl": DivergenceTerm(normaliser="constant", constant=1.0)}, tools.teacher()
    _, alone = tools.run(tools.gpt2(), [short], terms, teacher=teacher)
    _, other = tools.run(tools.gpt2(), [long], terms, teacher=teacher)
    report, both = tools.run(tools.gpt2(), [short, long], terms, teacher=teacher)
    assert report.metrics["tokens/forward"] > 2 * len(short)
    assert_equal(both, {name: alone[name] + other[name] for name in both}, 1e-11)


def test_a_zero_weight_keeps_its_place_in_the_denominator(tools: Any) -> None:
    samples = tools.samples(("sft",), count=2)
    ones = [replace(s, weights={"sft": np.ones(len(s), np.float32)}) for s in samples]
    halved = [ones[0], replace(ones[1], weights={"sft": np.zeros(len(ones[1]), np.float32)})]
    full, _ = tools.run(tools.gpt2(), ones, {"sft": SupervisedTerm()})
    half, _ = tools.run(tools.gpt2(), halved, {"sft": SupervisedTerm()})
    only, _ = tools.run(tools.gpt2(), ones[:1], {"sft": SupervisedTerm()})
    share = ones[0].masks["sft"].sum() / sum(s.masks["sft"].sum() for s in ones)
    assert half.total == pytest.approx(only.total * share, abs=1e-12)
    assert half.total < full.total


def test_old_logprobs_of_none_mean_the_current_policy(tools: Any) -> None:
    samples = [replace(s, old_logprobs=None) for s in tools.samples(("pg",), count=3)]
    terms = {"pg": PolicyGradientTerm()}
    _, expected = naive(tools.gpt2(), samples, terms, None)
    report, found = tools.run(tools.gpt2(), samples, terms)
    assert report.metrics["policy/ratio/max"] == 1.0
    assert report.metrics["policy/clip_fraction"] == 0.0
    assert_equal(found, expected)


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jsd", "kl_teacher", "ppo", "plain"])
def test_the_gradient_depends_on_its_signal(tools: Any, name: str) -> None:
    """Another teacher, or another advantage, is another gradient: what a swapped or zeroed teacher would hide."""
    samples = [replace(s, old_logprobs=None) for s in tools.samples((name,))]
    shuffled = [replace(s, teacher_logprobs=-6 - s.teacher_logprobs, advantages={name: -s.advantages[name]}) for s in samples]
    _, first = tools.run(tools.gpt2(), samples, {name: TERMS[name]}, teacher=tools.teacher(seed=1))
    _, second = tools.run(tools.gpt2(), shuffled, {name: TERMS[name]}, teacher=tools.teacher(seed=2))
    first_flat, second_flat = (torch.cat([value.flatten() for value in found.values()]) for found in (first, second))
    assert torch.cosine_similarity(first_flat, second_flat, dim=0) < 0.9


def test_zero_advantages_give_no_gradient(tools: Any) -> None:
    samples = [replace(s, advantages={"pg": np.zeros(len(s), np.float32)}) for s in tools.samples(("pg",))]
    _, found = tools.run(tools.gpt2(), samples, {"pg": PolicyGradientTerm()})
    assert all(not value.any() for value in found.values())


def test_a_schedule_scales_the_gradient_and_zero_leaves_the_term_out(tools: Any) -> None:
    samples, teacher = tools.samples(("kl",)), tools.teacher()
    schedule = Linear(start=1.0, end=0.0, steps=4)
    _, full = tools.run(tools.gpt2(), samples, {"kl": DivergenceTerm(weight=schedule)}, teacher=teacher, step=0)
    report, half = tools.run(tools.gpt2(), samples, {"kl": DivergenceTerm(weight=schedule)}, teacher=teacher, step=2)
    assert_equal(half, {name: value / 2 for name, value in full.items()}, 1e-12)
    assert report.total == pytest.approx(report.components["kl"] / 2)
    nothing, _ = tools.run(tools.gpt2(), samples, {"kl": DivergenceTerm(weight=schedule)}, teacher=None, step=4)
    assert nothing.components == {}


def test_the_teacher_is_asked_for_exactly_the_divergence_positions(tools: Any) -> None:
    samples, teacher = tools.samples(("kl", "sft")), tools.teacher()
    tools.run(tools.gpt2(), samples, {"kl": DivergenceTerm(), "sft": SupervisedTerm()}, teacher=teacher, micro_batch_tokens=40)
    expected = {(s.episode, int(t)) for s in samples for t in np.flatnonzero(s.masks["kl"])}
    assert len(teacher.asked) == len(expected)
    assert set(teacher.asked) == expected
