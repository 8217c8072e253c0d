"""What a policy gradient's teacher signal needs of whole distributions, measured by one forward pass without gradient.

divergence   D(p_t, q_t) over the vocabulary: what a later token costs, without the noise of its sample
expected     E_q A: the mean of the signal over what might have been sampled instead, a baseline in closed form (vOPD, arXiv 2605.07865)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from agentdistill.config.schema import PolicyGradientTerm, Term
from agentdistill.learner.device import Precision
from agentdistill.learner.head import Head
from agentdistill.learner.reference import ReferenceTarget
from agentdistill.learner.scoring import flat_hidden, scoring_batches
from agentdistill.losses import expected_advantage, pathwise, score_advantage
from agentdistill.types import FloatArray, Sample

if TYPE_CHECKING:
    from agentdistill.teacher.protocol import DenseTeacher


def dense_terms(terms: Mapping[str, Term]) -> dict[str, PolicyGradientTerm]:
    """Those whose signal needs it."""
    return {name: term for name, term in terms.items() if isinstance(term, PolicyGradientTerm) and term.signal.dense}


@torch.no_grad()
def dense_signals(
    model: Any,
    samples: Sequence[Sample],
    terms: Mapping[str, PolicyGradientTerm],
    dense: DenseTeacher,
    *,
    head: Head,
    micro_batch_tokens: int,
    chunk_tokens: int,
    precision: Precision,
) -> list[Sample]:
    """The samples with ``divergences`` and ``expected_advantages`` of each term filled: float32 [L], NaN where nobody sampled."""
    names = [(kind, name) for kind in ("divergences", "expected_advantages") for name in terms]
    found = [{key: np.full(len(sample), np.nan, np.float32) for key in names} for sample in samples]
    training = model.training
    model.eval()
    for chosen, micro in scoring_batches(samples, micro_batch_tokens, reviewed=True):
        hidden = flat_hidden(model, micro, precision)
        students = ReferenceTarget(head, hidden, precision.product_dtype)
        target = dense.dense(micro.samples, [cols.tolist() for cols in micro.positions()])
        for start in range(0, len(hidden), chunk_tokens):
            stop = min(start + chunk_tokens, len(hidden))
            student = students.log_probs(start, stop)
            teacher = target.log_probs(start, stop).to(student)
            for name, term in terms.items():
                for kind, values in zip(("divergences", "expected_advantages"), _of(term, teacher, student), strict=True):
                    _put(found, chosen, micro.rows[start:stop], micro.cols[start:stop], (kind, name), values)
    model.train(training)
    return [
        replace(
            sample,
            divergences={name: streams["divergences", name] for name in terms},
            expected_advantages={name: streams["expected_advantages", name] for name in terms},
        )
        for sample, streams in zip(samples, found, strict=True)
    ]


def _of(term: PolicyGradientTerm, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """D, and the mean of A_f(u) − A_f(1)."""
    name, parameters = term.signal.divergence, term.signal.numbers()
    value, _ = pathwise(name, teacher, student, parameters)
    mean = expected_advantage(name, teacher, student, **parameters)
    zero = torch.zeros_like(student)
    level = (score_advantage(name, zero, student_logprobs=student, **parameters) * student.exp()).sum(-1)
    return value, mean - level


def _put(
    found: Sequence[dict[tuple[str, str], FloatArray]],
    chosen: Sequence[int],
    rows: np.ndarray[Any, Any],
    cols: np.ndarray[Any, Any],
    key: tuple[str, str],
    values: Tensor,
) -> None:
    numbers = values.float().cpu().numpy()
    for row in np.unique(rows):
        here = rows == row
        found[chosen[row]][key][cols[here]] = numbers[here]
