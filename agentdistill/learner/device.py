"""Where the learner computes, in which precision and with how many threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

SMALL_MODEL = 20_000_000
"""Parameters below which one CPU thread is as fast as several."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How to compute."""

    device: torch.device
    autocast: bool

    @property
    def product_dtype(self) -> torch.dtype | None:
        return torch.bfloat16 if self.autocast else None

    def context(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast)


def resolve_autocast(dtype: str, device: torch.device) -> bool:
    """Whether to compute under bfloat16 autocast: ``auto`` means on CUDA only."""
    return dtype == "bfloat16" or (dtype == "auto" and device.type == "cuda")


def set_threads(threads: int | None, parameters: int) -> int:
    """Set the process's CPU threads; ``None`` is one for a model below 20 M parameters, else every core we may use."""
    chosen = threads or (1 if parameters < SMALL_MODEL else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)
    torch.set_num_threads(chosen or os.cpu_count() or 1)
    return torch.get_num_threads()
