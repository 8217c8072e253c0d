"""The scripted player of nano tasks: optimal, or with bad habits on demand.

It reads the hidden expression and the conversation, and goes on from whatever has been computed: after wrong operations, wrong answers
or malformed calls it does the first operation that is still needed, and answers once the value is known. So it can finish anybody's
episode, and its moves are the ``expert_action`` views of a privileged teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agentdistill.types import Message, Task, ToolCall
from agentdistill_envs.habits import Habits, Probability
from agentdistill_envs.math.calculator import Operation, show
from agentdistill_envs.math.expression import Tree, leaves, parse, value
from agentdistill_envs.math.progress import Beliefs, Progress


class Flaws(Habits):
    """Bad habits of this player."""

    stop_early: float = Probability
    """With a result in hand and operations left: answer that result."""
    wrong_operator: float = Probability
    """Add where the task subtracts."""
    miscopy: float = Probability
    """One digit of one number is copied wrongly."""
    bad_call: float = Probability
    """The argument gets a wrong name, so the call comes back with an error."""
    guess: float = Probability
    """Before any result: answer some number of the task."""


BAD_HABITS = Flaws(stop_early=0.9, wrong_operator=0.9, miscopy=0.05)
"""The habits of the embedded student: outcome reward alone then hardly ever fires on tasks of three or more operations."""


class MathExpert:
    """Plays nano tasks. Without flaws it needs one turn an operation and one for the answer, and is always right."""

    def __init__(self, flaws: Flaws | Mapping[str, Any] | None = None) -> None:
        self.flaws = flaws if isinstance(flaws, Flaws) else Flaws(**(flaws or {}))

    def act(self, task: Task, messages: tuple[Message, ...], rng: np.random.Generator) -> Message:
        """The next message after ``messages``. Without flaws it draws nothing from ``rng``.

        Raises:
            ValueError: the task has no expression, so it is not a nano task.
        """
        tree = tree_of(task)
        if not self.flaws.any:
            return best_move(Progress(tree).read(messages))
        return self._flawed(Beliefs(tree), messages, rng.random(6))

    def _flawed(self, beliefs: Beliefs, messages: tuple[Message, ...], draws: np.ndarray[Any, np.dtype[np.float64]]) -> Message:
        operation = beliefs.read(messages).due()
        if operation is None:
            result = beliefs.value()
            assert result is not None
            return Message.assistant(show(result))
        if beliefs.last is not None and draws[0] < self.flaws.stop_early:
            return Message.assistant(show(beliefs.last))
        if beliefs.last is None and draws[1] < self.flaws.guess:
            numbers = list(leaves(beliefs.tree))
            return Message.assistant(str(numbers[int(draws[5] * len(numbers))]))
        if operation.op == "-" and draws[2] < self.flaws.wrong_operator:
            operation = Operation("+", operation.left, operation.right)
        left, right = show(operation.left), show(operation.right)
        if draws[3] < self.flaws.miscopy:
            left, right = _miscopied(left, right, draws[5])
        argument = "expr" if draws[4] < self.flaws.bad_call else "expression"
        return _call(f"{left}{operation.op}{right}", beliefs.calls, argument)


def best_move(progress: Progress) -> Message:
    """What the expert does in this state: the next operation, or the answer."""
    step = progress.next()
    if step is None:
        return Message.assistant(str(value(progress.tree)))
    return _call(str(step.operation()), progress.calls)


def tree_of(task: Task) -> Tree:
    """The hidden expression of a nano task.

    Raises:
        ValueError: it has none.
    """
    expression = task.data.get("expression")
    if not isinstance(expression, str):
        raise ValueError(f"task {task.id!r} has no 'expression' in its data: the expert plays nano tasks only")
    return parse(expression)


def _call(expression: str, index: int, argument: str = "expression") -> Message:
    """The assistant message with one call, the ``index``-th of its episode."""
    return Message.assistant("", ToolCall(id=f"call_{index}", name="calculator", arguments={argument: expression}))


def _miscopied(left: str, right: str, draw: float) -> tuple[str, str]:
    """One digit of one of the two, chosen by ``draw`` in [0, 1), becomes another."""
    text = left + right
    places = [index for index, char in enumerate(text) if char.isdigit()]
    scaled = draw * len(places)
    place = places[int(scaled)]
    shift = 1 + int((scaled % 1) * 9)
    text = f"{text[:place]}{(int(text[place]) + shift) % 10}{text[place + 1 :]}"
    return _plain(text[: len(left)]), _plain(text[len(left) :])


def _plain(text: str) -> str:
    """Without leading zeros."""
    return str(int(text)) if text.isdigit() else text
