from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class TextContentPart(BaseModel):
    type: Literal["text"] = "text"
    text: str


class ImageUrlContentPart(BaseModel):
    type: Literal["image_url"] = "image_url"
    image_url: dict[str, str]


Content = str | list[Annotated[TextContentPart | ImageUrlContentPart, Field(discriminator="type")]]


class SystemMessage(BaseModel):
    role: Literal["system"] = "system"
    content: Content


class UserMessage(BaseModel):
    role: Literal["user"] = "user"
    content: Content


class ToolCall(BaseModel):
    id: str
    name: str
    arguments: str


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(BaseModel):
    role: Literal["tool"] = "tool"
    tool_call_id: str
    content: Content
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
Messages = list[Message]
