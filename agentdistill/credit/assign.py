"""Masks, weights and advantages: which token carries which term, and how strongly.

    term ──> mask ──> token weights ──> [policy gradient: outcome Z, critic C, teacher S ──combine──> Â, κ]

Everything is detached: an advantage is a number. Tokens whose weight is 0 leave the mask, and with it the term's count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agentdistill.config.method import resolved
from agentdistill.config.schedule import at
from agentdistill.config.schema import DivergenceTerm, KLTerm, PolicyGradientTerm, Term
from agentdistill.credit.advantages import Advantages, policy_gradient_credit
from agentdistill.credit.learned import with_ends
from agentdistill.credit.tokens import Tokens, Values
from agentdistill.credit.verdict import is_right
from agentdistill.credit.weighing import weigh
from agentdistill.errors import AlignmentError
from agentdistill.types import AUTHORS, BoolArray, Episode, EpisodeGroup, FloatArray, Sample

FILLED = ("masks", "weights", "advantages", "kappas", "returns", "advantage_parts")
"""What a sample is given here, each by term."""


@dataclass(frozen=True, kw_only=True)
class CreditReport:
    """What credit assignment did to a batch."""

    samples: list[Sample]
    metrics: Mapping[str, float] = field(default_factory=dict)


def assign(
    samples: Sequence[Sample],
    groups: Sequence[EpisodeGroup],
    terms: Mapping[str, Term],
    step: int,
    *,
    special_ids: Collection[int] = (),
) -> CreditReport:
    """Give each sample its mask, weight and advantage for each term.

    Args:
        samples: rows of trainable episodes, as :func:`agentdistill.credit.rows` makes them, scored or not.
        step: 0-based, for coefficients with a schedule and for weights that act in some steps only.
        special_ids: the tokenizer's special tokens, for terms that leave them out.

    Raises:
        AlignmentError: a term needs what nobody measured (the teacher's log-probabilities of tokens that no teacher reviewed, …), or a
            sample's episode is not among the groups.
    """
    episodes = {episode.id: episode for group in groups for episode in group.trainable}
    for sample in samples:
        if sample.episode not in episodes:
            raise AlignmentError(f"a sample belongs to episode {sample.episode!r}, which is not among the trainable episodes of the batch")
    terms = {name: resolved(term, step) for name, term in terms.items()}
    metrics: dict[str, float] = {}
    streams: list[dict[str, Any]] = [{name: {} for name in FILLED} for _ in samples]
    for name, term in terms.items():
        masks = [_mask(sample, episodes[sample.episode], term, step) for sample in samples]
        tokens = Tokens.of(samples, masks)
        weights = weigh(tokens, term.token_weights, step, special_ids=special_ids)
        credit = None
        if isinstance(term, PolicyGradientTerm):
            credit = policy_gradient_credit(tokens, groups, name, term, step, special_ids=special_ids)
            metrics.update(credit.metrics)
            weights = weights * credit.counted
        if term.token_weights:
            metrics[f"credit/{name}/tokens_kept/share"] = float(np.count_nonzero(weights) / len(weights)) if len(weights) else 0.0
        _spread(streams, name, tokens, weights, credit)
    return CreditReport(samples=[replace(sample, **found) for sample, found in zip(samples, streams, strict=True)], metrics=metrics)


def _spread(streams: Sequence[dict[str, Any]], name: str, tokens: Tokens, weights: Values, credit: Advantages | None) -> None:
    """Put a term's flat results into each sample's streams."""
    for found, weight in zip(streams, tokens.spread(weights), strict=True):
        found["masks"][name] = weight != 0
        found["weights"][name] = weight
    if credit is None:
        return
    for found, advantage in zip(streams, tokens.spread(credit.total), strict=True):
        found["advantages"][name] = advantage
    if credit.kappa is not None:
        for found, kappa in zip(streams, tokens.spread(credit.kappa), strict=True):
            found["kappas"][name] = kappa
    for key, targets in credit.returns.items():
        for found, sample, target in zip(streams, tokens.samples, tokens.spread(targets, empty=np.nan), strict=True):
            found["returns"][key] = with_ends(target, sample.sampled) if key == name else target  # a signal is of its token alone
    for part, values in credit.parts.items():
        for found, stream in zip(streams, tokens.spread(values), strict=True):
            earlier: FloatArray | None = found["advantage_parts"].get(part)
            found["advantage_parts"][part] = stream if earlier is None else earlier + stream


def _mask(sample: Sample, episode: Episode, term: Term, step: int) -> BoolArray:
    student = sample.author == AUTHORS.index("student")
    mask = {"student": student, "data": sample.sampled & ~student, "all": sample.sampled}[term.tokens]
    if term.episodes != "all":
        mask = mask & np.bool_(is_right(episode) == (term.episodes == "right"))
    if sample.reviewed is not None and _only_hears_the_teacher(term, step):
        mask = mask & sample.reviewed
    return np.asarray(mask, np.bool_)


def _only_hears_the_teacher(term: Term, step: int) -> bool:
    """Whether the term has nothing to say where the teacher has not."""
    if isinstance(term, PolicyGradientTerm):
        return at(term.outcome, step) == 0 and at(term.critic, step) == 0
    return isinstance(term, DivergenceTerm) or (isinstance(term, KLTerm) and term.against == "teacher")
