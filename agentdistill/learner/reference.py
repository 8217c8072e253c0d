"""Whole distributions of a student, as it began or as it is, formed a chunk at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agentdistill.learner.head import Head


@dataclass(frozen=True, eq=False)
class ReferenceTarget:
    """Final hidden states [n, H] and the head that goes with them. A ``DenseTarget``."""

    head: Head
    states: Tensor
    product_dtype: torch.dtype | None = None
    """Of the matrix product. ``None``: that of the states."""

    def __len__(self) -> int:
        return len(self.states)

    @torch.no_grad()
    def log_probs(self, start: int, stop: int) -> Tensor:
        """Normalised log-probabilities of positions ``start:stop``: [stop−start, V], float32 at least."""
        weight, _ = self.head.shared
        dtype = self.product_dtype or self.states.dtype
        return self.head.logits(self.states[start:stop].to(dtype), weight.to(dtype)).log_softmax(-1)
