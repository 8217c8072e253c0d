"""What was played: turns, how an episode ended, and its siblings."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from agentdistill.types.base import SCHEMA_VERSION, Author, Record
from agentdistill.types.messages import Message, ToolResult, ToolSpec
from agentdistill.types.tasks import Task


class Sampling(Record):
    """How tokens are drawn. ``temperature`` 0 is greedy."""

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    """Tokens of one completion, end-of-turn token included."""


class AuthorSpan(Record):
    """Tokens ``start:stop`` of a completion were written by ``author``."""

    start: int
    stop: int
    author: Author


class Completion(Record):
    """What was said in one turn, exactly as it was sampled."""

    message: Message
    token_ids: tuple[int, ...]
    """Sampled ids, the end-of-turn token included where it was sampled."""
    logprobs: tuple[float, ...] | None = None
    """Log-probability (nats) of each id under the author's raw model: temperature 1, full support.
    ``None``: the author is not a model."""
    behaviour_logprobs: tuple[float, ...] | None = None
    """The same under the distribution that was really drawn from (temperature, top-p, mixtures). ``None``: equal to ``logprobs``."""
    authors: tuple[AuthorSpan, ...] | None = None
    """Who wrote which tokens, for mixed play. ``None``: the turn's author wrote all."""
    finish_reason: Literal["stop", "length", "cancelled"] = "stop"
    policy_version: tuple[int, int] = (0, 0)
    """Lowest and highest weight revision over the tokens."""
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _parallel(self) -> Self:
        for name in ("logprobs", "behaviour_logprobs"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.token_ids):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.token_ids)} token_ids")
        return self


class Views(Record):
    """What a privileged teacher may be told about the state before a turn; recorded while the environment still exists.

    Never rendered to the student. ``None``: the environment cannot tell.
    """

    answer: str | None = None
    feedback: str | None = None
    hint: str | None = None
    expert_action: Message | None = None
    value: float | None = None
    """Exact value of the state: expected return of optimal play from here."""


class Timing(Record):
    """Seconds of wall time."""

    policy: float = 0.0
    env: float = 0.0


class Turn(Record):
    """One reply of the model and the environment's answer to it.

    Within a segment, concatenating ``context_ids + completion.token_ids`` over the turns is exactly what the model saw.
    Where a chat template rewrites history a new segment begins, and its first ``context_ids`` hold the whole rewritten context.
    """

    context_ids: tuple[int, ...]
    """Tokens that this turn adds before the completion: prompt or replies in their template, and the generation prompt."""
    completion: Completion
    segment: int = 0
    author: Author = "student"
    reply: tuple[Message, ...] = ()
    """The environment's messages after the completion."""
    tool_results: tuple[ToolResult, ...] = ()
    reward: float = 0.0
    timing: Timing = Timing()
    anchor: str | None = None
    """Key of the state before the turn: equal keys, equal states. ``None``: the environment has no such key."""
    views: Views | None = None
    """``None``: nothing was recorded for privileged teachers."""


class StopReason(StrEnum):
    """Why an episode ended."""

    COMPLETED = "completed"
    """The environment says that the task is over."""
    MAX_TURNS = "max_turns"
    TIME_LIMIT = "time_limit"
    MAX_TOKENS = "max_tokens"
    """The episode's token budget is spent, or a completion hit its own limit without an end-of-turn token."""
    CONTEXT_OVERFLOW = "context_overflow"
    """The next context would not fit the model's positions."""
    ERROR = "error"
    """Something failed; ``Episode.failure`` says what."""
    CANCELLED = "cancelled"

    @property
    def terminated(self) -> bool:
        return self is StopReason.COMPLETED

    @property
    def truncated(self) -> bool:
        return self in _TRUNCATIONS

    @property
    def error(self) -> bool:
        return self is StopReason.ERROR


_TRUNCATIONS = (StopReason.MAX_TURNS, StopReason.TIME_LIMIT, StopReason.MAX_TOKENS, StopReason.CONTEXT_OVERFLOW)


class Status(StrEnum):
    """What may be done with an episode. Only trainable ones ever reach a numerator, a denominator or a baseline."""

    OK = "ok"
    TRUNCATED = "truncated"
    AGENT_ERROR = "agent_error"
    """The model's own fault ended it (for instance an unusable reply): it trains."""
    ENV_ERROR = "env_error"
    SANDBOX_ERROR = "sandbox_error"
    TEACHER_ERROR = "teacher_error"
    CANCELLED = "cancelled"
    POISONED = "poisoned"
    """The task is quarantined after repeated failures."""

    @property
    def trainable(self) -> bool:
        return self in (Status.OK, Status.TRUNCATED, Status.AGENT_ERROR)


class Failure(Record):
    """Where an episode broke."""

    stage: Literal["reset", "step", "policy", "render", "review"]
    type: str
    """Name of the exception's class."""
    message: str
    turn: int | None = None
    """Turn index at which it broke; ``None``: before the first turn."""
    attempts: tuple[str, ...] = ()
    """Messages of earlier attempts, oldest first."""


class Fork(Record):
    """Where a child episode left its parent."""

    episode: str
    turn: int
    token: int | None = None
    """Index into the completion of that turn. ``None``: the whole turn was replaced."""


class Episode(Record):
    """The finished record of one play of one task."""

    schema_version: int = SCHEMA_VERSION
    id: str
    group: str
    parent: Fork | None = None
    task: Task
    seed: int
    prompt: tuple[Message, ...]
    """What ``reset`` returned: the messages before the first turn."""
    tools: tuple[ToolSpec, ...] = ()
    turns: tuple[Turn, ...] = ()
    stop: StopReason
    status: Status
    reward: float = 0.0
    """Sum of the turns' rewards: the return, undiscounted."""
    reward_parts: dict[str, float] = Field(default_factory=dict)
    success: bool | None = None
    """The environment's verdict. ``None``: it has none."""
    failure: Failure | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    """Package, environment, sandbox image, models."""

    @property
    def policy_version(self) -> tuple[int, int]:
        """Lowest and highest weight revision over all sampled tokens; (0, 0) without turns."""
        pairs = [turn.completion.policy_version for turn in self.turns] or [(0, 0)]
        return min(low for low, _ in pairs), max(high for _, high in pairs)

    @property
    def completion_tokens(self) -> int:
        return sum(len(turn.completion.token_ids) for turn in self.turns)

    @property
    def tokens(self) -> int:
        return sum(len(turn.context_ids) + len(turn.completion.token_ids) for turn in self.turns)

    def messages(self) -> tuple[Message, ...]:
        """The whole conversation in order."""
        said = [message for turn in self.turns for message in (turn.completion.message, *turn.reply)]
        return (*self.prompt, *said)


class EpisodeGroup(Record):
    """Siblings: several plays of one task, compared with each other by group-relative advantages."""

    id: str
    task: Task
    episodes: tuple[Episode, ...]

    @property
    def trainable(self) -> tuple[Episode, ...]:
        return tuple(episode for episode in self.episodes if episode.status.trainable)
