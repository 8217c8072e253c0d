"""Every preset against a second implementation of it, written from its paper: loss, each term, and the gradient of every weight.

The presets go the way that a run goes: configuration, credit, packing, one accumulation. Where nothing is rounded on the way both agree to
1e-9; log-probabilities, advantages and weights are float32 in the rows, and what they enter agrees to 1e-5 of the largest entry.
"""

from __future__ import annotations

import pytest
import torch

from agentdistill.config.terms import Overlong
from agentdistill.methods import Objective

from .preset_batch import batch, groups, models
from .preset_dense import EXACT
from .preset_outcome import OUTCOME, outcomes
from .preset_run import by_the_library, by_the_paper, distance
from .preset_sampled import SAMPLED
from .preset_table import table
from .presets import PRESETS, preset

REFERENCES = EXACT | SAMPLED | OUTCOME
TOLERANCE = dict.fromkeys(REFERENCES, 1e-5) | dict.fromkeys(EXACT, 1e-9)
SWITCHED = [("reopold", 30), ("kdrl", 100)]
"""Presets that change with the step, where they have."""


def test_every_preset_has_a_reference():
    assert set(PRESETS) == REFERENCES.keys()


@pytest.mark.parametrize(("name", "step"), [*((name, 0) for name in sorted(TOLERANCE)), *SWITCHED])
def test_a_preset_is_what_its_paper_says(name, step):
    found, expected = by_the_library(name, step), by_the_paper(REFERENCES[name], step)
    assert distance(found, expected) < TOLERANCE[name]


@pytest.mark.parametrize(
    ("name", "path", "number"),
    [
        ("akl", "teacher.mu", 0.5),
        ("cispo", "outcome.ppo_clip.0", 1.0),  # no lower bound
        ("dapo", "outcome.overlong.limit", 1024),
        ("dapo", "outcome.overlong.buffer", 256),
        ("g_opd", "teacher.mismatch_cap", 5.0),
        ("exopd", "teacher.mismatch_cap", 5.0),
        ("minillm", "later.teacher_clip", 100.0),
        ("sod", "hybrid.signal.weights.0.epsilon", 1e-6),
        ("taid", "teacher.target.amount.end", 1.0),
        ("taid", "teacher.target.amount.rate", 5e-4),
        ("taid", "teacher.target.amount.momentum", 0.99),
        ("reopold", "teacher.token_weights.0.until_step", 30),
    ],
)
def test_a_number_that_the_batch_does_not_reach_is_the_paper_s(name, path, number):
    found = preset(name).model_dump(mode="json")["terms"]
    for key in path.split("."):
        found = found[int(key) if isinstance(found, list) else key]
    assert found == number


def test_distillm_begins_without_the_student_and_lets_it_play_more_by_tenths():
    """DistiLLM's threshold: φ = 0, + .1 up to 1 when the loss is no longer falling by .1."""
    share = preset("distillm").sampler.student
    assert (share.start, share.increment, share.limit, share.epsilon) == (0.0, 0.1, 1.0, 0.1)


def test_dapo_punishes_episodes_that_come_close_to_its_limit():
    """−1 from the limit on, linear in the buffer before it: arXiv 2503.14476, eq. 13."""
    config = preset("dapo")
    term = config.terms["outcome"].model_copy(update={"overlong": Overlong(limit=9, buffer=5)})
    samples = Objective(config.model_copy(update={"terms": {"outcome": term}})).credit(batch(), groups(), 0).samples
    t, advantages = table(models().student), {}
    for returns in outcomes():
        lengths = {name: t.episode.count(name) for name in returns}
        r = torch.tensor([value - min(max((lengths[name] - 4) / 5, 0), 1) for name, value in returns.items()], dtype=torch.float64)
        advantages |= dict(zip(returns, ((r - r.mean()) / (r.std() + 1e-6)).tolist(), strict=True))
    for sample in samples:
        if sample.masks["outcome"].any():
            assert sample.advantages["outcome"][sample.masks["outcome"]] == pytest.approx(advantages[sample.episode], rel=1e-6)
    assert len({round(value, 6) for value in advantages.values()}) > 6


def test_a_preset_is_not_what_another_paper_says():
    """The batch tells all of them apart, but for those that differ only in who plays."""
    alike = {"sft", "sft_64", "sft_teacher", "seqkd"}
    found = {name: by_the_paper(reference) for name, reference in REFERENCES.items() if name == "sft" or name not in alike}
    gradients = {name: torch.cat([each.flatten() for each in gradient.values()]) for name, (_, _, gradient) in found.items()}
    for name, one in gradients.items():
        for other, two in gradients.items():
            assert name >= other or float((one - two).abs().max()) > 1e-4 * float(one.abs().max()), (name, other)


def test_the_batch_reaches_every_clip_and_both_sides_of_every_choice():
    """A reference that agrees on a batch where nothing happens says nothing."""
    t = table(models().student)
    ratio, gap = t.ratio.detach()[t.by_student], t.gap[t.by_student]
    for bound in (0.8, 1.2, 1.28):
        assert 0.03 < float((ratio > bound).double().mean()) < 0.97
    for bound in (-1.72, 0.0):
        assert 0.1 < float((gap > bound).double().mean()) < 0.9
    entropy = -(t.teacher.exp() * t.teacher).sum(-1)
    assert 0 < int((entropy > 0.8).sum()) < len(entropy)
    assert t.teacher.topk(16, -1).values.exp().sum(-1).min() < 0.99
    kappa = (t.old - t.rollout).exp()[t.by_student]
    assert float((kappa - 1).abs().max()) > 0.2
