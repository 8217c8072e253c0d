"""From samples to a weight update: pack, score, accumulate, update.

    samples ──score──> samples with old_logprobs, ref_logprobs
            ──pack───> micro-batches: rows of similar length, weights that already carry 1/N_c
            ──accumulate──> forward, chunked head and losses, backward; a LossReport
            ──update──> one clipped optimizer step, or none where a number was not finite; a StepReport

Loss = Σ_c (1/N_c) Σ_t w_ct ℓ_ct. Each component divides by its own count over the whole batch, so that adding a component never
rescales another and cutting the batch into micro-batches changes nothing.
"""

from agentdistill.learner.counts import needs, normalisers
from agentdistill.learner.head import Head
from agentdistill.learner.learner import Learner
from agentdistill.learner.linear_divergence import Hidden, LinearDivergence, TopK, linear_divergence
from agentdistill.learner.packing import MicroBatch, pack
from agentdistill.learner.ranks import shard
from agentdistill.learner.report import LossReport, StepReport
from agentdistill.policy import resolve_device

__all__ = [
    "Head",
    "Hidden",
    "Learner",
    "LinearDivergence",
    "LossReport",
    "MicroBatch",
    "StepReport",
    "TopK",
    "linear_divergence",
    "needs",
    "normalisers",
    "pack",
    "resolve_device",
    "shard",
]
