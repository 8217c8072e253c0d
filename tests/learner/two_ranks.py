"""One of two processes that share a batch: its half of the samples, the normalisers of both, and the sum of both gradients.

    python tests/learner/two_ranks.py RANK FILE DTYPE

``FILE`` is where the two meet; rank 0 writes the gradients beside it. Run by test_distributed.py.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed

sys.path.insert(0, str(Path(__file__).parent))

from conftest import TableTeacher, gpt2, gradients, make_samples

from agentdistill.config.schema import DivergenceTerm, LearnerConfig, PolicyGradientTerm, SupervisedTerm, Term
from agentdistill.learner import Learner, normalisers
from agentdistill.learner.packing import pack

TERMS: dict[str, Term] = {
    "jsd": DivergenceTerm(divergence="jsd", beta=0.3),
    "hellinger": DivergenceTerm(divergence="hellinger", normaliser="sequence"),
    "pg": PolicyGradientTerm(normaliser="turn"),
    "sft": SupervisedTerm(weight=0.5),
}
HALVES = (slice(0, 2), slice(2, 7))
"""Uneven, so that a mean of the two means would be wrong."""


def learner_of(dtype: torch.dtype) -> Learner:
    return Learner(gpt2(dtype=dtype), LearnerConfig(device="cpu", threads=1))


def main(rank: int, file: str, dtype: torch.dtype) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    mine = make_samples(tuple(TERMS), count=7)[HALVES[rank]]
    totals = torch.tensor(list(normalisers(mine, TERMS).values()), dtype=torch.float64)
    distributed.all_reduce(totals)
    learner = learner_of(dtype)
    micro = pack(mine, TERMS, 0, micro_batch_tokens=40, totals=dict(zip(TERMS, totals.tolist(), strict=True)))
    learner.accumulate(micro, TERMS, 0, TableTeacher())
    found = gradients(learner)
    for gradient in found.values():
        distributed.all_reduce(gradient)
    if rank == 0:
        np.savez(Path(file).with_suffix(".npz"), **{name: gradient.numpy() for name, gradient in found.items()})
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], getattr(torch, sys.argv[3]))
