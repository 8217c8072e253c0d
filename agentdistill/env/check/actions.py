"""What a model may say to an environment under test: ordinary words, plausible calls, and what models really write sooner or later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import JsonValue

from agentdistill.types import Message, ToolCall, ToolSpec

WORDS = ("I do not know.", "42", "", "The answer is 7.", "no")


def say(turn: int) -> Message:
    """An answer, in all likelihood a wrong one."""
    return Message.assistant(WORDS[turn % len(WORDS)])


def first_action(tools: tuple[ToolSpec, ...]) -> Message:
    """A call of the first tool where there is one, so that results are looked at too."""
    return Message.assistant("", ToolCall(id="call_0", name=tools[0].name)) if tools else Message.assistant("")


def call(tool: ToolSpec) -> Message:
    """A call that the tool's schema allows, as far as its types say."""
    properties: Any = tool.parameters.get("properties")
    arguments = {name: _value(schema) for name, schema in properties.items()}
    return Message.assistant("", ToolCall(id="call_0", name=tool.name, arguments=arguments))


def _value(schema: Any) -> JsonValue:
    if not isinstance(schema, dict):
        return None
    if "default" in schema or "const" in schema:
        found: JsonValue = schema.get("const", schema.get("default"))
        return found
    if schema.get("enum"):
        first: JsonValue = schema["enum"][0]
        return first
    if schema.get("anyOf"):
        return _value(schema["anyOf"][0])
    kinds: dict[str, JsonValue] = {"string": "x", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    return kinds.get(str(schema.get("type")))


def hostile_actions(tools: tuple[ToolSpec, ...]) -> Iterator[Message]:
    """What models really write, sooner or later."""
    yield Message.assistant("")
    yield Message.assistant("\x00\u202e\ufeff🙂 数学 \\boxed{\\boxed{")
    yield Message.assistant("9**9**9 " * 12_500)
    yield Message.assistant("", ToolCall(id="a", name="", error="not valid JSON", raw='{"name": '))
    yield Message.assistant("", ToolCall(id="a", name="no_such_tool", arguments={"x": 1}))
    yield Message.assistant("", *(ToolCall(id=f"c{index}", name="no_such_tool") for index in range(50)))
    for tool in tools:
        properties = tool.parameters.get("properties")
        names = list(properties) if isinstance(properties, dict) else []
        yield Message.assistant("", ToolCall(id="a", name=tool.name))
        yield Message.assistant("", ToolCall(id="a", name=tool.name, arguments={"surplus": None}))
        values: tuple[JsonValue, ...] = ("", "9**9**9", "x" * 100_000, -1, 10**30, 1e308, None, True, [], {}, [[[]]], {"a": {}})
        for value in values:
            yield Message.assistant("", ToolCall(id="a", name=tool.name, arguments=dict.fromkeys(names, value)))
