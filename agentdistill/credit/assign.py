"""Masks, weights and advantages: which token carries which term, and how strongly.

The advantage of a policy-gradient term is  Â_t = a₁·Z + a₃·S_t,  with Z the outcome advantage of the episode and
S_t = ln p(y_t) − ln q(y_t) the teacher's log-ratio at the sampled token, detached. S_t is the score-function signal of the reverse KL
divergence up to a constant, which is a baseline ("On-Policy Distillation of Language Models", Agarwal et al., arXiv 2306.13649;
"On-Policy Distillation", Thinking Machines, 2025). Signals that join later (turn critics) add their own part in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agentdistill.config.schema import DivergenceTerm, KLTerm, PolicyGradientTerm, Term, at
from agentdistill.credit.outcome import group_advantages
from agentdistill.errors import AlignmentError
from agentdistill.types import AUTHORS, BoolArray, Episode, EpisodeGroup, FloatArray, Sample

FULL_RETURN = 1.0
"""Return of an episode that did all it could; ``episodes=wrong`` means below it."""


@dataclass(frozen=True, kw_only=True)
class CreditReport:
    """What credit assignment did to a batch."""

    samples: list[Sample]
    metrics: Mapping[str, float] = field(default_factory=dict)


def assign(samples: Sequence[Sample], groups: Sequence[EpisodeGroup], terms: Mapping[str, Term], step: int) -> CreditReport:
    """Give each sample its mask, weight and advantage for each term.

    Args:
        samples: rows of trainable episodes, as :func:`agentdistill.credit.rows` makes them, scored or not.
        step: 0-based, for coefficients with a schedule.

    Raises:
        AlignmentError: a term needs the teacher's log-probabilities on tokens that no teacher reviewed, or a sample's episode is not
            among the groups.
    """
    episodes = {episode.id: episode for group in groups for episode in group.trainable}
    metrics: dict[str, float] = {}
    outcome: dict[str, dict[str, float]] = {}
    for name, term in terms.items():
        if isinstance(term, PolicyGradientTerm) and at(term.outcome, step):
            outcome[name] = _outcome_by_episode(groups, term, metrics)
    credited = []
    for sample in samples:
        if sample.episode not in episodes:
            raise AlignmentError(f"a sample belongs to episode {sample.episode!r}, which is not among the trainable episodes of the batch")
        credited.append(_credit(sample, episodes[sample.episode], terms, outcome, step))
    return CreditReport(samples=credited, metrics=metrics)


def _outcome_by_episode(groups: Sequence[EpisodeGroup], term: PolicyGradientTerm, metrics: dict[str, float]) -> dict[str, float]:
    advantages: dict[str, float] = {}
    flat = counted = 0
    for group in groups:
        siblings = [episode for episode in group.trainable if any(turn.author == "student" for turn in episode.turns)]
        if not siblings:
            continue
        values = group_advantages([episode.reward for episode in siblings], term.baseline)
        counted += 1
        flat += not np.any(values)
        advantages.update(zip((episode.id for episode in siblings), values.tolist(), strict=True))
    metrics["credit/groups_without_advantage/share"] = flat / counted if counted else 0.0
    return advantages


def _credit(sample: Sample, episode: Episode, terms: Mapping[str, Term], outcome: Mapping[str, Mapping[str, float]], step: int) -> Sample:
    masks: dict[str, BoolArray] = {}
    weights: dict[str, FloatArray] = {}
    advantages: dict[str, FloatArray] = {}
    parts: dict[str, FloatArray] = {}
    for name, term in terms.items():
        mask = _mask(sample, episode, term)
        if sample.reviewed is not None and _only_hears_the_teacher(term, step):
            mask = mask & sample.reviewed
        masks[name] = mask
        weights[name] = mask.astype(np.float32)
        if isinstance(term, PolicyGradientTerm):
            term_parts = _advantage_parts(sample, episode, term, mask, outcome.get(name, {}), step)
            total = np.zeros(len(sample), np.float32)
            for part, values in term_parts.items():
                total += values
                parts[part] = parts[part] + values if part in parts else values
            advantages[name] = total
    return replace(sample, masks=masks, weights=weights, advantages=advantages, advantage_parts=parts)


def _only_hears_the_teacher(term: Term, step: int) -> bool:
    """Whether the term has nothing to say where the teacher has not."""
    if isinstance(term, PolicyGradientTerm):
        return at(term.outcome, step) == 0
    return isinstance(term, DivergenceTerm) or (isinstance(term, KLTerm) and term.against == "teacher")


def _mask(sample: Sample, episode: Episode, term: Term) -> BoolArray:
    student = sample.author == AUTHORS.index("student")
    mask = {"student": student, "data": sample.sampled & ~student, "all": sample.sampled}[term.tokens]
    if term.episodes != "all":
        right = episode.success if episode.success is not None else episode.reward >= FULL_RETURN
        mask = mask & np.bool_(right == (term.episodes == "right"))
    return np.asarray(mask, np.bool_)


def _advantage_parts(
    sample: Sample, episode: Episode, term: PolicyGradientTerm, mask: BoolArray, outcome: Mapping[str, float], step: int
) -> dict[str, FloatArray]:
    parts: dict[str, FloatArray] = {}
    if (coefficient := at(term.outcome, step)) and mask.any():
        parts["outcome"] = np.where(mask, np.float32(coefficient * outcome[episode.id]), np.float32(0))
    if coefficient := at(term.teacher, step):
        heard = mask if sample.reviewed is None else mask & sample.reviewed
        parts["teacher"] = np.where(heard, np.float32(coefficient) * _log_ratio(sample, term, heard), np.float32(0))
    return parts


def _log_ratio(sample: Sample, term: PolicyGradientTerm, mask: BoolArray) -> FloatArray:
    """ln p − ln q of the sampled tokens, clipped to ±``teacher_clip``; zero off the mask."""
    student = sample.old_logprobs if sample.old_logprobs is not None else sample.rollout_logprobs
    if sample.teacher_logprobs is None or np.isnan(sample.teacher_logprobs[mask]).any():
        raise AlignmentError(f"a teacher term needs log-probabilities that no teacher gave, in episode {sample.episode!r}")
    ratio = np.zeros(len(sample), np.float32)
    ratio[mask] = sample.teacher_logprobs[mask] - student[mask]
    if term.teacher_clip is not None:
        ratio = np.clip(ratio, -term.teacher_clip, term.teacher_clip)
    return ratio
