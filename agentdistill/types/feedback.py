"""What a teacher says of an episode."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentdistill.types.base import Record, require_length
from agentdistill.types.episodes import Episode
from agentdistill.types.messages import Message


class TrajectoryFeedback(Record):
    """A teacher's judgement of a whole episode. Every field may be ``None``: not reviewed."""

    score: float | None = None
    """0 (worst) to 1 (best)."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    critique: str | None = None
    hint: str | None = None
    correction: Message | None = None


class TurnFeedback(TrajectoryFeedback):
    """A teacher's judgement of one turn; ``correction`` is what should have been said."""

    turn: int


class TopK(Record):
    """The teacher's most likely tokens at each sampled position: nested [turn][token][k]."""

    token_ids: tuple[tuple[tuple[int, ...], ...], ...]
    logprobs: tuple[tuple[tuple[float, ...], ...], ...]
    tail_mass: tuple[tuple[float, ...], ...]
    """Probability outside the k: [turn][token]."""


class Cost(Record):
    """What a review took."""

    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    money: float = 0.0


Access = Literal["white", "top_k", "sampled", "text", "self", "none"]


class Feedback(Record):
    """One teacher's answer to one episode, at any of three granularities. An episode may have many; ``None`` is not zero."""

    episode: str
    teacher: str
    teacher_version: str = ""
    view: str = "same"
    """What the teacher saw: ``same`` context as the student, or the name of a privileged view."""
    access: Access
    token_logprobs: tuple[tuple[float, ...], ...] | None = None
    """ln p(sampled id), [turn][token], aligned with each completion's ``token_ids``."""
    top_k: TopK | None = None
    turns: tuple[TurnFeedback, ...] = ()
    trajectory: TrajectoryFeedback | None = None
    cost: Cost = Cost()

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.episode, self.teacher, self.teacher_version, self.view)

    def check(self, episode: Episode) -> None:
        """Raise :class:`AlignmentError` unless the token log-probabilities fit the episode's completions exactly."""
        if self.token_logprobs is None:
            return
        require_length(f"token_logprobs of {self.teacher!r} (turns)", len(self.token_logprobs), len(episode.turns), episode.id)
        for index, (values, turn) in enumerate(zip(self.token_logprobs, episode.turns, strict=True)):
            require_length(f"token_logprobs of turn {index}", len(values), len(turn.completion.token_ids), episode.id)
