"""Random models of many architectures, small enough for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers

VOCAB = 97

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**_SHAPE),
    "qwen3": lambda: transformers.Qwen3Config(**_SHAPE, head_dim=8, tie_word_embeddings=True),
    "mistral": lambda: transformers.MistralConfig(**_SHAPE, sliding_window=6),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_SHAPE, head_dim=8, sliding_window=6, layer_types=_MIXED),
    "gemma2": lambda: transformers.Gemma2Config(**_SHAPE, head_dim=8, sliding_window=6, layer_types=_MIXED, final_logit_softcapping=3.0),
    "cohere": lambda: transformers.CohereConfig(**_SHAPE, logit_scale=0.3),
    "granite": lambda: transformers.GraniteConfig(**_SHAPE, logits_scaling=3.0),
    "phi": lambda: transformers.PhiConfig(**_SHAPE),  # its head has a bias
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2, initializer_range=0.3
    ),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=VOCAB, hidden_size=32, state_size=4, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2
    ),
    "lfm2": lambda: transformers.Lfm2Config(**_SHAPE, layer_types=["conv", "full_attention", "conv"]),
}


def build(kind: str, *, seed: int = 0, **changes: Any) -> Any:
    """A random model of this shape in evaluation mode, the same each time. ``changes`` are of its configuration."""
    torch.manual_seed(seed)
    config = CONFIGS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    return transformers.AutoModelForCausalLM.from_config(config).eval()
