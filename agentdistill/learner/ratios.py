"""The ratio of a whole episode, for terms that clip it as one (GSPO, "Group Sequence Policy Optimization", Zheng et al., arXiv 2507.18071).

ln s_i = mean over the episode's tokens of (ln π_θ − ln π_old) needs all tokens of the episode before the first of them has a loss, and an
episode may have segments in several micro-batches. So it is measured by a forward pass of its own, without gradient, before each update.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from agentdistill.config.schema import PolicyGradientTerm, Term
from agentdistill.learner.packing import Component, MicroBatch
from agentdistill.types import FloatArray, Sample


def wanted(terms: Mapping[str, Term], micro_batches: Sequence[MicroBatch]) -> list[str]:
    """Terms that need it now: of the first update of a batch π_old is π_θ, and the ratio is 1."""
    scored = any(sample.old_logprobs is not None for micro in micro_batches for sample in micro.samples)
    return [name for name, term in terms.items() if scored and isinstance(term, PolicyGradientTerm) and term.ratio == "sequence"]


def samples_of(micro_batches: Sequence[MicroBatch]) -> list[Sample]:
    return [sample for micro in micro_batches for sample in micro.samples]


def with_sequence_ratios(micro_batches: Sequence[MicroBatch], names: Sequence[str], logprobs: Sequence[FloatArray]) -> list[MicroBatch]:
    """The micro-batches with ``sequence_log_ratio`` of the components ``names`` filled.

    Args:
        logprobs: ln π_θ of each sample of :func:`samples_of`, in that order: [L].
    """
    now = iter(logprobs)
    drifts = [_drift(micro, [next(now) for _ in micro.samples]) for micro in micro_batches]
    found = list(micro_batches)
    for name in names:
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for micro, drift in zip(micro_batches, drifts, strict=True):
            for episode, values in _by_episode(micro, micro.components.get(name), drift):
                sums[episode][0] += float(values.sum())
                sums[episode][1] += len(values)
        means = {episode: total / count for episode, (total, count) in sums.items()}
        for number, micro in enumerate(found):
            if (component := micro.components.get(name)) is not None:
                rows = micro.rows[component.index]
                values = np.array([means[micro.samples[row].episode] for row in rows], np.float32)
                components = {**micro.components, name: replace(component, sequence_log_ratio=values)}
                found[number] = replace(micro, components=components)
    return found


def _drift(micro: MicroBatch, now: Sequence[FloatArray]) -> FloatArray:
    """ln π_θ − ln π_old at each position: [N]."""
    old = np.asarray(micro.gather([sample.old_logprobs for sample in micro.samples]), np.float32)
    return np.asarray(micro.gather(now), np.float32) - old


def _by_episode(micro: MicroBatch, component: Component | None, drift: FloatArray) -> list[tuple[str, FloatArray]]:
    if component is None:
        return []
    rows = micro.rows[component.index]
    return [(micro.samples[row].episode, drift[component.index[rows == row]]) for row in np.unique(rows)]
