"""Weights for the mismatch of trainer and rollout engine: nine combinations against their definition, token by token."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agentdistill.errors import ConfigError, UsageError
from agentdistill.losses.mismatch import KINDS, LEVELS, mismatch_weight, sequence_total

SEQUENCE = (7, 7, 3, 7, 3, 9)
RATIOS = (3.0, 0.5, 0.2, 4.0, 0.9, math.nan)


def tensors(ratios=RATIOS, sequence=SEQUENCE) -> tuple[Tensor, Tensor, Tensor]:
    """old, rollout and sequence with these ratios; NaN: no rollout log-probability."""
    rollout = torch.linspace(-2, -1, len(ratios), dtype=torch.float64)
    old = rollout + torch.tensor([0.0 if math.isnan(each) else math.log(each) for each in ratios], dtype=torch.float64)
    return old, torch.where(torch.tensor(ratios).isnan(), math.nan, rollout), torch.tensor(sequence)


def defined(kind: str, level: str, ratios=RATIOS, sequence=SEQUENCE, cap=2.0, band=(0.5, 5.0)) -> list[float]:
    """The tables of the module, said once more with lists."""
    weights = []
    for own, mine in zip(ratios, sequence, strict=True):
        if math.isnan(own):
            weights.append(1.0)
            continue
        known = [each for each, other in zip(ratios, sequence, strict=True) if other == mine and not math.isnan(each)]
        total = math.prod(known)
        ratio = {"token": own, "sequence": total, "geometric": total ** (1 / len(known))}[level]
        inside = band[0] <= ratio <= band[1]
        weights.append({"tis": min(ratio, cap), "icepop": ratio if inside else 0.0, "mis": 1.0 if inside else 0.0}[kind])
    return weights


@pytest.mark.parametrize(("kind", "level"), list(product(KINDS, LEVELS)))
def test_every_kind_at_every_level_is_as_defined(kind: str, level: str) -> None:
    old, rollout, sequence = tensors()
    found = mismatch_weight(old, rollout, kind=kind, level=level, sequence=sequence)
    assert found.weight.tolist() == pytest.approx(defined(kind, level), rel=1e-12)
    assert found.kept.tolist() == [kind == "tis" or weight > 0 for weight in defined(kind, level)]


def test_golden_values_of_the_token_level() -> None:
    old, rollout, _ = tensors((3.0, 1.0, 0.4, 6.0, 0.5, 5.0), SEQUENCE)
    old = old.clone()
    assert mismatch_weight(old, rollout).weight.tolist() == pytest.approx([2, 1, 0.4, 2, 0.5, 2])
    assert mismatch_weight(old, rollout, kind="icepop", band=(0.49, 5.01)).weight.tolist() == pytest.approx([3, 1, 0, 0, 0.5, 5])
    assert mismatch_weight(old, rollout, kind="mis", band=(0.49, 5.01)).weight.tolist() == [1, 1, 0, 0, 1, 1]


def test_both_ends_of_the_band_are_inside() -> None:
    zeros = torch.zeros(3, dtype=torch.float64)
    assert mismatch_weight(zeros, zeros, kind="mis", band=(1.0, 1.0)).kept.all()


def test_a_token_without_a_rollout_logprob_weighs_one_and_does_not_lengthen_its_sequence() -> None:
    old, rollout, sequence = tensors((4.0, math.nan, 4.0), (0, 0, 0))
    found = mismatch_weight(old, rollout, kind="tis", level="geometric", cap=10.0, sequence=sequence)
    assert found.weight.tolist() == pytest.approx([4, 1, 4])
    assert found.ratio.tolist() == pytest.approx([4, 1, 4])
    masked = mismatch_weight(old, rollout, kind="mis", level="sequence", sequence=sequence)
    assert masked.weight.tolist() == [0, 1, 0]
    assert masked.kept.tolist() == [False, True, False]
    unheard = mismatch_weight(old, rollout, kind="icepop", band=(2.0, 5.0))
    assert unheard.weight.tolist() == pytest.approx([4, 1, 4]), "even where the band does not hold 1"
    assert unheard.kept.all()


def test_the_weighted_mean_over_the_engine_is_the_mean_over_the_trainer_before_truncation() -> None:
    """E_rollout[κ g] = E_old[g], exactly, at both levels that are importance weights; sequences of two tokens, all enumerated."""
    torch.manual_seed(0)
    old, rollout = torch.randn(2, 2, 3, dtype=torch.float64).log_softmax(-1)
    values = torch.randn(3, 3, dtype=torch.float64)
    mean = 0.0
    for first, second in product(range(3), repeat=2):
        pair = torch.stack([old[0, first], old[1, second]]), torch.stack([rollout[0, first], rollout[1, second]])
        weight = mismatch_weight(*pair, level="sequence", cap=math.inf, sequence=torch.zeros(2, dtype=torch.long)).weight
        mean += float(pair[1].sum().exp() * weight[0] * values[first, second])
    exact = (old[0].exp()[:, None] * old[1].exp() * values).sum()
    assert mean == pytest.approx(float(exact), abs=1e-12)


def test_no_gradient_passes() -> None:
    old = torch.zeros(2, requires_grad=True)
    assert not mismatch_weight(old, torch.zeros(2)).weight.requires_grad


def test_half_precision_is_weighed_in_single() -> None:
    old = torch.full((300,), -1.0, dtype=torch.bfloat16)
    found = mismatch_weight(old, old - 0.0078125, level="sequence", cap=1e9, sequence=torch.zeros(300, dtype=torch.long))
    assert found.weight.dtype == torch.float32
    assert float(found.weight[0]) == pytest.approx(math.exp(300 * float(old[0] - (old - 0.0078125)[0])), rel=1e-5)


def test_sequence_total_is_the_sum_or_mean_of_each_sequence() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert sequence_total(values, torch.tensor([5, 1, 5, 1])).tolist() == [4, 6, 4, 6]
    assert sequence_total(values, torch.tensor([5, 1, 5, 1]), mean=True).tolist() == [2, 3, 2, 3]
    counts = torch.tensor([True, False, False, False])
    assert sequence_total(values, torch.tensor([5, 1, 5, 1]), counts, mean=True).tolist() == [1, 0, 1, 0]


def test_mistakes_are_named() -> None:
    one = torch.zeros(2)
    for arguments, kind, message in (
        ({"kind": "icepop!"}, ConfigError, "did you mean 'icepop'"),
        ({"level": "sequences"}, ConfigError, "did you mean 'sequence'"),
        ({"cap": 0.0}, ConfigError, "cap=0 leaves no weight"),
        ({"band": (2.0, 1.0)}, ConfigError, "holds no ratio"),
        ({"level": "geometric"}, UsageError, "needs sequence"),
        ({"sequence": torch.zeros(3)}, UsageError, r"sequence \(3,\) and old_logprobs \(2,\)"),
    ):
        with pytest.raises(kind, match=message):
            mismatch_weight(one, one, **arguments)
    with pytest.raises(UsageError, match="rollout_logprobs"):
        mismatch_weight(one, torch.zeros(3))


numbers = st.lists(st.one_of(st.floats(-900, 0, width=32), st.just(math.nan), st.just(-1e30)), min_size=6, max_size=6)


@settings(max_examples=200, deadline=None)
@given(numbers, numbers, st.sampled_from(KINDS), st.sampled_from(LEVELS))
def test_weights_are_finite_and_within_their_bounds_whatever_the_logprobs(old, rollout, kind: str, level: str) -> None:
    found = mismatch_weight(torch.tensor(old), torch.tensor(rollout), kind=kind, level=level, sequence=torch.tensor(SEQUENCE))
    assert bool(found.weight.isfinite().all())
    assert bool((found.weight >= 0).all())
    assert float(found.weight.max()) <= (2.0 if kind == "tis" else 5.0)
    if kind != "tis":
        assert torch.equal(found.weight > 0, found.kept)
