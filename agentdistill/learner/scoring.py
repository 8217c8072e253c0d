"""One forward without gradients: log-probabilities of the sampled tokens, and entropy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from agentdistill.learner.device import Precision
from agentdistill.learner.head import Head, backbone_of, hidden_states
from agentdistill.learner.kernel import token_losses
from agentdistill.learner.packing import MicroBatch, fill, pad
from agentdistill.learner.plan import Plan
from agentdistill.types import BoolArray, FloatArray, Sample


def flat_hidden(model: Any, micro: MicroBatch, precision: Precision) -> torch.Tensor:
    """Hidden states of the N positions, [N, H]."""
    with precision.context():
        hidden = hidden_states(backbone_of(model), torch.as_tensor(micro.input_ids, device=precision.device))
    return hidden.flatten(0, 1).index_select(0, torch.as_tensor(micro.hidden_index, device=precision.device))


def scoring_batches(
    samples: Sequence[Sample], micro_batch_tokens: int, *, reviewed: bool = False
) -> Iterator[tuple[list[int], MicroBatch]]:
    """Every sampled position of the samples, or those of them that the teacher reviews, in micro-batches, each with the numbers of its
    samples."""
    where = [np.flatnonzero(_wanted(sample, reviewed)[1:]) + 1 for sample in samples]
    for chosen in fill({i: int(cols[-1]) for i, cols in enumerate(where) if len(cols)}, micro_batch_tokens):
        yield (
            chosen,
            MicroBatch(
                samples=tuple(samples[i] for i in chosen),
                input_ids=pad([samples[i].token_ids[: where[i][-1]] for i in chosen]),
                rows=np.repeat(np.arange(len(chosen)), [len(where[i]) for i in chosen]),
                cols=np.concatenate([where[i] for i in chosen]),
            ),
        )


def _wanted(sample: Sample, reviewed: bool) -> BoolArray:
    return sample.sampled & sample.reviewed if reviewed and sample.reviewed is not None else sample.sampled


@torch.no_grad()
def score_streams(
    model: Any,
    samples: Sequence[Sample],
    *,
    micro_batch_tokens: int,
    chunk_tokens: int,
    precision: Precision,
    entropy: bool,
    vocab_size: int | None = None,
) -> list[dict[str, FloatArray]]:
    """For each sample: ``logprobs`` and, if wanted, ``entropy`` at every sampled position, NaN elsewhere: float32 of length L.

    Temperature 1, full support, dropout off: the policy itself, whatever it was sampled with.
    """
    names = {"student_logprobs": "logprobs", **({"entropy": "entropy"} if entropy else {})}
    found = [{name: np.full(len(sample), np.nan, np.float32) for name in names.values()} for sample in samples]
    training = model.training
    model.eval()
    for chosen, micro in scoring_batches(samples, micro_batch_tokens):
        plan = Plan(
            head=Head.of(model, vocab_size),
            targets=torch.as_tensor(micro.targets, device=precision.device),
            parts=(),
            chunk=chunk_tokens,
            product_dtype=precision.product_dtype,
            entropy=entropy,
        )
        token_losses(plan, flat_hidden(model, micro, precision))
        for source, name in names.items():
            values = plan.arrays[source].float().cpu().numpy()
            for row, i in enumerate(chosen):
                found[i][name][micro.cols[micro.rows == row]] = values[micro.rows == row]
    model.train(training)
    return found
