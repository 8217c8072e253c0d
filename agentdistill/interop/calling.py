"""Environments whose tools are those of another world, given by JSON schemas.

A subclass says which there are and what a call does; what a call comes back with, and how mistakes are told, is as in every
:class:`~agentdistill.env.ToolEnv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from agentdistill.env import ToolEnv, ToolError
from agentdistill.errors import unknown
from agentdistill.interop.schemas import ForeignTool, clean
from agentdistill.types import ToolCall, ToolResult, ToolSpec


class ForeignToolEnv(ToolEnv):
    """An environment with foreign tools."""

    def foreign_tools(self) -> Mapping[str, ForeignTool]:
        """By the name that the model calls each by; the same throughout an episode."""
        raise NotImplementedError(f"{type(self).__name__} must override foreign_tools()")

    def call(self, tool: ForeignTool, arguments: dict[str, Any]) -> str:
        """Call one tool; returns what the model is shown.

        Args:
            arguments: without known problems; fixed ones included.

        Raises:
            ToolError: the call failed in a way that is the model's to mend; the text is what it reads.
            EnvError: the other world is broken.
        """
        raise NotImplementedError(f"{type(self).__name__} must override call(tool, arguments)")

    def closed(self) -> str | None:
        """Why no call is run any more in this episode. ``None``: calls are run."""
        return None

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        return tuple(tool.spec for tool in self.foreign_tools().values())

    def run(self, call: ToolCall) -> ToolResult:
        if call.error is not None:
            return self._mistake(call, "malformed_call", f"malformed tool call: {call.error}")
        tools = self.foreign_tools()
        if call.name not in tools:
            return self._mistake(call, "unknown_tool", unknown("tool", call.name[:80], tools))
        if (why := self.closed()) is not None:
            return self._mistake(call, "tool_error", f"not run: {why}")
        tool = tools[call.name]
        arguments: dict[str, JsonValue] = clean(call.arguments)
        if problems := tool.problems(arguments):
            return self._mistake(call, "bad_arguments", f"bad arguments for {call.name}: {'; '.join(problems)}")
        started = self.clock.now()
        try:
            output = self.call(tool, {**arguments, **tool.fixed})
        except ToolError as error:
            return self._mistake(call, "tool_error", str(error), self.clock.now() - started)
        content, cut = self._shown(clean(output))
        return ToolResult(call_id=call.id, name=call.name, content=content, truncated=cut, seconds=self.clock.now() - started)
