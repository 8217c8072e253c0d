"""What the loop asks of a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentdistill.config.schema import Term
from agentdistill.credit import CreditReport
from agentdistill.types import Author, EpisodeGroup, Sample


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method must be given."""

    teacher_logprobs: bool = False
    """The teacher's log-probability of each sampled token (review before the update)."""
    teacher_dense: bool = False
    """The teacher's whole distribution (a white-box teacher with the student's vocabulary)."""
    dense_signals: bool = False
    """It is wanted before the update too, for the signal of a policy gradient."""
    reference: bool = False
    """The student as it was before training."""
    reference_logprobs: bool = False
    """Its log-probability of each sampled token."""
    old_logprobs: bool = False
    """The trainer's own log-probability of each sampled token before the update, even where there is one update a batch."""
    entropy: bool = False
    """The student's entropy at each sampled token."""
    values: bool = False
    """A value of the states, learned beside the policy."""
    teacher_plays: bool = False
    expert_plays: bool = False
    anchors: bool = False
    """Keys of the states before the turns, which only some environments have."""

    @property
    def teacher(self) -> bool:
        return self.teacher_logprobs or self.teacher_dense or self.teacher_plays

    def in_words(self) -> dict[str, str]:
        """What must be there, each in a word or two and in a sentence."""
        told = [
            (self.teacher_logprobs, "teacher's log-probabilities", "the teacher's log-probability of each sampled token"),
            (self.teacher_dense, "teacher's distribution", "the teacher's whole distribution at each token, over the student's vocabulary"),
            (self.teacher_plays, "teacher's episodes", "a teacher that plays episodes of its own"),
            (self.expert_plays, "expert", "an environment with a scripted expert"),
            (self.anchors, "state keys", "an environment whose states have keys (Turn.anchor)"),
            (self.values, "learned value", "a value of the states, learned by a linear head on the student's hidden states"),
            (self.reference, "reference", "a copy of the student as it began (with adapters: at no cost)"),
        ]
        return {word: sentence for needed, word, sentence in told if needed}


class Method(Protocol):
    """Built as ``cls(config)`` with the class's own ``Config``; refuses in its constructor what cannot work."""

    terms: Mapping[str, Term]
    needs: Needs
    group_size: int
    players: tuple[Author, ...]
    """Who may play."""
    demonstrations: int | None
    """Tasks for expert and teacher come from a fixed set of this many. ``None``: fresh ones."""
    only_successes: bool
    special_ids: frozenset[int]
    """The tokenizer's special tokens, which whoever has a tokenizer fills in."""

    def shares_at(self, step: int) -> dict[Author, float]:
        """Probability of each player to play a task; 0-based ``step``."""
        ...

    def terms_at(self, step: int) -> Mapping[str, Term]:
        """``terms`` with every coefficient as a number; 0-based ``step``."""
        ...

    def credit(self, samples: Sequence[Sample], groups: Sequence[EpisodeGroup], step: int) -> CreditReport:
        """Masks, weights and advantages for ``samples``; 0-based ``step``."""
        ...

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Hear the figures of a step, for schedules that answer to them."""
        ...

    def state(self) -> dict[str, Any]:
        """JSON-able: what :meth:`observe` has made of all that it heard."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...
