import sys
from typing import Any

import numpy as np
import pytest
import torch

from agentdistill.config.schema import DivergenceTerm, LearnerConfig, LoraConfig
from agentdistill.errors import ConfigError
from agentdistill.learner import Learner

KL = {"kl": DivergenceTerm()}


def learner_of(model: Any, **lora: Any) -> Learner:
    config = LearnerConfig(device="cpu", threads=1, lr=1e-2, warmup_steps=0, lora=LoraConfig(**{"rank": 4, "alpha": 8.0, **lora}))
    return Learner(model, config)


def train(learner: Learner, samples: Any, teacher: Any, steps: int) -> list[float]:
    losses = []
    for step in range(steps):
        losses.append(learner.accumulate(learner.pack(samples, KL, step), KL, step, teacher).total)
        learner.update()
    return losses


def test_the_base_stays_bit_unchanged_and_is_the_reference(tools: Any) -> None:
    model = tools.llama()
    samples = tools.samples(("kl",))
    before = Learner(tools.llama(), LearnerConfig(device="cpu", threads=1)).streams(samples, {"old"})
    learner = learner_of(model)
    base = {name: value.detach().clone() for name, value in model.named_parameters() if "lora_" not in name}
    losses = train(learner, samples, tools.teacher(dtype=torch.float32), 5)
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in base.items())
    after = learner.streams(samples, {"old", "ref"})
    for streams, reference in zip(after, before, strict=True):
        np.testing.assert_allclose(streams["ref"], reference["old"], rtol=1e-6)
        assert not np.allclose(streams["old"], streams["ref"], equal_nan=True)
    assert all(parameter.requires_grad for parameter in learner.trained.values())  # disabling the adapters did not freeze them
    assert train(learner, samples, tools.teacher(dtype=torch.float32), 1)[0] < losses[0]


def test_only_adapters_are_trained_and_they_begin_as_nothing(tools: Any) -> None:
    samples = tools.samples()
    learner = learner_of(tools.llama())
    assert learner.trained
    assert all("lora_" in name for name in learner.trained)
    assert sum(p.numel() for p in learner.trained.values()) < sum(p.numel() for p in learner.model.parameters()) / 2
    plain = Learner(tools.llama(), LearnerConfig(device="cpu", threads=1)).streams(samples, {"old"})
    for streams, reference in zip(learner.streams(samples, {"old"}), plain, strict=True):
        np.testing.assert_array_equal(streams["old"], reference["old"])


def test_two_runs_begin_with_equal_adapters(tools: Any) -> None:
    torch.manual_seed(1)
    first = learner_of(tools.llama())
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = learner_of(tools.llama())
    assert all(torch.equal(first.trained[name], second.trained[name]) for name in first.trained)
    tools.llama()
    torch.set_rng_state(state)


def test_a_bfloat16_base_trains_float32_adapters(tools: Any) -> None:
    learner = learner_of(tools.llama().bfloat16())
    assert all(parameter.dtype is torch.float32 for parameter in learner.trained.values())
    losses = train(learner, tools.samples(("kl",)), tools.teacher(dtype=torch.float32), 5)
    assert losses[-1] < losses[0]


def test_adapters_on_the_head_are_refused(tools: Any) -> None:
    with pytest.raises(ConfigError, match="no plain linear output head"):
        learner_of(tools.llama(), target_modules=("lm_head", "q_proj"))


def test_targets_that_fit_nothing_are_named(tools: Any) -> None:
    with pytest.raises(ConfigError, match=r"target_modules=\('nothing',\) does not fit LlamaForCausalLM"):
        learner_of(tools.llama(), target_modules=("nothing",))


def test_without_peft_the_extra_is_named(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'agentdistill\[lora\]'"):
        learner_of(tools.llama())


def test_a_learner_that_trains_every_weight_has_no_adapters_to_give(tools: Any, tmp_path: Any) -> None:
    learner = Learner(tools.llama(), LearnerConfig(device="cpu", threads=1))
    for give in (learner.merged, lambda: learner.save_adapters(tmp_path, base="x")):
        with pytest.raises(ConfigError, match=r"trains every weight and has no adapters; give it learner\.lora"):
            give()


def test_merged_it_is_an_ordinary_model_that_computes_the_same(tools: Any) -> None:
    learner = learner_of(tools.llama())
    train(learner, tools.samples(("kl",)), tools.teacher(dtype=torch.float32), 2)
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        before = learner.model(input_ids=ids).logits
        merged = learner.merged()
        torch.testing.assert_close(merged(input_ids=ids).logits, before, atol=1e-4, rtol=1e-4)
    assert {name for name, _ in merged.named_parameters()} == {name for name, _ in tools.llama().named_parameters()}
