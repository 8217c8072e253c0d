"""GGUF files as students and teachers: what a path means, and what is said where it cannot be read."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from agentdistill.config import compose_train
from agentdistill.errors import ConfigError
from agentdistill.policy.gguf import gguf_file, source
from agentdistill.policy.loading import load_model, load_tokenizer, model_facts, resolve

LOADS = (load_model, load_tokenizer, model_facts)


def test_a_file_or_the_only_one_in_a_folder_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "a.GGUF"
    assert gguf_file(file) is None
    file.write_bytes(b"GGUF")
    assert gguf_file(file) == file
    assert resolve(str(file), env="math", role="student") == str(file)
    lower = tmp_path / "one" / "b.gguf"
    lower.parent.mkdir()
    assert gguf_file(lower.parent) is None
    lower.write_bytes(b"GGUF")
    assert resolve(str(lower.parent), env="math", role="teacher") == str(lower)
    assert source(str(lower)) == (str(lower.parent), {"gguf_file": "b.gguf"})
    assert source("org/name") == ("org/name", {})
    (lower.parent / "c.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"holds 2 GGUF files \(b.gguf, c.gguf\); name one of them"):
        resolve(str(lower.parent), env="math", role="student")
    (lower.parent / "config.json").write_text("{}")
    assert resolve(str(lower.parent), env="math", role="student") == str(lower.parent)


def test_the_command_line_takes_one_as_an_option_and_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    for word in ("student=m.gguf", "student.path=m.gguf"):
        assert compose_train([word]).config.student.path == str(tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match=r"no student 'n.gguf'; .*a model's directory, a .gguf file, or a hub id"):
        compose_train(["student=n.gguf"])


@pytest.mark.parametrize("missing", ["gguf", "accelerate"])
def test_without_its_packages_the_extra_is_named(tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, missing, None)
    there = importlib.util.find_spec
    monkeypatch.setattr("agentdistill.policy.gguf.find_spec", lambda name: None if name == missing else there(name))
    for load in LOADS:
        with pytest.raises(ConfigError, match=rf"'m.gguf' is a GGUF file, which needs {missing}: pip install 'agentdistill\[gguf\]'"):
            load(str(tmp_path), env="math", role="student")


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra gguf is not installed")
def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF and then nothing of use" * 9)
    for load, what in zip(LOADS, ("model", "tokenizer", "configuration"), strict=True):
        with pytest.raises(ConfigError, match=f"cannot load the {what} of student ") as info:
            load(str(tmp_path / "m.gguf"), env="math", role="student")
        assert "hub" not in str(info.value)


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra gguf is not installed")
def test_a_small_llama_comes_back_as_an_ordinary_model(tmp_path: Path, models: Any) -> None:
    """Written here by the gguf package itself, in full precision."""
    from gguf import GGUFWriter

    model = models("llama", tie_word_embeddings=True)
    config = model.config
    writer = GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    for name, value in model.named_parameters():
        array = value.detach().numpy().astype(np.float32)
        if name in outer:
            writer.add_tensor(outer[name], array)
            continue
        _, _, layer, *inner, kind = name.split(".")
        inside = ".".join(inner)
        if inside in ("self_attn.q_proj", "self_attn.k_proj"):  # llama.cpp pairs the rotated dimensions differently
            heads = config.num_attention_heads if "q_proj" in inside else config.num_key_value_heads
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(f"blk.{layer}.{names[inside]}.{kind}", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    again = load_model(str(tmp_path / "tiny.gguf"), env="math", role="student", device="cpu")
    ids = torch.tensor([[3, 9, 27, 81, 11]])
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, model.eval()(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    facts = model_facts(str(tmp_path), env="math", role="student")
    assert (facts.window, facts.vocab) == (config.max_position_embeddings, config.vocab_size)
    assert facts.parameters == sum(value.numel() for value in model.parameters())
    again.save_pretrained(tmp_path / "plain")  # what transformers refuses to models that it takes for quantised
    assert "quantization" not in (tmp_path / "plain" / "config.json").read_text()
    assert isinstance(again, transformers.LlamaForCausalLM)
