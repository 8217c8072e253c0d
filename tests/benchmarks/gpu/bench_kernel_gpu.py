"""The table of bench_kernel.py on a CUDA device, with the share of the card's matrix ceiling. See README.md: it has not been run.

python tests/benchmarks/gpu/bench_kernel_gpu.py --shape 4096x152k --dtype bfloat16 --rounds 7
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from kernel_sides import BETAS, SHAPES, SIDES, Inputs, Loss

SETTINGS = {"ours": ("", "512", "1024", "2048"), "naive": ("",), "trl": ("", "1024x32768", "2048x16384"), "liger": ("1024", "512", "2048")}


def seconds(work: Callable[[], object]) -> float:
    """On the device."""
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    work()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) / 1e3


def ceiling(dtype: torch.dtype, size: int = 8192) -> float:
    """Operations a second of a square product, the best of ten."""
    one, other = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: one @ other) for _ in range(10))


def once(loss_of: Loss, inputs: Inputs, beta: float) -> tuple[float, int, float]:
    """Seconds and bytes of forward and backward, and the loss."""
    inputs.hidden.grad = inputs.weight.grad = None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    losses: list[float] = []

    def work() -> None:
        loss = loss_of(inputs, beta)
        loss.backward()
        losses.append(float(loss.detach()))

    taken = seconds(work)
    return taken, torch.cuda.max_memory_allocated() - before, losses[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="4096x152k")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; make bench-kernel measures on the CPU")
    dtype, shape = getattr(torch, given.dtype), SHAPES[given.shape]
    count, vocab, width, teacher_width = shape
    operations, top = 2 * count * vocab * (3 * width + teacher_width), ceiling(dtype)
    inputs = Inputs.make(shape, dtype, "cuda")
    write = sys.stdout.write
    write(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, ceiling {top / 1e12:.0f} TFLOP/s, {given.shape}, {given.dtype}\n\n")
    write("| β | side | setting | ms | extra peak MB | share of the ceiling | loss |\n|--:|---|---|--:|--:|--:|--:|\n")
    for beta in BETAS:
        for side, make in SIDES.items():
            found = {}
            for setting in SETTINGS[side]:
                try:
                    loss_of = make(setting)
                    once(loss_of, inputs, beta)
                    passes = [once(loss_of, inputs, beta) for _ in range(given.rounds)]
                except torch.cuda.OutOfMemoryError:
                    continue
                found[setting] = (median(each[0] for each in passes), passes[0][1], passes[0][2])
            if not found:
                write(f"| {beta} | {side} | | out of memory | | | |\n")
                continue
            setting = min(found, key=lambda each: found[each][0])
            taken, used, loss = found[setting]
            share = operations / taken / top
            write(f"| {beta} | {side} | {setting or 'default'} | {taken * 1e3:.1f} | {used / 1e6:.0f} | {share:.0%} | {loss:.5f} |\n")


if __name__ == "__main__":
    main()
