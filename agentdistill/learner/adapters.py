"""Low-rank adapters, through peft, and the frozen reference that they give for nothing."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from agentdistill.config.schema import LoraConfig
from agentdistill.errors import ConfigError


def add_lora(model: Any, config: LoraConfig) -> Any:
    """Put adapters into ``model``'s own modules and freeze the rest; returns the peft wrapper around it.

    The wrapped model computes what it did before until the first update (one of the two factors starts at zero). The other factor is
    drawn from a fixed seed, so that two runs begin with equal adapters.

    Raises:
        ConfigError: peft is not installed, or ``target_modules`` fit nothing in this model.
    """
    try:
        import peft
    except ImportError as error:
        raise ConfigError("learner.lora needs the package peft; install it with: pip install 'agentdistill[lora]'") from error
    targets = config.target_modules if isinstance(config.target_modules, str) else list(config.target_modules)
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for a switch by the name that it had before transformers 5
        torch.manual_seed(0)
        try:
            return peft.get_peft_model(model, settings)
        except ValueError as error:
            raise ConfigError(
                f"learner.lora.target_modules={config.target_modules!r} does not fit {type(model).__name__}: {error}"
            ) from error


def save_lora(adapters: Any, folder: Path, base: str) -> None:
    """Write adapter_config.json, which names ``base``, and adapter_model.safetensors."""
    for settings in adapters.peft_config.values():
        settings.base_model_name_or_path = base
    adapters.save_pretrained(folder, save_embedding_layers=False)


class Reference:
    """The policy before training: the base under disabled adapters, or a frozen copy."""

    def __init__(self, model: nn.Module, *, adapters: Any | None = None, copied: nn.Module | None = None) -> None:
        self._model = model
        self._adapters = adapters
        self._copy = copied

    @classmethod
    def of(cls, model: nn.Module, adapters: Any | None, wanted: nn.Module | bool) -> Reference | None:
        """``wanted``: True for the model as it is now, or another model; with adapters the base is always there."""
        if isinstance(wanted, nn.Module):
            return cls(model, copied=wanted.to(next(model.parameters()).device).eval().requires_grad_(False))
        if adapters is not None:
            return cls(model, adapters=adapters)
        return cls(model, copied=copy.deepcopy(model).eval().requires_grad_(False)) if wanted else None

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """The reference, usable inside the block."""
        if self._copy is not None:
            yield self._copy
            return
        assert self._adapters is not None
        with self._adapters.disable_adapter():
            yield self._model
