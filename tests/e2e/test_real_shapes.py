"""Checkpoints of other shapes than ours, through the whole loop: full and with adapters, from a teacher and from themselves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_models import build

from agentdistill.config import compose_train
from agentdistill.policy.loading import load_tokenizer
from agentdistill.store import Run
from agentdistill.train.loop import train
from agentdistill.train.preflight import preflight
from agentdistill.train.progress import PlainProgress
from agentdistill.train.session import open_session

WORDS = [
    *("steps=2", "rollout.batch=4", "rollout.max_new_tokens=6", "rollout.max_tokens=230", "eval.tasks=2", "eval.every=0"),
    *("learner.device=cpu", "learner.warmup_steps=0", "learner.lr=1e-3", "learner.lora.rank=4", "env.max_turns=2"),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``<shape>/student`` and ``<shape>/teacher``, random, with the tokenizer of the nano models."""
    root = tmp_path_factory.mktemp("checkpoints")
    tokenizer = load_tokenizer("nano", env="math", role="student")
    for shape in ("qwen3", "llama"):
        for seed, role in enumerate(("student", "teacher")):
            folder = root / shape / role
            build(shape, seed=seed, vocab_size=1024, eos_token_id=tokenizer.eos_token_id).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return root


@pytest.mark.ci
@pytest.mark.parametrize("teacher", ["teacher", "self"])
@pytest.mark.parametrize("learner", ["full", "lora"])
@pytest.mark.parametrize("shape", ["qwen3", "llama"])
def test_two_steps_move_what_is_trained_and_nothing_else(checkpoints: Path, tmp_path: Path, shape: str, learner: str, teacher: str) -> None:
    student = checkpoints / shape / "student"
    chosen = "self" if teacher == "self" else str(checkpoints / shape / "teacher")
    words = [f"student={student}", f"teacher={chosen}", f"learner={learner}", f"runs_dir={tmp_path}", "run=a", *WORDS]
    composed = compose_train([word for word in words if learner == "lora" or not word.startswith("learner.lora")])
    preflight(composed.config)
    with open_session(composed, PlainProgress(io.StringIO())) as (parts, recorder):
        began = {name: value.detach().clone() for name, value in parts.learner.model.named_parameters()}
        train(parts, recorder)
        after = dict(parts.learner.model.named_parameters())
    run = Run.open(tmp_path, "a", readonly=True)
    steps = [row for row in run.metrics() if row["kind"] == "train"]
    assert len(steps) == 2
    for row in steps:
        assert np.isfinite(row["loss/total"])
        assert row["loss/total"] > 0
        assert row["optim/skipped"] == 0
    moved = {name for name, value in began.items() if not bool((after[name] == value).all())}
    if learner == "lora":
        assert moved
        assert all("lora_" in name for name in moved)
    else:
        assert moved == began.keys()
    saved = load_file(run.checkpoints / "2" / ("adapter.safetensors" if learner == "lora" else "model.safetensors"))
    assert all(name in after for name in saved)


def test_the_adapters_of_a_tied_model_leave_its_head_alone(checkpoints: Path) -> None:
    from agentdistill.config.schema import LearnerConfig, LoraConfig
    from agentdistill.learner import Learner
    from agentdistill.policy.loading import load_model

    model: Any = load_model(str(checkpoints / "qwen3" / "student"), env="math", role="student")
    learner = Learner(model, LearnerConfig(device="cpu", lora=LoraConfig(rank=2)))
    assert learner.head.weight is model.get_input_embeddings().weight
    assert not learner.head.weight.requires_grad
