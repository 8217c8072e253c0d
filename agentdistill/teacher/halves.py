"""A causal LM in its two halves, so that logits are only ever formed for the positions that need them, a chunk at a time.

    ids [B, L] ──backbone──> hidden [B, L, H] ──select──> [N, H] ──head, per chunk──> log-probs [n, V]

Known extras between head and logits (softcap, scales) are applied; whether that is all the architecture does is not believed but tried.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from agentdistill.policy.caches import cache_argument, cache_of
from agentdistill.policy.products import project

_TOLERANCE = 1e-2
"""Relative error of the probe: an ignored softcap or scale is off by far more, bfloat16 rounding by less."""


class Halves(Protocol):
    """Token ids to states, and states to logits."""

    whole: bool
    """The states are the logits themselves: they are large, and must be made a few rows at a time."""

    def states(self, ids: torch.Tensor, past: Any = None, use_cache: bool = False) -> tuple[torch.Tensor, Any]:
        """States [B, L, S] of ids [B, L], and the cache after them (``None`` where there is none).

        Rows are padded on the right: causal attention needs no mask there.
        """
        ...

    def logits(self, states: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [..., V], float32, of states [..., S].

        Args:
            out: [n, V′] for states [n, S]: memory for the first V′ of them; it may be ignored.
        """
        ...


class Split:
    """Backbone and head apart; the states are the final hidden ones."""

    whole = False

    def __init__(self, model: PreTrainedModel) -> None:
        base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        config = base.config.get_text_config()
        self._backbone = base.base_model
        self._cache_argument = cache_argument(self._backbone)
        self._head = base.get_output_embeddings()
        self._scale = _scale(config)
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)

    def states(self, ids: torch.Tensor, past: Any = None, use_cache: bool = False) -> tuple[torch.Tensor, Any]:
        output = self._backbone(input_ids=ids, use_cache=use_cache, **({} if past is None else {self._cache_argument: past}))
        return output[0], cache_of(self._backbone, output)

    def logits(self, states: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        logits = self._head(states).float() if out is None else self._into(states, out)
        if self._scale != 1:
            logits.mul_(self._scale)
        if self._softcap:
            logits.div_(self._softcap).tanh_().mul_(self._softcap)
        return logits

    def _into(self, states: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        rows = out.shape[-1]
        if type(self._head) is not torch.nn.Linear:  # an adapter or a quantised layer
            return out.copy_(self._head(states)[..., :rows])
        project(states, self._head.weight[:rows], out)
        return out if self._head.bias is None else out.add_(self._head.bias[:rows])


class Whole:
    """A model that does not come apart: the states are its logits."""

    whole = True

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._cache_argument = cache_argument(model)

    def states(self, ids: torch.Tensor, past: Any = None, use_cache: bool = False) -> tuple[torch.Tensor, Any]:
        output = self._model(input_ids=ids, use_cache=use_cache, **({} if past is None else {self._cache_argument: past}))
        return output.logits, cache_of(self._model, output)

    def logits(self, states: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        return states.float() if out is None else out.copy_(states[..., : out.shape[-1]])


class Lent:
    """The halves of a model that is somebody else's, each used only inside ``lend()``."""

    def __init__(self, halves: Halves, lend: Callable[[], AbstractContextManager[Any]]) -> None:
        self._halves = halves
        self._lend = lend
        self.whole = halves.whole

    def states(self, ids: torch.Tensor, past: Any = None, use_cache: bool = False) -> tuple[torch.Tensor, Any]:
        with self._lend():
            return self._halves.states(ids, past, use_cache)

    def logits(self, states: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        with self._lend():
            return self._halves.logits(states, out)


@torch.no_grad()
def halves_of(model: PreTrainedModel) -> tuple[Halves, int]:
    """The model in two halves where head and backbone put together are the model, else whole; and how many logits it has."""
    ids = torch.arange(1, 9, device=model.device).remainder(model.get_input_embeddings().weight.shape[0]).unsqueeze(0)
    theirs: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
    size = theirs.shape[-1]
    try:
        split = Split(model)
        ours = split.logits(split.states(ids)[0])
    except Exception:  # whatever a foreign architecture raises: it does not come apart
        return Whole(model), size
    same = ours.shape == theirs.shape and float((ours - theirs).norm()) <= _TOLERANCE * float(theirs.norm())
    return (split if same else Whole(model)), size


def _scale(config: Any) -> float:
    """What logits are multiplied with. Cohere multiplies, Granite divides, Falcon-H1 calls it something else."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale *= float(getattr(config, "lm_head_multiplier", None) or 1.0)
    return scale / float(getattr(config, "logits_scaling", None) or 1.0)
