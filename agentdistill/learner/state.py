"""The learner's state as named tensors and JSON: no pickle, and nothing that a checkpoint writer needs to understand.

model.safetensors | adapter.safetensors    parameters and buffers; with LoRA the adapter only
optimizer.safetensors                      <parameter>.<moment> for each trained parameter
value.safetensors                          learned values with their moments, where there are any (:mod:`agentdistill.learner.value`)
meta                                       counters, and what the bits depend on
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agentdistill.errors import StoreError

FORMAT = 1
OPTIMIZER_FILE = "optimizer.safetensors"
Tensors = dict[str, dict[str, npt.NDArray[Any]]]


def model_file(lora: bool) -> str:
    return "adapter.safetensors" if lora else "model.safetensors"


def dump(model: nn.Module, optimizer: torch.optim.Optimizer, lora: bool) -> Tensors:
    """{file: {name: array}}; arrays are copies."""
    moments: dict[str, npt.NDArray[Any]] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        moments.update({f"{names[id(parameter)]}.{key}": _to_numpy(value) for key, value in state.items()})
    return {model_file(lora): {name: _to_numpy(value) for name, value in _kept(model, lora).items()}, OPTIMIZER_FILE: moments}


def load(model: nn.Module, optimizer: torch.optim.Optimizer, lora: bool, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    """Copy the state back, bit by bit.

    Raises:
        StoreError: names or shapes are not those of this model; nothing has been changed then.
    """
    kept = _kept(model, lora)
    saved = tensors.get(model_file(lora))
    if saved is None:
        files = ", ".join(sorted(tensors)) or "none"
        raise StoreError(f"the checkpoint has no {model_file(lora)!r} (files: {files}); was it made with another learner.lora?")
    _require_same(model_file(lora), {name: tuple(value.shape) for name, value in kept.items()}, saved)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    moments: dict[str, dict[str, Any]] = {}
    for full, value in tensors.get(OPTIMIZER_FILE, {}).items():
        name, _, key = full.rpartition(".")
        moments.setdefault(name, {})[key] = value
    if stray := sorted(set(moments) - set(trained)):
        raise StoreError(f"{OPTIMIZER_FILE} has moments of {stray[0]!r}, which this learner does not train")
    with torch.no_grad():
        for name, value in kept.items():
            value.copy_(_to_torch(saved[name]))
    optimizer.state.clear()
    for name, values in moments.items():
        parameter = trained[name]
        optimizer.state[parameter] = {
            key: _to_torch(value).clone()
            if key == "step"
            else _to_torch(value).to(device=parameter.device, dtype=parameter.dtype, copy=True)
            for key, value in values.items()
        }


def fingerprint(device: torch.device, autocast: bool, threads: int) -> dict[str, Any]:
    """What the bits of a step depend on beyond the state."""
    return {"device": device.type, "autocast": autocast, "threads": threads, "torch": torch.__version__}


def compare_fingerprints(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Warn where a continued run cannot be bit-identical to an uninterrupted one."""
    if different := [f"{key} {saved.get(key)!r} then, {current[key]!r} now" for key in current if saved.get(key) != current[key]]:
        warnings.warn(f"resuming under other conditions ({'; '.join(different)}): numbers may differ in their last bits", stacklevel=3)


def _kept(model: nn.Module, lora: bool) -> dict[str, Tensor]:
    """Tied parameters once; buffers that the model itself saves."""
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad or not lora}
    if lora:
        return parameters
    saved = model.state_dict(keep_vars=True)
    return {**parameters, **{name: value for name, value in model.named_buffers() if name in saved}}


def _require_same(file: str, expected: Mapping[str, tuple[int, ...]], saved: Mapping[str, Any]) -> None:
    if different := sorted(set(expected) ^ set(saved)):
        side = "lacks" if different[0] in expected else "has an unknown"
        raise StoreError(f"{file} {side} {different[0]!r} ({len(different)} names differ): it belongs to another model")
    for name, shape in expected.items():
        if tuple(saved[name].shape) != shape:
            raise StoreError(f"{file}: {name!r} has shape {tuple(saved[name].shape)}, this model's is {shape}")


def _to_numpy(value: Tensor) -> npt.NDArray[Any]:
    exact = value.float() if value.dtype is torch.bfloat16 else value  # numpy has no bfloat16; float32 holds it exactly
    return np.array(exact.detach().cpu().numpy(), copy=True)


def _to_torch(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value, copy=True))
