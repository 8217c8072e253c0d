"""The base of environments whose tools come from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from agentdistill.env import EnvConfig
from agentdistill.interop.calling import ForeignToolEnv
from agentdistill.interop.schemas import ForeignTool, foreign_tools
from agentdistill.types import ToolCall


class Echo(ForeignToolEnv):
    name = "echo"

    def foreign_tools(self) -> dict[str, ForeignTool]:
        return foreign_tools([("say it", "Says it.", {"type": "object", "properties": {"text": {"type": "string"}}})])

    def call(self, tool: ForeignTool, arguments: dict[str, Any]) -> str:
        return f"{tool.name}: {arguments['text']}\ud800"


def test_a_call_goes_to_the_tool_of_the_other_name_and_its_output_is_clean_and_cut() -> None:
    env = Echo(EnvConfig(max_output_chars=16))
    short = env.run(ToolCall(id="a", name="say_it", arguments={"text": "\udfff"}))
    assert (short.content, short.truncated) == ("say it: ??", False)
    long = env.run(ToolCall(id="a", name="say_it", arguments={"text": "x" * 50}))
    assert (long.content, long.truncated) == ("say it: xxxxxxxx\n[output cut: 16 of 59 characters shown]", True)


@pytest.mark.parametrize(
    ("call", "kind", "told"),
    [
        (ToolCall(id="a", name="", error="no JSON"), "malformed_call", "Error: malformed tool call: no JSON"),
        (ToolCall(id="a", name="say"), "unknown_tool", "Error: no tool 'say'; available: say_it; did you mean 'say_it'?"),
        (
            ToolCall(id="a", name="say_it", arguments={"text": 1}),
            "bad_arguments",
            "Error: bad arguments for say_it: 'text' must be string, got 1",
        ),
    ],
)
def test_a_mistake_is_told_to_the_model(call: ToolCall, kind: str, told: str) -> None:
    result = Echo().run(call)
    assert (result.error, result.content) == (kind, told)


def test_a_subclass_that_lacks_a_part_is_told_which() -> None:
    bare = ForeignToolEnv()
    with pytest.raises(NotImplementedError, match=r"must override foreign_tools\(\)"):
        bare.foreign_tools()
    with pytest.raises(NotImplementedError, match=r"must override call\(tool, arguments\)"):
        bare.call(foreign_tools([("t", "", None)])["t"], {})
