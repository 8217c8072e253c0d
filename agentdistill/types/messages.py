"""What is said: messages, tools and their calls."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, JsonValue

from agentdistill.types.base import Record


class ToolSpec(Record):
    """A tool as the model is told of it: an OpenAI-style function description."""

    name: str
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default={"type": "object", "properties": {}})
    """JSON schema of the arguments object."""

    def openai(self) -> dict[str, Any]:
        """The form that chat templates and OpenAI-compatible servers expect."""
        return {"type": "function", "function": self.model_dump(mode="json")}


class ToolCall(Record):
    """One call that the model wrote."""

    id: str
    name: str
    """Empty where the call was too malformed to have a name."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    error: str | None = None
    """Why the call could not be parsed, in words for the model. ``None``: it parsed."""
    raw: str | None = None
    """The text that was sampled, kept where it did not parse."""


class ToolResult(Record):
    """What one tool call came back with."""

    call_id: str
    name: str
    content: str
    error: Literal["malformed_call", "unknown_tool", "bad_arguments", "tool_error"] | None = None
    """The kind of mistake, where the model made one. Faults of the infrastructure are never results: they end the episode."""
    truncated: bool = False
    """True where the output was longer than the environment shows."""
    seconds: float = 0.0


class Message(Record):
    """One chat message."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    reasoning: str | None = None
    """Text inside the model's thinking tags. ``None``: the model does not think in tags."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """For role ``tool``: the call that this answers."""
    name: str | None = None
    """For role ``tool``: the tool's name."""

    @classmethod
    def system(cls, content: str) -> Self:
        return cls(role="system", content=content)

    @classmethod
    def user(cls, content: str) -> Self:
        return cls(role="user", content=content)

    @classmethod
    def assistant(cls, content: str = "", *tool_calls: ToolCall) -> Self:
        return cls(role="assistant", content=content, tool_calls=tool_calls)

    @classmethod
    def tool(cls, result: ToolResult) -> Self:
        return cls(role="tool", content=result.content, tool_call_id=result.call_id, name=result.name)
