from typing import Any

import pytest
import torch

from agentdistill.errors import AlignmentError, ConfigError, UsageError
from agentdistill.learner import Head, Hidden
from agentdistill.learner.probe import probe
from agentdistill.losses import score_advantage

N, V, H = 5, 7, 4


def inputs(**head: Any) -> tuple[torch.Tensor, Head, Hidden]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return normal(N, H), Head(weight=normal(V, H), bias=normal(V), **head), Hidden(normal(N, 3), normal(V, 3))


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jsd", "hellinger"])
def test_all_of_the_vocabulary_is_the_whole_gradient_and_less_of_it_is_less(name: str) -> None:
    hidden, head, teacher = inputs()
    every = probe(hidden, head, teacher, divergence=name, k=V, chunk=2)
    some = probe(hidden, head, teacher, divergence=name, k=2, chunk=2)
    for found in (every["full"], every["topk"]):
        assert found.cosine_hidden == pytest.approx(1, abs=1e-12)
        assert found.cosine_weight == pytest.approx(1, abs=1e-12)
        assert found.variance_hidden == found.variance_weight == 0
    assert some["topk"].cosine_hidden < 0.9999
    assert some["topk"].cosine_weight < 0.9999
    assert some["sampled"].cosine_weight < every["topk"].cosine_weight


@pytest.mark.parametrize("head_options", [{}, {"scale": 0.5, "softcap": 2.0}], ids=["plain", "capped"])
def test_the_variance_over_draws_is_that_of_the_enumeration(head_options: dict[str, Any]) -> None:
    """Positions are drawn independently, so each adds its own variance, Σ_y q ‖g_y‖² − ‖Σ_y q g_y‖², to that of the hidden states."""
    hidden, head, teacher = inputs(**head_options)
    leaf = hidden.clone().requires_grad_()
    logprobs = head.logits(leaf).log_softmax(-1)
    q = logprobs.detach().exp()
    advantage = score_advantage("reverse_kl", teacher.log_probs(0, N) - logprobs.detach())
    wanted, exact = 0.0, torch.zeros(N, H, dtype=torch.float64)
    for t in range(N):
        each = torch.stack([-advantage[t, y] * torch.autograd.grad(logprobs[t, y], leaf, retain_graph=True)[0][t] for y in range(V)]) / N
        exact[t] = q[t] @ each
        wanted += float(q[t] @ each.square().sum(-1) - exact[t].square().sum())
    wanted /= float(exact.square().sum())
    found = probe(hidden, head, teacher, draws=1000, generator=torch.Generator().manual_seed(1))["sampled"]
    assert found.variance_hidden == pytest.approx(wanted, rel=0.1)
    assert wanted > 0.1


def test_nothing_of_the_model_is_touched_and_seeds_repeat() -> None:
    hidden, head, teacher = inputs()
    head.weight.requires_grad_()
    first, second = (probe(hidden, head, teacher, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second
    assert head.weight.grad is None


def test_mistakes_are_named() -> None:
    hidden, head, teacher = inputs()
    with pytest.raises(UsageError, match="at least 2"):
        probe(hidden, head, teacher, draws=1)
    with pytest.raises(AlignmentError, match="3 hidden states, 5 positions"):
        probe(hidden[:3], head, teacher)
    with pytest.raises(ConfigError, match="did you mean"):
        probe(hidden, head, teacher, divergence="revrse_kl")
    with pytest.raises(ConfigError, match="renyi"):
        probe(hidden, head, teacher, divergence="renyi")
