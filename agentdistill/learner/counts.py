"""What each term of the loss divides by, and what its tokens weigh.

N_c    tokens, turns, sequences or episodes that carry the term over all samples given, or its constant
w / N_c of a token is the same in whatever micro-batch it lands, and on whatever rank
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from agentdistill.config.schema import DivergenceTerm, KLTerm, PolicyGradientTerm, Term, at
from agentdistill.config.terms import learned_values
from agentdistill.errors import AlignmentError
from agentdistill.types import BoolArray, Sample

Weights = npt.NDArray[np.float64]


def needs(terms: Mapping[str, Term]) -> frozenset[str]:
    """What the terms ask for beyond the student: ``dense``, ``advantages``, and ``teacher_``, ``ref_`` or ``rollout_logprobs``."""
    wanted: set[str] = set()
    for term in terms.values():
        if isinstance(term, DivergenceTerm):
            wanted.add("dense")
        elif isinstance(term, KLTerm):
            wanted.add("teacher_logprobs" if term.against == "teacher" else "ref_logprobs")
        elif isinstance(term, PolicyGradientTerm):
            wanted.add("advantages")
            if term.correction is not None:
                wanted.add("rollout_logprobs")
    return frozenset(wanted)


def active_terms(terms: Mapping[str, Term], step: int) -> dict[str, Term]:
    """Those whose coefficient is not 0 at ``step``."""
    return {name: term for name, term in terms.items() if at(term.weight, step) != 0}


def normalisers(samples: Sequence[Sample], terms: Mapping[str, Term]) -> dict[str, float]:
    """N_c of each component: its tokens, its turns, its episodes (times its constant), or its constant. 0 where it has no token anywhere.
    And of each learned value ``value/<name>``: the tokens that have a target.

    A process that holds a part of the batch, which must not cut an episode, sums these over all parts but for constants, and hands the
    sums to :func:`pack`: see :meth:`agentdistill.learner.ranks.Ranks.sum_counts`.
    """
    found: dict[str, float] = {}
    for name, term in terms.items():
        scales = _scales(samples, name, term)
        units = sum(float(scale[mask_of(sample, name)].sum()) for sample, scale in zip(samples, scales, strict=True))
        if term.normaliser == "episode":
            carriers = {sample.episode for sample in samples if mask_of(sample, name).any()}
            found[name] = len(carriers) * (term.constant or 1.0)
        else:
            found[name] = term.constant if term.constant is not None else float(round(units))
    for name in learned_values(terms):
        found[f"value/{name}"] = float(sum(np.count_nonzero(has_target(sample, name)) for sample in samples))
    return found


def has_target(sample: Sample, name: str) -> BoolArray:
    """Where the learned value ``name`` has something to learn, [L]."""
    return ~np.isnan(sample.returns[name]) if name in sample.returns else np.zeros(len(sample), np.bool_)


def mask_of(sample: Sample, name: str) -> BoolArray:
    if name not in sample.masks:
        raise AlignmentError(
            f"no mask for term {name!r} in a sample of episode {sample.episode!r}; masks: {', '.join(sample.masks) or 'none'}"
        )
    return sample.masks[name]


def _scales(samples: Sequence[Sample], name: str, term: Term) -> list[Weights]:
    """Per token: 1 for token and constant; 1 / (tokens of its turn or episode) where those are averaged first."""
    if term.normaliser in ("token", "episode", "constant"):
        return [np.ones(len(sample)) for sample in samples]
    counts: Counter[tuple[str, int]] = Counter()
    units = [sample.turn if term.normaliser == "turn" else np.zeros(len(sample), np.int32) for sample in samples]
    for sample, unit in zip(samples, units, strict=True):
        for key, count in zip(*np.unique(unit[mask_of(sample, name)], return_counts=True), strict=True):
            counts[sample.episode, int(key)] += int(count)
    scales = [np.ones(len(sample)) for sample in samples]
    for sample, unit, scale in zip(samples, units, scales, strict=True):
        for key in np.unique(unit[mask_of(sample, name)]):
            scale[unit == key] = 1.0 / counts[sample.episode, int(key)]
    return scales


def component_weights(samples: Sequence[Sample], name: str, term: Term, total: float) -> list[Weights]:
    """w_ct / N_c of each sample, [L]; exactly 0 where the term does not apply. ``total`` is N_c."""
    found: list[Weights] = []
    for sample, scale in zip(samples, _scales(samples, name, term), strict=True):
        mask = mask_of(sample, name)
        weights = np.asarray(sample.weights[name], np.float64) if name in sample.weights else np.ones(len(sample))
        found.append(np.where(mask, weights * scale / (total or 1.0), 0.0))
    return found
