"""The scripted player: takes a shortest plan from wherever the conversation stands, or has bad habits on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agentdistill.types import Message, Task, ToolCall
from agentdistill_envs.habits import Habits, Probability
from agentdistill_envs.tools.catalogue import SIGNATURES, TOOLS
from agentdistill_envs.tools.plan import Call
from agentdistill_envs.tools.progress import Progress, goal_of
from agentdistill_envs.tools.shop import LETTERS

DONE = "Done."
"""The last word where nothing was asked."""


class Flaws(Habits):
    """Bad habits of this player."""

    stop_early: float = Probability
    """With something done and something left to do: say that it is done."""
    skip_look: float = Probability
    """Instead of looking an id up: hand some id that was seen, of whatever sort, to the next change."""
    wrong_change: float = Probability
    """Instead of a change: another one that takes the same id."""
    miscopy: float = Probability
    """The last digit of an id is copied wrongly."""


BAD_HABITS = Flaws(stop_early=0.8, skip_look=0.2, wrong_change=0.3, miscopy=0.05)
"""The habits of the embedded student."""


class ToolsExpert:
    """Plays every task of env=tools. Without flaws it makes one call a turn, needs as many turns as the task says, and always succeeds."""

    def __init__(self, flaws: Flaws | Mapping[str, Any] | None = None) -> None:
        self.flaws = flaws if isinstance(flaws, Flaws) else Flaws(**(flaws or {}))

    def act(self, task: Task, messages: tuple[Message, ...], rng: np.random.Generator) -> Message:
        """The next message after ``messages``. Without flaws it draws nothing from ``rng``.

        Raises:
            ValueError: the task hides no goal of a shop.
        """
        progress = Progress(goal_of(task)).read(messages)
        if not self.flaws.any:
            return best_move(progress)
        return self._flawed(progress, rng.random(5))

    def _flawed(self, progress: Progress, draws: np.ndarray[Any, np.dtype[np.float64]]) -> Message:
        plan = progress.plan()
        if not plan:
            return best_move(progress)
        if progress.calls and draws[0] < self.flaws.stop_early:
            return Message.assistant(_guess(progress))
        call = plan[0]
        seen = sorted(value for value in progress.known if value[1:].isdigit())
        if not TOOLS[call.tool].changes and seen and draws[1] < self.flaws.skip_look:
            change = next((each for each in plan if TOOLS[each.tool].changes), None)
            call = call if change is None else _with(change, 0, seen[int(draws[4] * len(seen))])
        elif TOOLS[call.tool].changes and draws[2] < self.flaws.wrong_change:
            call = _other_change(call, draws[4])
        if draws[3] < self.flaws.miscopy:
            call = _miscopied(call, draws[4])
        return _message(call, progress.calls)


def best_move(progress: Progress) -> Message:
    """What the expert does in this state: the next call of a shortest plan, or the last word."""
    plan = progress.plan()
    if plan:
        return _message(plan[0], progress.calls)
    return Message.assistant(DONE if progress.goal.answer is None else progress.goal.answer)


def _message(call: Call, index: int) -> Message:
    """The assistant message with one call, the ``index``-th of its episode."""
    return Message.assistant("", ToolCall(id=f"call_{index}", name=call.tool, arguments=dict(call.arguments)))


def _guess(progress: Progress) -> str:
    """The last word of one who did not look: what another record says."""
    return min(progress.goal.rivals - {progress.goal.answer or ""}, default=DONE)


def _with(call: Call, place: int, value: str) -> Call:
    arguments = [(name, value if index == place else old) for index, (name, old) in enumerate(call.arguments)]
    return Call(call.tool, tuple(arguments))


def _other_change(call: Call, draw: float) -> Call:
    """Another change that takes the first argument of this one and nothing that is not at hand."""
    first, value = call.arguments[0]
    at_hand: dict[str, str | int] = {"reason": "wrong", "count": 1}
    others = [tool for tool in SIGNATURES if tool.changes and tool.name != call.tool and first in tool.takes]
    fitting = [tool for tool in others if all(name == first or name in at_hand for name in tool.takes)]
    if not fitting:
        return call
    tool = fitting[int(draw * len(fitting))]
    return Call.of(tool.name, {name: value if name == first else at_hand[name] for name in tool.takes})


def _miscopied(call: Call, draw: float) -> Call:
    """The last digit of the first id becomes another."""
    for place, (_, value) in enumerate(call.arguments):
        if isinstance(value, str) and value[:1] in (*LETTERS.values(), "c") and value[1:].isdigit():
            return _with(call, place, f"{value[:-1]}{(int(value[-1]) + 1 + int(draw * 9)) % 10}")
    return call
