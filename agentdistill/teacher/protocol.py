"""Who reviews an episode, and the full-vocabulary target that a white-box teacher offers the learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from agentdistill.types import Access, Episode, Feedback, Sample

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Teacher(Protocol):
    """Reads episodes and answers per token, per turn and per trajectory, as far as it can."""

    name: str
    version: str
    access: Access

    def review(self, episodes: Sequence[Episode]) -> list[Feedback]:
        """One feedback an episode, in order.

        Raises:
            TeacherError: no usable answer; none of the episodes is then reviewed.
        """
        ...


@runtime_checkable
class PrivilegedTeacher(Protocol):
    """A teacher that is told what samples do not carry, and so reads their episodes before it answers for them."""

    def prepare(self, episodes: Sequence[Episode]) -> Mapping[str, Sequence[bool]]:
        """By episode id, whether each of its turns is reviewed. Episodes of earlier calls may be forgotten."""
        ...


class DenseTarget(Protocol):
    """The teacher's whole next-token distribution at N selected positions, formed a chunk at a time and never stored.

    The N positions are those that the learner selected, in its order. Two further methods are optional, and used where they are there:

    * ``logits(start, stop, out=None)``, see :class:`LogitsTarget`: spares a normalisation and an allocation.
    * ``sparse(start, stop)``, see :class:`SparseTarget`: the teacher knows only its most likely tokens; used instead of the others.
    """

    def __len__(self) -> int:
        """N."""
        ...

    def log_probs(self, start: int, stop: int) -> torch.Tensor:
        """Normalised log-probabilities of positions ``start:stop``: [stop−start, V], float32, no gradient."""
        ...


@runtime_checkable
class LogitsTarget(Protocol):
    """A target that can also give what it has before it is normalised."""

    def logits(self, start: int, stop: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of positions ``start:stop``, [stop−start, V]: log-probabilities up to a constant a row, no gradient.

        Args:
            out: memory to put them into, of that shape and of any float dtype; a target may ignore it.
        """
        ...


@runtime_checkable
class SparseTarget(Protocol):
    """A target that knows k tokens a position: what a server returns as its top log-probabilities."""

    def __len__(self) -> int:
        """N."""
        ...

    def sparse(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of positions ``start:stop``: ids and their log-probabilities, both [stop−start, k].

        Log-probabilities are normalised over the whole vocabulary; an entry with id −1 or log-probability −inf is padding. No id is
        there twice in a row.
        """
        ...


@runtime_checkable
class DenseTeacher(Protocol):
    """A white-box teacher."""

    def dense(self, samples: Sequence[Sample], positions: Sequence[Sequence[int]]) -> DenseTarget:
        """The target for predicting ``samples[i].token_ids[t]`` for each t in ``positions[i]`` (every t ≥ 1), flattened in that order."""
        ...
