"""From a server's schema of actions to how a model acts, and from an observation to what it reads.

one field, text                              text     the completion is that field
several fields, or one that is no text       tool     one tool, whose arguments are the fields
list_tools and call_tool                     mcp      the environment's own tools
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentdistill.errors import EnvError
from agentdistill.interop.mcp.client import shown
from agentdistill.interop.schemas import ForeignTool, foreign_tools, object_schema

Kind = Literal["text", "tool", "mcp"]

TOOL = "act"
"""The tool's name where the action has several fields."""
_HIDDEN = ("metadata",)
"""Fields of every action and observation that say nothing to a player."""


@dataclass(frozen=True)
class Acting:
    """How a model acts on a server."""

    kind: Kind
    text_field: str = ""
    """For ``text``: the field of the action."""
    tools: Mapping[str, ForeignTool] = field(default_factory=dict)
    """For ``tool``: the one tool."""


def acting(schema: Any, *, wanted: Literal["auto", "text", "tool", "mcp"], text_field: str) -> Acting:
    """How a model acts, from the JSON schema of an action.

    Args:
        wanted: the kind. ``auto``: as the schema says.
        text_field: the field that takes the text. Empty: the only one that can.

    Raises:
        EnvError: the action cannot be given so.
    """
    action = object_schema(schema)
    properties = action["properties"]
    assert isinstance(properties, dict)
    fields: dict[str, Any] = {name: value for name, value in properties.items() if name not in _HIDDEN}
    if wanted == "mcp" or (wanted == "auto" and _is_mcp(fields)):
        return Acting("mcp")
    texts = [name for name, value in fields.items() if _is_text(value)]
    if wanted == "text" or (wanted == "auto" and (text_field or (len(fields) == 1 and texts))):
        return Acting("text", _text_field(text_field, texts, fields))
    shown_schema = {**action, "properties": fields, "required": [name for name in _names(action) if name in fields]}
    told = str(action.get("description") or "Act in the environment.")
    return Acting("tool", tools=foreign_tools([(TOOL, told, shown_schema)]))


def _is_mcp(fields: Mapping[str, Any]) -> bool:
    """The action is a call of a tool, or the bare base of all actions, which takes such calls."""
    return not fields or {"tool_name", "arguments"} <= set(fields)


def _is_text(schema: Any) -> bool:
    if not isinstance(schema, dict) or "enum" in schema or "const" in schema:
        return False
    options = schema.get("anyOf")
    return schema.get("type") == "string" or (isinstance(options, list) and any(_is_text(option) for option in options))


def _text_field(asked: str, texts: list[str], fields: Mapping[str, Any]) -> str:
    if asked and (asked in fields or not fields):
        return asked
    if not asked and len(texts) == 1:
        return texts[0]
    told = f"has no field {asked!r}" if asked else f"has {len(texts)} fields of text"
    raise EnvError(f"the action {told}; set env.text_field to one of its fields ({', '.join(fields) or 'none'}), or env.actions=tool")


def _names(action: Mapping[str, Any]) -> list[Any]:
    required = action.get("required")
    return required if isinstance(required, list) else []


def tools_listed(observation: Mapping[str, Any]) -> dict[str, ForeignTool]:
    """The tools of an environment of MCP, from its answer to ``list_tools``.

    Raises:
        EnvError: it lists none.
    """
    listed = observation.get("tools")
    found = [each for each in listed if isinstance(each, dict) and isinstance(each.get("name"), str)] if isinstance(listed, list) else []
    if not found:
        raise EnvError(f"the environment takes calls of tools and lists none: {str(dict(observation))[:200]}")
    schemas = [each.get("input_schema") or each.get("inputSchema") for each in found]
    return foreign_tools((each["name"], str(each.get("description") or ""), schema) for each, schema in zip(found, schemas, strict=True))


def readable(observation: Mapping[str, Any]) -> str:
    """What an observation says: a single field of text as it is, else all that says something, as JSON."""
    said = {name: value for name, value in observation.items() if name not in (*_HIDDEN, "done", "reward") and not _nothing(value)}
    if not said:
        rest = observation.get("metadata")
        said = {name: value for name, value in rest.items() if not _nothing(value)} if isinstance(rest, dict) else {}
    texts = [name for name, value in said.items() if isinstance(value, str)]
    if len(said) == 1 and texts:
        return str(said[texts[0]])
    return json.dumps(said, ensure_ascii=False) if said else ""


def _nothing(value: Any) -> bool:
    return value is None or value in ("", [], {})


def called(observation: Mapping[str, Any]) -> tuple[str, bool]:
    """(what a call of a tool came back with, whether it failed)."""
    error = observation.get("error")
    if error is not None:
        told = error.get("message") if isinstance(error, dict) else error
        return str(told or "the tool failed and says nothing"), True
    result = observation.get("result")
    if isinstance(result, dict) and isinstance(result.get("content"), list):
        structured = result.get("structuredContent", result.get("structured_content"))
        failed = result.get("isError") is True or result.get("is_error") is True
        text, _ = shown({"content": result["content"], "structuredContent": structured})
        return text, failed
    if result is None:
        rest = {name: value for name, value in observation.items() if name not in ("tool_name", "result", "error")}
        return readable(rest), False
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False), False
