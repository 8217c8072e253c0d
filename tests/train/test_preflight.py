"""What cannot work is refused before anything heavy is loaded, and costs no folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from agentdistill_envs.math import MathEnv

from agentdistill.config import compose_train, save_config
from agentdistill.errors import AgentDistillError, ConfigError, IncompatibleError, PluginError, UsageError
from agentdistill.resources import nano_dir
from agentdistill.train import preflight as module
from agentdistill.train.preflight import preflight


def plan(*overrides: str) -> dict[str, str]:
    return dict(preflight(compose_train(list(overrides)).config).lines)


def copy_of(role: str, to: Path, **changes: object) -> Path:
    """A nano model with another configuration."""
    shutil.copytree(nano_dir("math", role), to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | changes))
    return to


def test_a_plan_says_what_would_be_done(tmp_path):
    found = plan(f"runs_dir={tmp_path}", "eval.tasks=3")
    assert found["tasks, train"].startswith("4096 of split 'train'")
    assert found["tasks, held out"].startswith("the first 3 of 512 of split 'test'")
    assert "equal the student's" in found["teacher"]
    assert "GB free" in found["disk"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("learner.device=cuda", "device 'cuda' is not available on this machine; available: cpu"),
        ("run=../evil", "'../evil' cannot name a run"),
        ("runs_dir=/dev/null/runs", "runs_dir=/dev/null/runs cannot be written: /dev/null is no directory"),
    ],
)
def test_machine_name_and_folder_are_checked(override, told, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(UsageError, match=told):
        plan(override)


def test_a_name_that_is_taken_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match=r"run 'a' exists already.*resume=true"):
        plan(f"runs_dir={tmp_path}", "run=a")


def test_checkpoints_that_do_not_fit_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: SimpleNamespace(free=1_000_000))
    with pytest.raises(UsageError, match=r"3 checkpoints need 7.8 MB and .* has 1.0 MB left; free some"):
        plan(f"runs_dir={tmp_path}")
    assert plan(f"runs_dir={tmp_path}", "learner=lora")


def test_a_resumed_run_needs_room_for_what_it_has_not_written_yet(monkeypatch, tmp_path):
    checkpoint = tmp_path / "a" / "checkpoints" / "2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(bytes(7_000_000))
    save_config(tmp_path / "a" / "config.yaml", compose_train([f"runs_dir={tmp_path}", "run=a"]))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: SimpleNamespace(free=1_000_000))
    assert "0.8 MB of checkpoints to come" in plan(f"runs_dir={tmp_path}", "run=a", "resume=true")["disk"]


def test_the_size_of_a_model_is_that_of_its_parameters_in_float32(tmp_path):
    from safetensors.numpy import save_file

    from agentdistill.policy.loading import model_facts

    directory = copy_of("student", tmp_path / "half")
    save_file({"a": np.zeros((10, 7), np.float16), "b": np.zeros(5, np.float32)}, directory / "model.safetensors")
    save_file({"moments": np.zeros(1000, np.float32)}, directory / "optimizer.safetensors")
    assert model_facts(str(directory), env="math", role="student").parameters == 75


def test_a_student_whose_head_is_smaller_than_its_tokenizer_is_refused_with_or_without_a_teacher(tmp_path):
    student = copy_of("student", tmp_path / "cut", vocab_size=1000)
    with pytest.raises(ConfigError, match="has 1000 output rows for the 1024 tokens of its tokenizer"):
        plan(f"student={student}", "method=grpo")


def test_a_directory_without_weights_or_tokenizer_is_named(tmp_path):
    for missing, told in (("model.safetensors", "has no weights"), ("tokenizer.json", "has none of tokenizer.json")):
        directory = copy_of("student", tmp_path / missing)
        (directory / missing).unlink()
        with pytest.raises(ConfigError, match=told):
            plan(f"student={directory}")


def test_adapters_without_their_base_are_no_student(tmp_path):
    directory = copy_of("student", tmp_path / "adapters")
    (directory / "model.safetensors").rename(directory / "adapter.safetensors")
    with pytest.raises(ConfigError, match="adapters without their base; measure it with `agentdistill eval run="):
        plan(f"student={directory}")


def test_a_teacher_that_reads_less_than_an_episode_is_refused_and_told_what_would_fit(tmp_path):
    teacher = copy_of("teacher", tmp_path / "short", max_position_embeddings=64)
    with pytest.raises(IncompatibleError, match=r"reads at most 64 tokens .* up to 1024; set rollout.max_tokens=64"):
        plan(f"teacher={teacher}")
    assert plan(f"teacher={teacher}", "rollout.max_tokens=64")


def test_padding_is_noted_and_a_head_smaller_than_its_tokenizer_is_refused(tmp_path):
    assert "padded vocabularies" in plan(f"teacher={copy_of('teacher', tmp_path / 'padded', vocab_size=1088)}")["teacher"]
    with pytest.raises(IncompatibleError, match="1000 output rows for the 1024 tokens"):
        plan(f"teacher={copy_of('teacher', tmp_path / 'cut', vocab_size=1000)}")


def test_a_method_that_needs_an_expert_says_so_where_there_is_none(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
    with pytest.raises(ConfigError, match=r"method 'sft' plays an expert's episodes, and there is none: .*; choose a method without one"):
        plan("method=sft", f"env.tasks={tmp_path}")
    assert plan("method=grpo", f"env.tasks={tmp_path}")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda config, split: [], "load_tasks returned a list, not a TaskSet"),
        (lambda config, split: 1 / 0, "cannot give its 'train' tasks: ZeroDivisionError"),
    ],
)
def test_an_environment_whose_tasks_cannot_be_had_is_at_fault(monkeypatch, broken, told):
    monkeypatch.setattr(MathEnv, "load_tasks", broken)
    with pytest.raises(PluginError, match=told):
        plan()


def test_paths_in_a_configuration_mean_the_same_from_every_folder(tmp_path, monkeypatch):
    copy_of("student", tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    config = compose_train(["student.path=models/mine", "teacher.path=models/mine"]).config
    assert config.student.path == str(tmp_path / "models" / "mine") == config.teacher.path  # type: ignore[attr-defined]
    assert compose_train(["student.path=models/none"]).config.student.path == "models/none"
    (tmp_path / "rows.jsonl").write_text("")
    assert compose_train(["env.tasks=rows.jsonl"]).config.env.tasks == str(tmp_path / "rows.jsonl")  # type: ignore[attr-defined]
    (tmp_path / "nano").mkdir()
    assert compose_train(["env.tasks=nano"]).config.env.tasks == "nano"  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path / "models")
    assert compose_train(["student.path=mine"]).config.student.path == str(tmp_path / "models" / "mine")
    assert compose_train(["student.path=~nobody-of-this-name/x"]).config.student.path == "~nobody-of-this-name/x"


def test_every_refusal_is_an_error_of_ours():
    for bad in ("env.tasks=/none.jsonl", "student=org/none/deep", "eval.split=nope"):
        with pytest.raises(AgentDistillError):
            plan(bad)
