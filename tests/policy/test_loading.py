"""Paths to models and tokenizers, and every way in which a path can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agentdistill import resources
from agentdistill.errors import ConfigError
from agentdistill.policy.loading import borrowed_note, load_model, load_tokenizer, pick_dtype, resolve, resolve_device


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, models: Callable[..., Any]) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    models("llama").save_pretrained(directory)
    return directory


def test_a_directory_loads_in_evaluation_mode_on_the_device_and_in_the_dtype(checkpoint: Path, models: Callable[..., Any]) -> None:
    model = load_model(str(checkpoint), env="math", role="student", device="cpu")
    assert not model.training
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)
    torch.testing.assert_close(model.lm_head.weight, models("llama").lm_head.weight)
    assert load_model(str(checkpoint), env="math", role="teacher", dtype="bfloat16", device="cpu").dtype == torch.bfloat16


def test_nano_is_the_shipped_checkpoint_of_environment_and_role(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        resources, "nano_dir", lambda env, role: checkpoint if (env, role) in (("chess", "teacher"), ("chess", "student")) else Path("no")
    )
    assert resolve("nano", env="chess", role="teacher") == str(checkpoint)
    assert borrowed_note("chess", ("nano", "nano")) is None


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_an_environment_without_nano_models_borrows_those_of_math_and_says_so(role: Any) -> None:
    assert resolve("nano", env="chess", role=role) == str(resources.nano_dir("math", role))
    note = borrowed_note("chess", ("elsewhere", "nano"))
    assert note is not None
    assert "no nano models for env 'chess'; those of env 'math' stand in" in note
    assert note.endswith("agentdistill nano build env=chess")
    assert borrowed_note("chess", ("elsewhere", "other")) is None
    assert borrowed_note("math", ("nano", "nano")) is None


def test_half_a_pair_is_not_used_for_it_would_not_speak_the_others_tokens(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = resources.nano_dir
    monkeypatch.setattr(resources, "nano_dir", lambda env, role: checkpoint if (env, role) == ("chess", "student") else real(env, role))
    assert resolve("nano", env="chess", role="student") == str(real("math", "student"))


def test_an_installation_without_nano_models_says_which_exist_and_how_to_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    with pytest.raises(
        ConfigError, match=r"no nano student for env 'chess' \(nano models exist for: none.*agentdistill nano build.*student\.path"
    ):
        load_model("nano", env="chess", role="student")


@pytest.mark.parametrize("path", ["/no/such/place", "./nowhere", "~/nowhere-at-all", "a/b/c", ""])
def test_a_missing_directory_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=r"teacher .* is not a directory; set teacher\.path to 'nano'"):
        load_model(path, env="math", role="teacher")


def test_a_file_or_an_empty_directory_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a directory without config\.json"):
        load_model(str(tmp_path), env="math", role="student")
    (tmp_path / "weights").write_text("")
    with pytest.raises(ConfigError, match="is not a directory"):
        load_model(str(tmp_path / "weights"), env="math", role="student")


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_hub_id_that_cannot_be_had_says_so_in_one_sentence(load: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"student 'no-such-org/no-such-model': it is no directory here, and the hub gave no such model"
    ) as info:
        load("no-such-org/no-such-model", env="math", role="student")
    assert "\n" not in str(info.value)


def test_a_broken_checkpoint_gives_the_reason(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"student .* has no weights \(model\*.safetensors\); save it again with save_pretrained"):
        load_model(str(tmp_path), env="math", role="student", device="cpu")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="cannot load the model of student"):
        load_model(str(tmp_path), env="math", role="student", device="cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot load the tokenizer of student"):
        load_tokenizer(str(tmp_path), env="math", role="student")


def test_weights_in_pickle_form_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="weights in pickle form are not read"):
        load_model(str(tmp_path), env="math", role="student", device="cpu")


def save_tokenizer(directory: Path, checkpoint: Path, template: str | None) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "?": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)
    (directory / "config.json").write_text((checkpoint / "config.json").read_text())


def test_a_tokenizer_needs_a_chat_template(checkpoint: Path, tmp_path: Path) -> None:
    for name, template in (("bare", None), ("chat", "{{ messages }}")):
        (tmp_path / name).mkdir()
        save_tokenizer(tmp_path / name, checkpoint, template)
    assert load_tokenizer(str(tmp_path / "chat"), env="math", role="student").chat_template == "{{ messages }}"
    with pytest.raises(ConfigError, match="has no chat template"):
        load_tokenizer(str(tmp_path / "bare"), env="math", role="student")


def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def having(cuda: bool, mps: bool) -> str:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        return resolve_device("auto").type

    assert [having(True, True), having(False, True), having(False, False)] == ["cuda", "mps", "cpu"]
    with pytest.raises(ConfigError, match="device 'cuda:1' is not available on this machine; available: cpu, auto"):
        resolve_device("cuda:1")
    with pytest.raises(ConfigError, match="no device 'tpu9x'"):
        resolve_device("tpu9x")


def test_auto_dtype_is_float32_but_for_a_frozen_model_on_cuda() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert pick_dtype("auto", cuda, "teacher") == torch.bfloat16
    assert {pick_dtype("auto", cuda, "student"), pick_dtype("auto", cpu, "teacher")} == {torch.float32}
    assert pick_dtype(torch.float16, cpu, "student") == torch.float16
    with pytest.raises(ConfigError, match="no dtype 'int8'; available: auto, float32, bfloat16, float16"):
        pick_dtype("int8", cpu, "student")
