"""Traps of the learner that stand in public code: each is named, and shown to fail what our form passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from traps import tells_apart

from agentdistill.config.schema import LearnerConfig, PolicyGradientTerm, SupervisedTerm
from agentdistill.learner import Learner
from agentdistill.learner.linear_divergence import Hidden, linear_divergence


def heads(vocab: int = 4096, width: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states of 24 positions and the weights of student and teacher, bfloat16."""
    torch.manual_seed(0)
    return tuple(torch.randn(rows, width).mul(scale).bfloat16() for rows, scale in ((24, 1.0), (vocab, 0.4), (vocab, 0.4)))  # type: ignore[return-value]  # three of them


def jsd(p: torch.Tensor, q: torch.Tensor, accumulate: torch.dtype) -> torch.Tensor:
    """By the definition, the sum over the vocabulary in ``accumulate``."""
    lp, lq = p.log_softmax(-1), q.log_softmax(-1)
    m = (0.5 * lp.exp() + 0.5 * lq.exp()).log()
    terms = (0.5 * lp.exp() * (lp - m) + 0.5 * lq.exp() * (lq - m)).to(accumulate)
    total = torch.zeros(len(p), dtype=accumulate)
    for piece in terms.split(64, -1):
        total += piece.sum(-1)
    return total.double()


def test_a_fused_loss_accumulated_in_bfloat16() -> None:
    """Liger's JSD of bfloat16 heads reads .2832 where .2886 is exact, with gradients that agree: the sum is kept in the inputs' type."""
    hidden, ours_weight, theirs_weight = heads()
    student, teacher = hidden.double() @ ours_weight.double().T, hidden.double() @ theirs_weight.double().T
    exact = jsd(teacher, student, torch.float64)
    found = linear_divergence(hidden, ours_weight, Hidden(hidden, theirs_weight), divergence="jsd", beta=0.5)

    def check(values: torch.Tensor) -> None:
        torch.testing.assert_close(values.double(), exact, rtol=1e-4, atol=0)

    tells_apart(check, ours=found.values, trapped=jsd(teacher.float(), student.float(), torch.bfloat16))
    assert float(found.loss) == pytest.approx(float(exact.mean()), rel=1e-5)


def test_a_teacher_temperature_that_has_no_effect() -> None:
    """verl's teacher temperature does not reach prompt_logprobs; here logits are divided by it before anything else."""
    hidden, weight, theirs = (each.float() for each in heads(vocab=97))

    def loss(teacher: Hidden) -> float:
        return float(linear_divergence(hidden, weight, teacher, divergence="forward_kl").loss)

    def check(softened: Callable[[float], Hidden]) -> None:
        p, q = (hidden @ theirs.T / 2).log_softmax(-1), (hidden @ weight.T).log_softmax(-1)
        assert loss(softened(2.0)) == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-5)

    tells_apart(check, ours=lambda t: Hidden(hidden, theirs, temperature=t), trapped=lambda t: Hidden(hidden, theirs))


def test_scores_of_the_distribution_that_was_sampled_from(tools: Any) -> None:
    """trl#6945: a trainer that scores with the sampler's temperature has another π_old. Ours scores the policy itself, so that a ratio is 1
    as long as no weight has moved."""
    samples = tools.samples(("t",), count=3)
    term = PolicyGradientTerm(teacher=1.0, ppo_clip=(1e-3, 1e-3))

    def scored(temperature: float) -> Any:
        model = tools.gpt2()
        if temperature != 1:
            with torch.no_grad():  # logits / T, which a final layer norm passes on
                model.transformer.ln_f.weight /= temperature
                model.transformer.ln_f.bias /= temperature
        return [each.old_logprobs for each in Learner(model, LearnerConfig(device="cpu", threads=1)).score(samples, {"old"})]

    def check(old: Any) -> None:
        rows = [replace(sample, old_logprobs=stream) for sample, stream in zip(samples, old, strict=True)]
        report, _ = tools.run(tools.gpt2(), rows, {"t": term})
        assert report.metrics["policy/ratio/max"] == pytest.approx(1, abs=1e-5)
        assert report.metrics["policy/clip_fraction"] == 0

    tells_apart(check, ours=scored(1.0), trapped=scored(0.7))


def test_padding_that_is_trained_on(tools: Any) -> None:
    """TRL's MiniLLM counts every position whose input id is not −100, and none is: padding has a loss, and is counted."""
    rng = np.random.default_rng(0)
    short, long = tools.samples(("t",), count=1, low=8, high=9)[0], tools.samples(("t",), count=1, low=19, high=20, prefix="f")[0]
    pad = 11
    padded = replace(
        short,
        token_ids=np.append(short.token_ids, rng.integers(0, tools.teacher().vocab, pad)).astype(np.int32),
        author=np.append(short.author, np.full(pad, 255)).astype(np.uint8),
        turn=np.append(short.turn, np.full(pad, -1)).astype(np.int32),
        policy_version=np.append(short.policy_version, np.zeros(pad)).astype(np.int32),
        **{f"{who}_logprobs": np.append(getattr(short, f"{who}_logprobs"), np.full(pad, np.nan)).astype(np.float32)
           for who in ("rollout", "old", "ref", "teacher")},
        masks={"t": np.append(short.masks["t"], np.zeros(pad, np.bool_))},
        weights={"t": np.append(short.weights["t"], np.ones(pad)).astype(np.float32)},
        advantages={},
    )  # fmt: skip
    term = {"t": SupervisedTerm(tokens="student")}
    expected, gradients = tools.run(tools.gpt2(), [short, long], term)

    def check(row: Any) -> None:
        found, theirs = tools.run(tools.gpt2(), [row, long], term)
        assert found.total == pytest.approx(expected.total, rel=1e-12)
        for name, gradient in gradients.items():
            torch.testing.assert_close(theirs[name], gradient, rtol=1e-9, atol=1e-12)

    tells_apart(
        check, ours=padded, trapped=replace(padded, masks={"t": padded.masks["t"] | (padded.turn < 0) & (np.arange(len(padded)) > 0)})
    )
