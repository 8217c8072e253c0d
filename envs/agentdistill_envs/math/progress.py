"""How far a conversation has come with a nano task: what was computed, what was answered, what is next.

A call counts once the calculator has answered it with its value, so calls that were malformed, or never ran, change nothing. The state
is the *set* of operations that were computed: order, detours and repetitions leave no trace, and that is what makes states comparable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Self

import networkx as nx

from agentdistill.env import ToolError
from agentdistill.types import Message, ToolCall
from agentdistill_envs.math.calculator import Number, Operation, read, show
from agentdistill_envs.math.expression import Tree, operations, render, value
from agentdistill_envs.math.grade import final_answer


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a task; a side is a number, or the index of the step that gives it."""

    op: str
    left: int
    right: int
    left_step: int | None
    right_step: int | None
    text: str
    """The part of the task that it computes, as written."""

    @property
    def sides(self) -> tuple[int, ...]:
        """The steps that come before it."""
        return tuple(index for index in (self.left_step, self.right_step) if index is not None)

    def operation(self, left: Number | None = None, right: Number | None = None) -> Operation:
        """The call, with the true values of its sides unless others are believed."""
        return Operation(self.op, self.left if left is None else left, self.right if right is None else right)


@lru_cache(maxsize=8192)
def plan(tree: Tree) -> tuple[tuple[Step, str], ...]:
    """Every operation of a task in the order of work, the whole one last, each with the key of its call."""
    nodes = list(operations(tree))
    indices = {id(node): index for index, node in enumerate(nodes)}
    steps = [
        Step(node.op, value(node.left), value(node.right), indices.get(id(node.left)), indices.get(id(node.right)), render(node))
        for node in nodes
    ]
    return tuple((step, step.operation().key) for step in steps)


def expression_graph(tree: Tree) -> nx.DiGraph[str]:
    """Numbers, operations in the order of work, and their values, for drawing (see ``AgentEnv.task_graph``)."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for index, (step, _) in enumerate(plan(tree)):
        operation = step.operation()
        graph.add_node(f"step {index}", kind="look", step=index + 1, label=str(operation))
        for side, number, before in (("left", step.left, step.left_step), ("right", step.right, step.right_step)):
            source = f"value {before}" if before is not None else f"{side} of {index}"
            if before is None:
                graph.add_node(source, kind="given", label=str(number))
            graph.add_edge(source, f"step {index}")
        graph.add_node(f"value {index}", kind="value", label=show(operation.result()))
        graph.add_edge(f"step {index}", f"value {index}")
    return graph


class Progress:
    """The state of one episode: a function of the operations done, of the answers given, and of nothing else."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.plan = plan(tree)
        self.done: dict[str, Operation] = {}
        """The distinct operations that were computed, needed or not, by key, in order."""
        self.answers: list[str] = []
        self.last: Number | None = None
        """The newest result."""
        self.calls = 0
        """Calls that were written, whatever became of them."""
        self._read = 0

    def read(self, messages: Sequence[Message]) -> Self:
        """Take in what is new in a conversation that has grown. Returns ``self``."""
        for message, replies in _turns(messages[self._read :]):
            if not message.tool_calls:
                self.answered(final_answer(message.content))
            for call, reply in zip_longest(message.tool_calls, replies[: len(message.tool_calls)]):
                self.calls += 1
                evaluated = operation_of(call)
                if reply is not None and evaluated is not None and reply.content == evaluated[1]:
                    self.computed(evaluated[0])
        self._read = len(messages)
        return self

    def computed(self, operation: Operation) -> None:
        self.done.setdefault(operation.key, operation)
        self.last = operation.result()

    def answered(self, text: str) -> None:
        self.answers.append(text)

    def next(self) -> Step | None:
        """The operation to do next: the first, in order of work, that the whole still needs. ``None``: the value is known.

        Nothing is done in the head: what an operation works on is known once it was computed itself.
        """
        missing = self._missing()
        return self.plan[missing[0]][0] if missing else None

    def remaining(self) -> int:
        """Calls that the whole still needs; operations that come to the same call count once."""
        return len({self.plan[index][1] for index in self._missing()})

    def stray(self) -> Operation | None:
        """The newest operation that is not part of the task."""
        keys = {key for _, key in self.plan}
        return next((operation for key, operation in reversed(self.done.items()) if key not in keys), None)

    def part(self, answer: str) -> str | None:
        """The part of the task, other than the whole, whose value ``answer`` is."""
        return next((step.text for step, _ in self.plan[:-1] if show(step.operation().result()) == answer), None)

    def _missing(self) -> list[int]:
        """Steps whose calls were not made yet, in order of work."""
        found: list[int] = []
        if self.plan:
            self._collect(len(self.plan) - 1, found)
        return found

    def _collect(self, index: int, into: list[int]) -> None:
        step, key = self.plan[index]
        if not self._known(index):
            for side in step.sides:
                self._collect(side, into)
            if key not in self.done:
                into.append(index)

    def _known(self, index: int) -> bool:
        step, key = self.plan[index]
        return key in self.done and all(self._known(side) for side in step.sides)


