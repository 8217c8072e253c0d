from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
)

from agentdistill.config.schema import DivergenceTerm, LearnerConfig, PolicyGradientTerm
from agentdistill.errors import ConfigError, IncompatibleError
from agentdistill.learner import Head, Learner

SMALL = {
    "vocab_size": 23, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip


def gemma() -> Any:
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=1.5, attn_implementation="eager")).eval()


def cohere() -> Any:
    torch.manual_seed(0)
    return CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25)).eval()


def granite() -> Any:
    torch.manual_seed(0)
    return GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=3.0)).eval()


def biased(tools: Any) -> Any:
    model = tools.gpt2(tied=False)
    model.lm_head = nn.Linear(16, 23).double()
    return model


def naive_gradients(model: Any, samples: Any, teacher: Any) -> dict[str, torch.Tensor]:
    total = torch.zeros(())
    count = sum(int(s.masks["kl"].sum()) for s in samples)
    for sample in samples:
        lq = model(input_ids=torch.as_tensor(sample.token_ids[None], dtype=torch.long)).logits[0].log_softmax(-1)
        for t in sample.masks["kl"].nonzero()[0]:
            lp = teacher.row(sample.episode, int(t)).to(lq.dtype)
            total = total + float(sample.weights["kl"][t]) * (lq[t - 1].exp() * (lq[t - 1] - lp)).sum() / count
            total = total - float(sample.weights["pg"][t]) * float(sample.advantages["pg"][t]) * lq[t - 1, int(sample.token_ids[t])] / count
    total.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("make", [gemma, cohere, granite, "biased"], ids=["softcap", "scale", "divisor", "bias"])
def test_softcap_scale_and_bias_have_their_gradients(tools: Any, make: Any) -> None:
    build = (lambda: biased(tools)) if make == "biased" else make
    samples, teacher = tools.samples(("kl", "pg"), count=2), tools.teacher()
    samples = [type(s)(**{**s.__dict__, "old_logprobs": None, "masks": {"kl": s.masks["kl"], "pg": s.masks["kl"]}}) for s in samples]
    torch.manual_seed(3)
    model = build()
    expected = naive_gradients(model, samples, teacher)
    torch.manual_seed(3)
    terms = {"kl": DivergenceTerm(), "pg": PolicyGradientTerm(ppo_clip=None)}
    _, found = tools.run(build(), samples, terms, teacher=teacher, chunk_tokens=5)
    tolerance = 1e-9 if make == "biased" else 2e-5
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_a_model_with_an_unknown_logit_transform_is_refused(tools: Any) -> None:
    class Doubled(GPT2LMHeadModel):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 2
            return output

    with pytest.raises(ConfigError, match="transforms its logits in a way that the learner does not know"):
        Learner(Doubled(tools.gpt2().config), LearnerConfig(device="cpu", threads=1))


def test_a_head_that_is_not_linear_is_refused(tools: Any) -> None:
    model = tools.llama()
    model.set_output_embeddings(nn.Sequential(nn.Linear(16, 23)))
    with pytest.raises(ConfigError, match=r"no plain linear output head \(found: Sequential\)"):
        Head.of(model)


def test_a_model_without_a_backbone_is_refused(tools: Any) -> None:
    from agentdistill.learner.head import backbone_of

    with pytest.raises(ConfigError, match="no causal language model with a head"):
        backbone_of(tools.llama().model)


def test_a_teacher_with_another_vocabulary_is_refused(tools: Any) -> None:
    with pytest.raises(IncompatibleError, match=r", 29\).*, 23\)"):
        tools.run(tools.gpt2(), tools.samples(("kl",)), {"kl": DivergenceTerm()}, teacher=tools.teacher(29))


def test_a_vocabulary_masked_by_its_bias_has_finite_entropy_and_gradients(tools: Any) -> None:
    """Padded vocabulary entries are often switched off by a bias of −inf."""
    model = biased(tools)
    with torch.no_grad():
        model.lm_head.bias[20:] = -torch.inf
    samples = [type(s)(**{**s.__dict__, "token_ids": s.token_ids % 20}) for s in tools.samples(("kl",))]
    teacher = tools.teacher()
    row = teacher.row
    teacher.row = lambda *key: row(*key).index_fill(0, torch.arange(20, 23), -torch.inf)
    learner = Learner.__new__(Learner)  # the comparison with the model's own logits would meet inf − inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agentdistill.learner.learner.check_head", lambda *_: None)
        learner.__init__(model, LearnerConfig(device="cpu", threads=1))  # type: ignore[misc]
    terms = {"kl": DivergenceTerm()}
    report = learner.accumulate(learner.pack(samples, terms, 0), terms, 0, teacher)
    assert 0 < report.metrics["policy/entropy"] < 3.0
    assert all(bool(value.isfinite().all()) for value in tools.gradients(learner).values())


def test_a_cut_head_is_the_first_rows_and_its_gradient_reaches_only_those(tools: Any) -> None:
    model = tools.llama()
    head, whole = Head.of(model, 5), Head.of(model)
    hidden = torch.randn(3, model.config.hidden_size)
    torch.testing.assert_close(head.logits(hidden), whole.logits(hidden)[:, :5])
    head.logits(hidden).sum().backward()
    assert bool(whole.weight.grad[:5].abs().sum() > 0)  # type: ignore[index]
    assert not bool(whole.weight.grad[5:].any())  # type: ignore[index]
    with pytest.raises(ConfigError, match="output rows for 24 tokens"):
        Head.of(model, 24)
