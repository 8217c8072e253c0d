"""One episode while it is being played: its environment, its token buffer and the turns so far.

reset ─> wanted ──submit──> policy ──completion──> step ─> wanted … ─> finished
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentdistill.env import AgentEnv
from agentdistill.policy.protocol import Request
from agentdistill.render import Renderer, TokenBuffer
from agentdistill.rollout.plan import Play
from agentdistill.types import (
    Completion,
    Episode,
    Failure,
    Message,
    Sampling,
    Status,
    StopReason,
    Timing,
    ToolSpec,
    Turn,
)

Observation = tuple[Message, ...]
Info = Mapping[str, Any]


@dataclass
class Running:
    """State of one play. The player loop calls the methods in the order of the module's drawing."""

    play: Play
    renderer: Renderer
    sampling: Sampling
    max_tokens: int
    versions: dict[str, str]
    attempts: tuple[str, ...] = ()
    env: AgentEnv | None = None
    """``None`` until its reset has begun."""
    turns: list[Turn] = field(default_factory=list)
    prompt: Observation = ()
    tools: tuple[ToolSpec, ...] = ()
    """As the environment had them when it was reset; asked once, because a broken environment may raise when asked."""
    reward_parts: dict[str, float] = field(default_factory=dict)
    success: bool | None = None
    submitted_at: float = 0.0
    """Clock reading when the current turn was handed to the policy."""
    policy_seconds: float = 0.0
    tokens: int = 0
    """Of all turns so far."""
    _buffer: TokenBuffer | None = None
    _before: Info = field(default_factory=dict)

    @property
    def buffer(self) -> TokenBuffer:
        assert self._buffer is not None, "reset comes first"
        return self._buffer

    def began(self, observation: Observation, info: Info) -> None:
        """The environment was reset."""
        assert self.env is not None, "it returned from reset"
        self.tools = self.env.tools
        self.prompt = tuple(observation)
        self._before = info
        self._buffer = self.renderer.start(self.prompt, self.tools)

    def request(self) -> Request | StopReason:
        """The next turn that is wanted from the policy, or why there can be none."""
        context = self.buffer.context()
        limit = min(self.max_tokens, self.play.task.limits.tokens or self.max_tokens)
        left = limit - self.tokens - len(context)
        if left < 1:
            return StopReason.MAX_TOKENS
        sampling = self.sampling.model_copy(update={"max_new_tokens": min(self.sampling.max_new_tokens, left)})
        return Request(
            id=self.play.id,
            turn=len(self.turns),
            segment=self.buffer.segment,
            context_ids=tuple(context),
            prefix_length=self.buffer.prefix_length,
            sampling=sampling,
            key=(*self.play.key, len(self.turns)),
            task=self.play.task,
            messages=self.buffer.messages,
            tools=self.tools,
        )

    def said(
        self, completion: Completion, *, reply: Observation = (), reward: float = 0.0, info: Info | None = None, env_s: float = 0.0
    ) -> None:
        """A turn is over: the completion, and what the environment made of it (nothing, where it was not asked).

        Raises:
            ValueError: the reward or a part of it is not finite; it would spoil the baseline of the whole group.
        """
        after = info or {}
        parts = {name: float(value) for name, value in after.get("reward_parts", {}).items()}
        if not all(map(math.isfinite, (reward, *parts.values()))):
            raise ValueError(f"the reward must be finite, got {reward!r} of {parts!r}")
        self.turns.append(
            Turn(
                context_ids=tuple(self.buffer.context()),
                completion=completion,
                segment=self.buffer.segment,
                author=self.play.author,
                reply=tuple(reply),
                tool_results=tuple(after.get("tool_results", ())),
                reward=float(reward),
                timing=Timing(policy=self.policy_seconds, env=env_s),
                anchor=self._before.get("anchor"),
                views=self._before.get("views"),
            )
        )
        self.tokens += len(self.turns[-1].context_ids) + len(completion.token_ids)
        for name, value in parts.items():
            self.reward_parts[name] = self.reward_parts.get(name, 0.0) + value
        if after.get("success") is not None:
            self.success = bool(after["success"])
        self.buffer.commit(completion.token_ids, completion.message, completion.finish_reason)
        if reply:
            self.buffer.extend(tuple(reply))
        self._before = after

    def finish(self, stop: StopReason, *, status: Status | None = None, failure: Failure | None = None) -> Episode:
        """The record of what was played."""
        if status is None:
            status = Status.TRUNCATED if stop.truncated else Status.CANCELLED if stop is StopReason.CANCELLED else Status.OK
        success = self.success
        if success is None and stop.truncated:
            success = getattr(self.env, "success_when_cut", False)
        return Episode(
            id=self.play.id,
            group=self.play.group,
            task=self.play.task,
            seed=self.play.seed,
            prompt=self.prompt,
            tools=self.tools,
            turns=tuple(self.turns),
            stop=stop,
            status=status,
            reward=sum(turn.reward for turn in self.turns),
            reward_parts=self.reward_parts,
            success=success if status.trainable else None,
            failure=failure,
            versions=self.versions,
        )
