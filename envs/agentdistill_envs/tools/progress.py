"""How far an episode has come with its task: the shop as it is, what was seen, what is left to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

from agentdistill.env import ToolError
from agentdistill.types import Message, Task
from agentdistill_envs.tools.catalogue import TOOLS
from agentdistill_envs.tools.plan import Call, Telling, learned, looks, shortest
from agentdistill_envs.tools.rows import Asked, ToolsData, Wanted
from agentdistill_envs.tools.shop import Records, Shop


class Goal:
    """What a task asks for, worked out once."""

    def __init__(self, data: ToolsData) -> None:
        """
        Raises:
            ValueError: its changes cannot be made in the shop that it describes.
        """
        self.start: Records = data.shop.model_dump()
        self.known = frozenset(data.known)
        shop = Shop(self.start)
        self.changes = tuple(_done(shop, wanted) for wanted in data.changes)
        self.target = shop.records
        """The shop in the end."""
        answer = None if data.asks is None else _answer(shop, data.asks)
        self.asks = None if data.asks is None else Call.of(data.asks.tool, data.asks.arguments)
        self.wanted = self.changes if self.asks is None else (*self.changes, (self.asks, learned(self.asks.tool, answer or {})))
        """All calls that the task is about, each with what it makes known; a question comes last."""
        self.answer = None if data.asks is None or answer is None else str(answer[data.asks.field])
        """What the answer must tell, as text."""
        self.rivals = frozenset[str]() if data.asks is None else _values(shop, data.asks.field)
        """What the same field says of other records."""


def _done(shop: Shop, wanted: Wanted) -> Telling:
    try:
        return Call.of(wanted.tool, wanted.arguments), learned(wanted.tool, shop.call(wanted.tool, wanted.arguments))
    except ToolError as error:
        raise ValueError(f"the change {wanted.tool} {dict(wanted.arguments)} cannot be made: {error}") from error


def _answer(shop: Shop, asks: Asked) -> dict[str, Any]:
    try:
        answer = shop.call(asks.tool, asks.arguments)
    except ToolError as error:
        raise ValueError(f"the question {asks.tool} {dict(asks.arguments)} has no answer: {error}") from error
    if asks.field not in answer:
        raise ValueError(f"the question {asks.tool} {dict(asks.arguments)} has no answer: there is no {asks.field}")
    return answer


def _values(shop: Shop, field: str) -> frozenset[str]:
    return frozenset(str(row[field]) for rows in shop.records.values() for row in rows.values() if row.get(field) is not None)


def goal_of(task: Task) -> Goal:
    """The goal that a task hides.

    Raises:
        ValueError: it hides none, or one that cannot be reached.
    """
    return _goal(json.dumps(task.data))


@lru_cache(maxsize=8192)
def _goal(data: str) -> Goal:
    return Goal(ToolsData.model_validate_json(data))


_UNKNOWN: tuple[Call, ...] = (Call("not worked out yet", ()),)


class Progress:
    """The state of one episode."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.shop = Shop(goal.start)
        self.known = goal.known
        self.done: frozenset[Call] = frozenset()
        """The task's calls that were made."""
        self.damage: Call | None = None
        """The first change that nobody asked for."""
        self.calls = 0
        self._looks: tuple[Telling, ...] | None = None
        self._plan: tuple[Call, ...] | None = _UNKNOWN
        self._read = 0

    def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Do it, and take note.

        Raises:
            ToolError: it cannot be done.
        """
        answer = self.shop.call(tool, arguments)
        self._plan = _UNKNOWN
        self.known = self.known.union(learned(tool, answer))
        made = Call.of(tool, arguments)
        if made == self.goal.asks or (made not in self.done and any(made == call for call, _ in self.goal.changes)):
            self.done |= {made}
        elif TOOLS[tool].changes and self.damage is None:
            self.damage = made
        if TOOLS[tool].changes:
            self._looks = None
        return answer

    def read(self, messages: Sequence[Message]) -> Self:
        """Take in what is new in a conversation that has grown: calls that were answered without an error. Returns ``self``."""
        answers = {message.tool_call_id: message.content for message in messages[self._read :] if message.role == "tool"}
        for message in messages[self._read :]:
            for call in message.tool_calls:
                self.calls += 1
                if call.error is None and not answers.get(call.id, "Error:").startswith("Error:"):
                    self.call(call.name, {name: _whole(name, value) for name, value in call.arguments.items()})
        self._read = len(messages)
        return self

    @property
    def left(self) -> tuple[Telling, ...]:
        """The part of the goal that is not done yet."""
        return tuple(each for each in self.goal.wanted if each[0] not in self.done)

    def plan(self) -> tuple[Call, ...] | None:
        """One shortest way to the goal, call by call. ``None``: there is none, since something was changed that nobody asked for, or what
        is needed cannot be found."""
        if self.damage is not None:
            return None
        if not self.left:
            return ()
        if self._looks is None:
            self._looks = looks(self.shop)
        if self._plan is _UNKNOWN:
            self._plan = shortest(self.left, self._looks, self.known)
        return self._plan

    @property
    def as_wanted(self) -> bool:
        """Whether the shop is as the task wants it: all changes made, and nothing else touched."""
        return self.shop.records == self.goal.target


def _whole(name: str, value: Any) -> Any:
    """A count as a number, however the model wrote it; the tool took it, so it is one."""
    return int(float(value)) if name == "count" else value