class Beliefs(Progress):
    """The same as somebody with bad habits keeps it: an operation that fits nothing is taken for the one that was due, wrong result and
    all, until an answer built on it is called wrong."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree)
        self.values: dict[int, Number] = {}
        """By step."""

    def value(self) -> Number | None:
        """What the whole is believed to come to; ``None``: not computed yet."""
        return self.values.get(len(self.plan) - 1) if self.plan else value(self.tree)

    def due(self) -> Operation | None:
        """The call to make next, with believed values. ``None``: the whole has a value."""
        index = self._due(len(self.plan) - 1) if self.plan else None
        return None if index is None else self._operation(index)

    def computed(self, operation: Operation) -> None:
        super().computed(operation)
        matches = [index for index in range(len(self.plan)) if self._fits(index, operation)]
        due = self._due(len(self.plan) - 1)
        for index in matches or ([due] if due is not None else []):
            self.values.setdefault(index, operation.result())

    def answered(self, text: str) -> None:
        super().answered(text)
        if self.value() is not None:
            self.values = {index: step.operation().result() for index, (step, _) in enumerate(self.plan) if self._known(index)}

    def _fits(self, index: int, operation: Operation) -> bool:
        ready = index not in self.values and all(side in self.values for side in self.plan[index][0].sides)
        return ready and self._operation(index).key == operation.key

    def _operation(self, index: int) -> Operation:
        step = self.plan[index][0]
        left = None if step.left_step is None else self.values[step.left_step]
        right = None if step.right_step is None else self.values[step.right_step]
        return step.operation(left, right)

    def _due(self, index: int) -> int | None:
        if index in self.values:
            return None
        for side in self.plan[index][0].sides:
            if (due := self._due(side)) is not None:
                return due
        return index


def operation_of(call: ToolCall) -> tuple[Operation, str] | None:
    """The operation that a call asks for, and its result as shown; ``None`` where it is none that the calculator can do."""
    expression = call.arguments.get("expression")
    if call.error is not None or call.name != "calculator" or len(call.arguments) != 1 or not isinstance(expression, str):
        return None
    return _evaluate(expression)


@lru_cache(maxsize=8192)
def _evaluate(expression: str) -> tuple[Operation, str] | None:
    try:
        operation = read(expression)
        return operation, show(operation.result())
    except ToolError:
        return None


def _turns(messages: Sequence[Message]) -> Iterator[tuple[Message, list[Message]]]:
    """(assistant message, the tool messages that follow it)."""
    for index, message in enumerate(messages):
        if message.role == "assistant":
            replies = []
            for reply in messages[index + 1 :]:
                if reply.role != "tool":
                    break
                replies.append(reply)
            yield message, replies
