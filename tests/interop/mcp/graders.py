"""A grader of a user's."""

from __future__ import annotations

from agentdistill.errors import TaskError
from agentdistill.types import Message, Task


def half(answer: str, task: Task, messages: tuple[Message, ...]) -> float:
    """Pays half for an answer that was not looked up."""
    if answer == "raise":
        raise RuntimeError("no idea")
    if answer == "nan":
        return float("nan")
    if answer == "bad row":
        raise TaskError("the row says nothing")
    return 0.5 if len(messages) == 3 else 1.0 if answer == str(task.data.get("n")) else 0.0
