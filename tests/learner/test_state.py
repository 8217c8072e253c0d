import json
from typing import Any

import numpy as np
import pytest
import torch

from agentdistill.config.schema import DivergenceTerm, LearnerConfig, LoraConfig
from agentdistill.errors import StoreError
from agentdistill.learner import Learner

from .bits import fingerprint

KL = {"kl": DivergenceTerm()}
CONFIG = {"device": "cpu", "threads": 1, "lr": 1e-2, "warmup_steps": 4}
LORA = LoraConfig(rank=4, alpha=8.0, dropout=0.1)


def train(learner: Learner, tools: Any, start: int, stop: int) -> list[float]:
    samples, losses = tools.samples(("kl",)), []
    for step in range(start, stop):
        losses.append(learner.accumulate(learner.pack(samples, KL, step), KL, step, tools.teacher(dtype=torch.float32)).total)
        learner.update()
    return losses


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_resumed_learner_is_bit_identical_to_one_that_never_stopped(tools: Any, lora: LoraConfig | None, tied: bool) -> None:
    config = LearnerConfig(**CONFIG, lora=lora)
    whole = Learner(tools.llama(tied=tied), config)
    losses = train(whole, tools, 0, 6)
    first = Learner(tools.llama(tied=tied), config)
    train(first, tools, 0, 3)
    tensors, meta = first.state()
    train(first, tools, 3, 4)  # what was saved is a copy
    second = Learner(tools.llama(tied=tied), config)
    torch.manual_seed(99)  # dropout must not depend on what else drew random numbers
    second.load_state(tensors, json.loads(json.dumps(meta)))
    assert train(second, tools, 3, 6) == losses[3:]
    assert fingerprint(second) == fingerprint(whole)
    assert second.updates == 6


def test_state_is_plain_arrays_with_tied_weights_once(tools: Any) -> None:
    learner = Learner(tools.llama(tied=True), LearnerConfig(**CONFIG))
    train(learner, tools, 0, 1)
    tensors, meta = learner.state()
    assert set(tensors) == {"model.safetensors", "optimizer.safetensors"}
    assert "lm_head.weight" not in tensors["model.safetensors"]
    assert all(isinstance(value, np.ndarray) for file in tensors.values() for value in file.values())
    assert "model.norm.weight.exp_avg_sq" in tensors["optimizer.safetensors"]
    assert meta["updates"] == 1


def test_with_lora_only_the_adapter_is_saved(tools: Any) -> None:
    learner = Learner(tools.llama(), LearnerConfig(**CONFIG, lora=LORA))
    train(learner, tools, 0, 1)
    tensors, _ = learner.state()
    assert set(tensors) == {"adapter.safetensors", "optimizer.safetensors"}
    assert all("lora_" in name for file in tensors.values() for name in file)


def test_state_survives_safetensors(tools: Any, tmp_path: Any) -> None:
    from safetensors.numpy import load_file, save_file

    learner = Learner(tools.llama(), LearnerConfig(**CONFIG))
    train(learner, tools, 0, 2)
    tensors, meta = learner.state()
    for file, content in tensors.items():
        save_file(content, tmp_path / file)
    other = Learner(tools.llama(seed=3), LearnerConfig(**CONFIG))
    other.load_state({file: load_file(tmp_path / file) for file in tensors}, meta)
    assert fingerprint(other) == fingerprint(learner)


def test_bfloat16_buffers_survive_exactly(tools: Any) -> None:
    model = tools.llama()
    model.register_buffer("extra", torch.randn(3).bfloat16())
    learner = Learner(model, LearnerConfig(**CONFIG))
    tensors, meta = learner.state()
    kept = model.extra.clone()
    model.extra.zero_()
    learner.load_state(tensors, meta)
    assert torch.equal(model.extra, kept)


def test_a_state_of_another_model_is_refused_and_changes_nothing(tools: Any) -> None:
    learner = Learner(tools.llama(), LearnerConfig(**CONFIG))
    train(learner, tools, 0, 1)
    before, (tensors, meta) = fingerprint(learner), learner.state()
    other, _ = Learner(tools.llama(layers=3), LearnerConfig(**CONFIG)).state()
    with pytest.raises(StoreError, match=r"has an unknown 'model\.layers\.2.*belongs to another model"):
        learner.load_state(other, meta)
    fewer, _ = Learner(tools.llama(layers=1), LearnerConfig(**CONFIG)).state()
    with pytest.raises(StoreError, match=r"lacks 'model\.layers\.1"):
        learner.load_state(fewer, meta)
    wider, _ = Learner(tools.llama(hidden=32), LearnerConfig(**CONFIG)).state()
    with pytest.raises(StoreError, match=r"has shape .* this model's is"):
        learner.load_state(wider, meta)
    adapter, _ = Learner(tools.llama(), LearnerConfig(**CONFIG, lora=LORA)).state()
    with pytest.raises(StoreError, match=r"no 'model\.safetensors' \(files: adapter"):
        learner.load_state(adapter, meta)
    stray = {**tensors, "optimizer.safetensors": {"ghost.exp_avg": np.zeros(3)}}
    with pytest.raises(StoreError, match="moments of 'ghost'"):
        learner.load_state(stray, meta)
    with pytest.raises(StoreError, match="format 9"):
        learner.load_state(tensors, {**meta, "format": 9})
    assert fingerprint(learner) == before


def test_other_threads_are_warned_about(tools: Any) -> None:
    learner = Learner(tools.llama(), LearnerConfig(**CONFIG))
    tensors, meta = learner.state()
    meta["fingerprint"]["threads"] = 8
    with pytest.warns(UserWarning, match=r"threads 8 then, 1 now.*may differ in their last bits"):
        learner.load_state(tensors, meta)
