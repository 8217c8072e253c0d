"""One process of the kernel benchmark: one implementation, one shape, one dtype, every beta.

    python tests/benchmarks/kernel_sides.py --side ours --shape 1024x32k --dtype float32

Prints one JSON line a beta: processor seconds of forward and backward, peak memory above the inputs, the loss, and samples of both
gradients. Each implementation is called as its own library calls it; every one of them gets the same numbers.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SHAPES = {"1024x32k": (1024, 32_000, 512, 768), "256x152k": (256, 151_936, 896, 1536), "4096x152k": (4096, 151_936, 2048, 4096)}
"""Positions, vocabulary, hidden sizes of student and teacher."""
BETAS = (0.5, 0.0, 1.0)
"""0 is the forward KL, 1 the reverse one."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    hidden: Tensor
    weight: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor

    @classmethod
    def make(cls, shape: tuple[int, int, int, int], dtype: torch.dtype, device: str) -> Inputs:
        """Logits with a standard deviation of 2 on both sides."""
        count, vocab, width, teacher_width = shape
        generator = torch.Generator().manual_seed(0)

        def normal(rows: int, columns: int, scale: float) -> Tensor:
            found = torch.empty((rows, columns), dtype=dtype)
            for start in range(0, rows, 1024):  # in pieces, so that no float32 copy sets the peak
                piece = found[start : start + 1024]
                piece.copy_(torch.randn(piece.shape, generator=generator) * scale)
            return found.to(device)

        return cls(
            hidden=normal(count, width, 1.0).requires_grad_(),
            weight=normal(vocab, width, 2 / width**0.5).requires_grad_(),
            teacher_hidden=normal(count, teacher_width, 1.0),
            teacher_weight=normal(vocab, teacher_width, 2 / teacher_width**0.5),
        )


Loss = Callable[[Inputs, float], Tensor]


def ours(setting: str) -> Loss:
    from agentdistill.learner import Hidden, linear_divergence

    chunk = int(setting) if setting else None

    def loss(x: Inputs, beta: float) -> Tensor:
        name = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(beta, "jsd")
        more = {"beta": beta} if name == "jsd" else {}
        return linear_divergence(x.hidden, x.weight, Hidden(x.teacher_hidden, x.teacher_weight), divergence=name, chunk=chunk, **more).loss

    return loss


def naive(setting: str) -> Loss:
    """Logits by the two heads, then TRL's function of GKD."""
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    def loss(x: Inputs, beta: float) -> Tensor:
        student = torch.nn.functional.linear(x.hidden, x.weight)
        with torch.no_grad():
            teacher = torch.nn.functional.linear(x.teacher_hidden, x.teacher_weight)
        found: Tensor = GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta)
        return found

    return loss


def trl(setting: str) -> Loss:
    """``setting``: tokens x vocabulary of a tile."""
    from trl.kernels import chunked_divergence as kernel

    if setting:
        kernel.TOKEN_CHUNK_SIZE, kernel.VOCAB_CHUNK_SIZE = (int(number) for number in setting.split("x"))

    def loss(x: Inputs, beta: float) -> Tensor:
        return kernel.ChunkedDivergenceFunction.apply(x.hidden, x.weight, None, x.teacher_hidden, x.teacher_weight, None, beta)[0].mean()

    return loss


def liger(setting: str) -> Loss:
    """``setting``: the chunk."""
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

    def loss(x: Inputs, beta: float) -> Tensor:
        module = LigerFusedLinearJSDLoss(
            weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False, chunk_size=int(setting or 1024)
        )
        labels = torch.zeros(len(x.hidden), dtype=torch.long, device=x.hidden.device)
        found: Tensor = module(x.hidden, x.weight, x.teacher_hidden, x.teacher_weight, labels)
        return found

    return loss


SIDES: dict[str, Callable[[str], Loss]] = {"ours": ours, "naive": naive, "trl": trl, "liger": liger}


class HostMemory:
    """Peak resident bytes above what was resident at the start (Linux)."""

    def __enter__(self) -> HostMemory:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        self.start = self._read("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = self._read("VmHWM") - self.start

    @staticmethod
    def _read(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def measure(loss_of: Loss, inputs: Inputs, beta: float) -> dict[str, Any]:
    """Forward and backward once."""
    inputs.hidden.grad = inputs.weight.grad = None
    with HostMemory() as memory:
        start = time.process_time()
        loss = loss_of(inputs, beta)
        loss.backward()
        seconds = time.process_time() - start
    grad_hidden, grad_weight = inputs.hidden.grad, inputs.weight.grad
    assert isinstance(grad_hidden, Tensor)
    assert isinstance(grad_weight, Tensor)
    return {
        "beta": beta,
        "seconds": seconds,
        "bytes": memory.bytes,
        "loss": float(loss.detach()),
        "norms": [float(grad_hidden.float().norm()), float(grad_weight.float().norm())],
        "hidden": grad_hidden[:: len(grad_hidden) // 8, :32].float().flatten().tolist(),
        "weight": grad_weight[:: len(grad_weight) // 64, :16].float().flatten().tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=SIDES, required=True)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--betas", type=float, nargs="+", default=BETAS)
    parser.add_argument("--setting", default="")
    given = parser.parse_args()
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    torch.set_num_threads(1)
    loss_of, dtype = SIDES[given.side](given.setting), getattr(torch, given.dtype)
    loss_of(Inputs.make((32, 1000, 64, 64), dtype, "cpu"), 0.5).backward()  # first calls load libraries
    inputs = Inputs.make(SHAPES[given.shape], dtype, "cpu")
    for beta in given.betas:
        sys.stdout.write(json.dumps(measure(loss_of, inputs, beta)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
