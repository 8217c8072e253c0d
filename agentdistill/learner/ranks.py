"""One batch over several processes: torch.distributed, where it is initialised; else everything here leaves things as they are.

    whole batch ──credit──> samples ──shard(rank, world)──> the rank's own ──pack, accumulate, update──> equal weights on every rank

What a batch's tokens have in common is summed: the counts N_c that losses are divided by, the figures of the report, and once an update
the gradients. Advantages, baselines and whitening belong to the whole batch, so credit is assigned before it is split.

Every rank begins with the same weights and makes the same calls, with no sample if it must be; an error on one leaves the others waiting
until the group's time is up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import distributed, nn

from agentdistill.config.schema import Term
from agentdistill.errors import UsageError
from agentdistill.types import Sample


def shard(samples: Sequence[Sample], rank: int, world: int) -> list[Sample]:
    """The samples of ``rank`` among ``world``, in their order. An episode's segments stay together, for some terms count or average over
    them; episodes go, longest first, to the rank that has the fewest tokens.

    Args:
        samples: the whole batch, the same on every rank, with its credit: what is compared over the batch must have been compared by now.

    Raises:
        UsageError: no such rank.
    """
    if not 0 <= rank < world:
        raise UsageError(f"rank {rank} of {world}; expected 0 to {world - 1}")
    lengths: dict[str, int] = {}
    for sample in samples:
        lengths[sample.episode] = lengths.get(sample.episode, 0) + len(sample)
    loads, owner = [0] * world, {}
    for episode in sorted(lengths, key=lambda episode: -lengths[episode]):
        owner[episode] = loads.index(min(loads))
        loads[owner[episode]] += lengths[episode]
    return [sample for sample in samples if owner[sample.episode] == rank]


class Ranks:
    """The processes that train together.

    Args:
        device: where what they exchange must lie.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def several(self) -> bool:
        return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1

    def sum(self, values: Sequence[float]) -> list[float]:
        """Of each number over the ranks."""
        return self._reduced(values, distributed.ReduceOp.SUM) if self.several else list(values)

    def max(self, values: Sequence[float]) -> list[float]:
        """Likewise its maximum."""
        return self._reduced(values, distributed.ReduceOp.MAX) if self.several else list(values)

    def sum_counts(self, counts: Mapping[str, float], terms: Mapping[str, Term]) -> dict[str, float]:
        """N_c over the ranks, of what each counted itself; see :func:`agentdistill.learner.counts.normalisers`. Constants stay."""
        totals = dict(zip(counts, self.sum(list(counts.values())), strict=True))
        return totals | {name: counts[name] for name, term in terms.items() if term.normaliser == "constant"}

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Over the ranks, in one go; a parameter that has none on any rank keeps none."""
        if not self.several or not parameters:
            return
        dtype = reduce(torch.promote_types, (parameter.dtype for parameter in parameters))
        there = torch.tensor([parameter.grad is not None for parameter in parameters], device=self.device)
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        flat = torch.cat([*(gradient.reshape(-1).to(dtype) for gradient in gradients), there.to(dtype)])
        distributed.all_reduce(flat)
        found = torch.split(flat, [*(parameter.numel() for parameter in parameters), len(parameters)])
        for parameter, gradient, holders in zip(parameters, found, found[-1].tolist(), strict=False):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if holders else None

    def _reduced(self, values: Sequence[float], how: distributed.ReduceOp.RedOpType) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor, op=how)
        return [float(value) for value in tensor.tolist()]
