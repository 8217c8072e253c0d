"""The learner's kernel beside what others have: time, memory, and whether losses and gradients are equal.

    make bench-kernel                                   # makes an environment with the peers, then runs everything (hours in bfloat16
                                                        # on a CPU without instructions for it)
    python tests/benchmarks/bench_kernel.py --cases 1024x32k/float32 --rounds 7 --table kernel.md

    ours    agentdistill.learner.linear_divergence, which is what the learner runs
    naive   two linear layers and trl.experimental.gkd GKDTrainer.generalized_jsd_loss
    trl     trl.kernels.chunked_divergence, the tile that was fastest here
    liger   liger_kernel FusedLinearJSD without torch.compile, the chunk that was fastest here

Every measurement is a process of its own with one thread. A round measures all sides one after the other, in an order that rotates; the
table has medians over rounds, and the ratio to ours is the median of the rounds' ratios. A side that takes more than ``--patience``
seconds for one pass is not repeated.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
CASES = ("1024x32k/float32", "1024x32k/bfloat16", "256x152k/float32")
SIDES = ("ours", "naive", "trl", "liger")
SETTINGS = {
    "trl": ("4096x32768", "256x32768", "128x32768", "64x32768", "256x8192", "1024x4096"),
    "liger": ("1024", "512", "256", "128", "64"),
}
"""What is tried for each peer; where TRL's are 4096x32768, and Liger's 1024, the library's defaults."""
BETAS = {0.5: "JSD, β = .5", 0.0: "forward KL", 1.0: "reverse KL"}
AGREE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest difference of a gradient, in units of its largest entry. A peer in bfloat16 rounds its logits."""

Pass = dict[str, Any]


def run(side: str, case: str, setting: str = "", betas: tuple[float, ...] = tuple(BETAS)) -> list[Pass]:
    """One process."""
    shape, dtype = case.split("/")
    command = [sys.executable, str(HERE / "kernel_sides.py"), "--side", side, "--shape", shape, "--dtype", dtype, "--setting", setting]
    command += ["--betas", *(str(beta) for beta in betas)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def tune(case: str) -> dict[str, str]:
    """The fastest setting of each peer at β = .5; in bfloat16 that of float32, where one pass can take minutes."""
    case = case.replace("bfloat16", "float32")
    best = {}
    for side, settings in SETTINGS.items():
        seconds = {setting: run(side, case, setting, (0.5,))[0]["seconds"] for setting in settings}
        best[side] = min(seconds, key=lambda setting: seconds[setting])
        say(f"{case} {side}: " + ", ".join(f"{setting} {taken:.2f} s" for setting, taken in seconds.items()))
    return best


def compare(case: str, rounds: int, patience: float, best: dict[str, str]) -> dict[tuple[str, float], list[Pass]]:
    found: dict[tuple[str, float], list[Pass]] = {}
    slow: set[str] = set()
    for number in range(rounds):
        for side in (*SIDES[number % len(SIDES) :], *SIDES[: number % len(SIDES)]):
            if side in slow:
                continue
            for each in run(side, case, best.get(side, "")):
                found.setdefault((side, each["beta"]), []).append(each)
                if each["seconds"] > patience:
                    slow.add(side)
            say(f"{case} round {number + 1} {side}: " + ", ".join(f"{found[side, beta][-1]['seconds']:.2f} s" for beta in BETAS))
    return found


def disagreements(case: str, found: dict[tuple[str, float], list[Pass]]) -> list[str]:
    """Where losses or gradients are not equal."""
    bound, problems = AGREE[case.split("/")[1]], []
    for beta in BETAS:
        ours = found["ours", beta][0]
        for side in SIDES[1:]:
            theirs = found[side, beta][0]
            gaps = {"loss": abs(ours["loss"] - theirs["loss"]) / abs(theirs["loss"])}
            for name in ("hidden", "weight"):
                gaps[name] = np.abs(np.subtract(ours[name], theirs[name])).max() / np.abs(theirs[name]).max()
            say(f"{case} β={beta} against {side}: " + ", ".join(f"{name} {gap:.1e}" for name, gap in gaps.items()))
            problems += [f"{case} β={beta}: {name} of {side} differs by {gap:.2g}" for name, gap in gaps.items() if gap > bound]
    return problems


def table(case: str, found: dict[tuple[str, float], list[Pass]], best: dict[str, str]) -> str:
    named = ", ".join(f"{side} {setting}" for side, setting in best.items())
    lines = [
        f"### {case.replace('/', ', ')} (fastest settings: {named})\n",
        "| | side | processor s | × ours | extra peak MB | ÷ naive | passes |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for beta, name in BETAS.items():
        bytes_of = {side: median(each["bytes"] for each in found[side, beta]) for side in SIDES}
        for side in SIDES:
            passes = found[side, beta]
            ratio = median(their["seconds"] / own["seconds"] for their, own in zip(passes, found["ours", beta], strict=False))
            seconds = median(each["seconds"] for each in passes)
            share = bytes_of["naive"] / bytes_of[side]
            lines.append(f"| {name} | {side} | {seconds:.2f} | {ratio:.2f} | {bytes_of[side] / 1e6:.0f} | {share:.1f} | {len(passes)} |")
    return "\n".join(lines)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--trl", default="", help="a tile, tokens x vocabulary, instead of trying")
    parser.add_argument("--liger", default="", help="a chunk instead of trying")
    given = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "trl", "liger-kernel"))
    parts, problems = [versions], []
    for case in given.cases:
        best = {"trl": given.trl, "liger": given.liger} if given.trl and given.liger else tune(case)
        found = compare(case, given.rounds, given.patience, best)
        problems += disagreements(case, found)
        parts.append(table(case, found, best))
        sys.stdout.write(parts[-1] + "\n")
        sys.stdout.flush()
        if given.table:
            given.table.parent.mkdir(parents=True, exist_ok=True)
            given.table.write_text("\n\n".join(parts) + "\n")
    if problems:
        raise SystemExit("not equal:\n" + "\n".join(problems))
    say("losses and gradients are equal")


if __name__ == "__main__":
    main()
