"""A learned value of states: linear maps of the student's final hidden states, each fitted to what came of the states it saw.

    c c c s s s c c s s
        ^ ^ ^   ^ ^   V of the state before each sampled token; and of the state after the last token, for episodes that were cut

The hidden states are detached: whatever the value learns, the policy's features are not its to change. It begins as zero everywhere, so
that the first advantages are those of the rewards alone. Optimizer and learning rate are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agentdistill.config.value import Gae
from agentdistill.errors import StoreError
from agentdistill.learner.packing import MicroBatch, fill, pad
from agentdistill.learner.plan import Plan
from agentdistill.types import Sample

FILE = "value.safetensors"


class ValueHead:
    """V_c(s) = w_c · h(s) + b_c of each learned value c.

    Args:
        width: H of the hidden states.
        settings: by learned value; see :func:`agentdistill.config.terms.learned_values`.
        dtype: of weights and products; float32 at least.
    """

    def __init__(self, width: int, settings: Mapping[str, Gae], *, device: torch.device, dtype: torch.dtype) -> None:
        self.settings = dict(settings)
        self.parameters: dict[str, nn.Parameter] = {}
        for name in self.settings:
            self.parameters[f"{name}.weight"] = nn.Parameter(torch.zeros(width, dtype=dtype, device=device))
            self.parameters[f"{name}.bias"] = nn.Parameter(torch.zeros((), dtype=dtype, device=device))
        groups = [
            {"params": [self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]], "lr": gae.value_lr}
            for name, gae in self.settings.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0)

    def predict(self, name: str, hidden: Tensor) -> Tensor:
        """[..., H] -> [...]; no gradient reaches the hidden states."""
        weight = self.parameters[f"{name}.weight"]
        return hidden.detach().to(weight.dtype) @ weight + self.parameters[f"{name}.bias"]

    def backward(self, micro: MicroBatch, hidden: Tensor, plan: Plan) -> None:
        """Add the gradient of Σ coefficient/N · ½(V − target)² over the micro-batch's targets.

        Args:
            hidden: [N, H].
            plan: told ``value/<name>`` and ``loss/value/<name>``, [N].
        """
        for name, regression in micro.values.items():
            index = torch.as_tensor(regression.index, device=hidden.device)
            found = self.predict(name, hidden[index])
            losses = 0.5 * (found - torch.as_tensor(regression.targets).to(found)).square()
            (losses.sum() * (self.settings[name].value_coefficient * regression.weight)).backward()  # type: ignore[no-untyped-call]  # torch
            plan.record(f"value/{name}", 0, index, found.detach(), len(micro))
            plan.record(f"loss/value/{name}", 0, index, losses.detach(), len(micro))

    @torch.no_grad()
    def score(self, samples: Sequence[Sample], hidden_of: Callable[[MicroBatch], Tensor], micro_batch_tokens: int) -> list[Sample]:
        """The samples with ``values`` and ``values_after`` filled; ``hidden_of``: [N, H] of a micro-batch."""
        where = [np.append(np.flatnonzero(sample.sampled[1:]) + 1, len(sample)) for sample in samples]
        found = list(samples)
        for chosen in fill({i: len(samples[i]) for i in range(len(samples))}, micro_batch_tokens):
            micro = MicroBatch(
                samples=tuple(samples[i] for i in chosen),
                input_ids=pad([samples[i].token_ids for i in chosen]),
                rows=np.repeat(np.arange(len(chosen)), [len(where[i]) for i in chosen]),
                cols=np.concatenate([where[i] for i in chosen]),
            )
            hidden = hidden_of(micro)
            for name in self.settings:
                values = self.predict(name, hidden).float().cpu().numpy()
                for row, i in enumerate(chosen):
                    stream = np.full(len(samples[i]) + 1, np.nan, np.float32)
                    stream[where[i]] = values[micro.rows == row]
                    sample = found[i]
                    found[i] = replace(
                        sample, values={**sample.values, name: stream[:-1]}, values_after={**sample.values_after, name: float(stream[-1])}
                    )
        return found

    def step(self, clip_norm: float) -> None:
        """One optimizer step on the accumulated gradient, clipped by its own norm."""
        nn.utils.clip_grads_with_norm_(list(self.parameters.values()), clip_norm, self.norm())
        self.optimizer.step()

    def norm(self) -> Tensor:
        """Of the accumulated gradient."""
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def state(self) -> dict[str, Any]:
        """Weights ``<name>.weight`` and ``<name>.bias``, and the optimizer's moments of each as ``<name>.weight.<moment>``: copies."""
        found = {}
        for name, parameter in self.parameters.items():
            found[name] = _copy(parameter)
            found.update({f"{name}.{key}": _copy(value) for key, value in self.optimizer.state.get(parameter, {}).items()})
        return found

    def check(self, tensors: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise :class:`StoreError` unless :meth:`load_state` can take what a checkpoint has."""
        if FILE not in tensors:
            raise StoreError(f"the checkpoint has no {FILE!r} (files: {', '.join(sorted(tensors)) or 'none'}); its method learned no value")
        for name, parameter in self.parameters.items():
            if name not in tensors[FILE]:
                raise StoreError(f"{FILE} lacks {name!r}; it was written by another method")
            if (shape := tuple(tensors[FILE][name].shape)) != tuple(parameter.shape):
                raise StoreError(f"{FILE}: {name!r} has shape {shape}, this model's is {tuple(parameter.shape)}")

    @torch.no_grad()
    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Become the head that :meth:`state` described."""
        self.optimizer.state.clear()
        for name, parameter in self.parameters.items():
            parameter.copy_(_tensor(saved[name]))
            moments = {key: _tensor(saved[f"{name}.{key}"]) for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in saved}
            if moments:
                self.optimizer.state[parameter] = {key: value if key == "step" else value.to(parameter) for key, value in moments.items()}

    def discard(self) -> None:
        """Forget the accumulated gradient."""
        self.optimizer.zero_grad(set_to_none=True)


def _copy(value: Tensor) -> Any:
    return np.array(value.detach().cpu().numpy(), copy=True)


def _tensor(value: Any) -> Tensor:
    return value.clone() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, copy=True))
