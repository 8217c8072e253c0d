"""The report of how terms share the gradient, against the gradients themselves."""

from typing import Any

import numpy as np
import pytest
import torch

from agentdistill.config.schema import DivergenceTerm, KLTerm, LearnerConfig, PolicyGradientTerm, SupervisedTerm, Term
from agentdistill.config.weights import TeacherEntropyWeight
from agentdistill.learner import Learner
from agentdistill.learner.head import Head
from agentdistill.learner.kernel import token_losses
from agentdistill.learner.plan import Part, Plan
from agentdistill.learner.shares import gradient_norms

VOCAB, COUNT = 7, 12
TERMS: dict[str, Term] = {
    "jsd": DivergenceTerm(divergence="jsd"),
    "topk": DivergenceTerm(route="topk", k=3, token_weights=(TeacherEntropyWeight(above=1.2),)),
    "sft": SupervisedTerm(),
    "k2": KLTerm(against="teacher"),
    "pg": PolicyGradientTerm(ppo_clip=None),
}


class Table:
    def __init__(self, logprobs: torch.Tensor) -> None:
        self.table = logprobs

    def __len__(self) -> int:
        return len(self.table)

    def log_probs(self, start: int, stop: int) -> torch.Tensor:
        return self.table[start:stop]


def plan_of(names: list[str], *, shares: bool) -> tuple[Plan, torch.Tensor]:
    """The head is the identity, so that hidden states are logits."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    teacher, logits, advantages = 1.5 * normal(COUNT, VOCAB), normal(COUNT, VOCAB), normal(COUNT)
    targets = torch.randint(VOCAB, (COUNT,), generator=generator)
    unknown = torch.full((COUNT,), torch.nan, dtype=torch.float64)
    weights = normal(COUNT).abs()
    parts = tuple(
        Part(name=name, term=TERMS[name], index=np.arange(COUNT), weights=weights, advantages=advantages if name == "pg" else None)
        for name in names
    )
    plan = Plan(
        head=Head(weight=torch.eye(VOCAB, dtype=torch.float64)),
        targets=targets,
        parts=parts,
        streams={"old": unknown, "rollout": unknown, "ref": unknown, "teacher": teacher.log_softmax(-1).gather(-1, targets[:, None])[:, 0]},
        dense=Table(teacher.log_softmax(-1)),
        dense_index=np.arange(COUNT),
        shares=shares,
    )
    return plan, logits


@pytest.mark.parametrize("name", TERMS)
def test_a_terms_norm_is_that_of_its_gradient_at_the_logits(name: str) -> None:
    alone, logits = plan_of([name], shares=False)
    logits.requires_grad_()
    token_losses(alone, logits).backward()  # type: ignore[no-untyped-call]  # torch
    together, again = plan_of(list(TERMS), shares=True)
    token_losses(together, again.requires_grad_())
    arrays = {key: values.double().numpy() for key, values in together.arrays.items()}
    found = gradient_norms(arrays, name)
    assert found is not None
    assert logits.grad is not None
    np.testing.assert_allclose(found, logits.grad.norm(dim=-1).numpy(), rtol=1e-9, atol=1e-12)
    if name == "topk":
        assert 0 < np.count_nonzero(found) < COUNT


def test_shares_sum_to_one_and_one_term_has_none(tools: Any) -> None:
    samples, teacher = tools.samples(("kl", "pg")), tools.teacher()
    terms = {"kl": DivergenceTerm(weight=0.3), "pg": PolicyGradientTerm(normaliser="sequence")}
    report, _ = tools.run(tools.gpt2(), samples, terms, teacher=teacher)
    shares = {name: report.metrics[f"gradient/share/{name}"] for name in terms}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    assert all(0 < share < 1 for share in shares.values())
    louder, _ = tools.run(tools.gpt2(), samples, terms | {"kl": DivergenceTerm(weight=3.0)}, teacher=teacher)
    before, after = shares["kl"] / shares["pg"], louder.metrics["gradient/share/kl"] / louder.metrics["gradient/share/pg"]
    assert after == pytest.approx(10 * before)
    alone, _ = tools.run(tools.gpt2(), samples, {"kl": DivergenceTerm()}, teacher=teacher)
    assert not any(name.startswith("gradient/share") for name in alone.metrics)
    arrays = next(iter(report.token_arrays().values()))
    assert not any(name.startswith(("norm/", "slope/", "probs_norm")) for name in arrays)


def test_a_probe_in_a_run_changes_no_bit_of_it(tools: Any) -> None:
    samples, teacher = tools.samples(("kl",)), tools.teacher()
    terms = {"kl": DivergenceTerm()}
    plain, gradients = tools.run(tools.gpt2(), samples, terms, teacher=teacher)
    probed, same = tools.run(tools.gpt2(), samples, terms, teacher=teacher, probe_every=1, probe_k=4)
    assert all(torch.equal(gradients[name], same[name]) for name in gradients)
    figures = {name: value for name, value in probed.metrics.items() if name.startswith("probe/")}
    assert set(figures) == {"probe/kl/topk/cosine", "probe/kl/sampled/cosine", "probe/kl/sampled/variance"}
    assert 0.5 < figures["probe/kl/topk/cosine"] <= 1 + 1e-6
    assert figures["probe/kl/sampled/variance"] > 0
    assert not any(name.startswith("probe/") for name in plain.metrics)


def test_a_probe_is_taken_every_so_many_steps(tools: Any) -> None:
    samples, teacher, terms = tools.samples(("kl",)), tools.teacher(), {"kl": DivergenceTerm()}
    learner = Learner(tools.gpt2(), LearnerConfig(device="cpu", threads=1, probe_every=2))
    probed = []
    for step in range(4):
        report = learner.accumulate(learner.pack(samples, terms, step), terms, step, teacher)
        probed.append("probe/kl/topk/cosine" in report.metrics)
        learner.update()
    assert probed == [True, False, True, False]
