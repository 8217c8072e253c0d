"""What a model's cache is called: transformers 5.24 renamed ``past_key_values`` to ``cache``, in arguments and in outputs."""

from __future__ import annotations

import inspect
from typing import Any

from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

OLD, NEW = "past_key_values", "cache"


def cache_argument(model: PreTrainedModel) -> str:
    """The name under which the model's ``forward`` takes a cache."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = inspect.signature(base.forward).parameters
    if NEW in parameters or OLD in parameters:
        return NEW if NEW in parameters else OLD
    return NEW if NEW in CausalLMOutputWithPast.__dataclass_fields__ else OLD


def cache_of(model: PreTrainedModel, output: Any) -> Any:
    """The cache that a forward pass of ``model`` returned. ``None``: none, or a recurrent state, which cannot be taken back to an earlier
    token."""
    if getattr(model, "_is_stateful", False):
        return None
    return getattr(output, NEW if hasattr(output, NEW) else OLD, None)
