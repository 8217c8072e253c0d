"""The objective that every preset configures: a sum of terms.

    L = Σ_c (weight_c / N_c) Σ_t w_ct · ℓ_ct

Each term c divides by its own count N_c over the global batch, so adding a term never rescales another
("On-Policy Distillation for LLMs: A Survey", Song and Zheng, arXiv 2604.00626, §4, for the families of ℓ).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentdistill.config.method import resolved, schedules
from agentdistill.config.schedule import Adaptive, Schedule, State, at, is_zero
from agentdistill.config.schema import DivergenceTerm, KLTerm, MethodConfig, PolicyGradientTerm, Term
from agentdistill.config.terms import learned_values
from agentdistill.config.weights import EntropyWeight, TipWeight, TokenWeight
from agentdistill.credit import CreditReport, assign
from agentdistill.methods.protocol import Needs
from agentdistill.methods.refuse import refuse_dead_terms
from agentdistill.types import Author, EpisodeGroup, Sample


class Objective:
    """A method that is all configuration."""

    Config = MethodConfig

    def __init__(self, config: MethodConfig) -> None:
        """Raises :class:`ConfigError` for a term whose gradient cannot depend on its signal."""
        self.config = config
        self.terms: Mapping[str, Term] = config.terms
        self.group_size = config.group_size
        sampler = config.sampler
        players: dict[Author, bool] = {
            "student": not is_zero(sampler.student),
            "expert": sampler.expert > 0,
            "teacher": sampler.teacher > 0,
        }
        self.players = tuple(author for author, plays in players.items() if plays)
        self.demonstrations = sampler.demonstrations
        self.only_successes = sampler.only_successes
        self.special_ids: frozenset[int] = frozenset()
        refuse_dead_terms(config)
        self.needs = needs_of(config)
        self._adaptive = {path: each for path, each in _all_schedules(config).items() if isinstance(each, Adaptive)}
        self._states: dict[str, State] = {path: each.begin() for path, each in self._adaptive.items()}

    def terms_at(self, step: int) -> dict[str, Term]:
        """The terms with every coefficient as a number."""
        return {name: resolved(term, step, self._states, f"terms.{name}.") for name, term in self.terms.items()}

    def shares_at(self, step: int) -> dict[Author, float]:
        """Probability of each player to play a task."""
        shares = self.config.sampler.shares(at(self.config.sampler.student, step, self._states.get("sampler.student")))
        return {author: shares[author] for author in self.players}

    def credit(self, samples: Sequence[Sample], groups: Sequence[EpisodeGroup], step: int) -> CreditReport:
        return assign(samples, groups, self.terms_at(step), step, special_ids=self.special_ids)

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Hear the figures of a step: schedules that answer to them move."""
        self._states = {path: each.observe(self._states[path], metrics) for path, each in self._adaptive.items()}

    def state(self) -> dict[str, Any]:
        """JSON-able: where the schedules stand that answer to what they hear."""
        return {path: dict(state) for path, state in self._states.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state` was."""
        self._states.update({path: dict(each) for path, each in state.items() if path in self._adaptive})


def _all_schedules(config: MethodConfig) -> dict[str, Schedule]:
    """Every schedule of a method, by dotted path."""
    found = schedules(config.sampler, "sampler.")
    for name, term in config.terms.items():
        found |= schedules(term, f"terms.{name}.")
    return found


def needs_of(config: MethodConfig) -> Needs:
    """What the terms read beyond the student."""
    terms = config.terms.values()
    gradients = [term for term in terms if isinstance(term, PolicyGradientTerm)]
    extrapolated = any(term.signal.extrapolation is not None and _reads_teacher_logprobs(term) for term in gradients)
    dense_signals = any(term.signal.dense and not is_zero(term.teacher) for term in gradients)
    reference_logprobs = extrapolated or any(isinstance(term, KLTerm) and term.against == "reference" for term in terms)
    return Needs(
        teacher_logprobs=any(_reads_teacher_logprobs(term) for term in terms),
        teacher_dense=dense_signals or any(isinstance(term, DivergenceTerm) for term in terms),
        dense_signals=dense_signals,
        reference=reference_logprobs or any(isinstance(term, DivergenceTerm) and term.target.kind == "geometric" for term in terms),
        reference_logprobs=reference_logprobs,
        old_logprobs=any(map(_wants_old_logprobs, terms)),
        entropy=any(isinstance(weight, EntropyWeight | TipWeight) for term in terms for weight in _weights(term)),
        values=bool(learned_values(config.terms)),
        teacher_plays=config.sampler.teacher > 0,
        expert_plays=config.sampler.expert > 0,
        anchors=any(not is_zero(term.critic) and term.critic_signal.kind == "anchors" for term in gradients),
    )


def _weights(term: Term) -> tuple[TokenWeight, ...]:
    """All weights of a term."""
    return (*term.token_weights, *(term.signal.weights if isinstance(term, PolicyGradientTerm) else ()))


def _wants_old_logprobs(term: Term) -> bool:
    """For a correction of whole episodes; and for weights by the log-ratio on tokens that somebody else sampled, whose log-probability
    under the student nobody has noted."""
    if isinstance(term, PolicyGradientTerm):
        return term.correction is not None and (term.correction.level, term.correction.kind) != ("token", "tis")
    return term.tokens != "student" and any(weight.hears_teacher for weight in term.token_weights)


def _reads_teacher_logprobs(term: Term) -> bool:
    if any(weight.hears_teacher for weight in _weights(term)):
        return True
    if isinstance(term, PolicyGradientTerm):
        belief = not is_zero(term.critic) and term.critic_signal.kind == "belief"
        return not is_zero(term.teacher) or belief
    return isinstance(term, KLTerm) and term.against == "teacher"
