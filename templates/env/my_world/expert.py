"""The scripted player: optimal, or with a bad habit. It goes on from any conversation."""

from __future__ import annotations

import numpy as np
from agentdistill.types import Message, Task, ToolCall

from my_world.tasks import trail_of


class MyWorldExpert:
    """Opens the boxes of the trail in order, then says the prize."""

    def __init__(self, guess: float = 0.0) -> None:
        """
        Args:
            guess: probability, at each turn between the first box and the last, of answering some number.
        """
        self.guess = guess

    def act(self, task: Task, messages: tuple[Message, ...], rng: np.random.Generator) -> Message:
        if self.guess > 0 and opened(trail_of(task), messages) not in (0, len(trail_of(task))) and rng.random() < self.guess:
            return Message.assistant(str(rng.integers(10, 100)))
        return best_move(task, messages)


def best_move(task: Task, messages: tuple[Message, ...]) -> Message:
    """What optimal play does next."""
    trail = trail_of(task)
    known = opened(trail, messages)
    if known == len(trail):
        return Message.assistant(str(task.answer))
    call = ToolCall(id=f"call_{len(messages)}", name="look", arguments={"box": trail[known]})
    return Message.assistant("", call)


def opened(trail: str, messages: tuple[Message, ...]) -> int:
    """Boxes from the front of the trail that were opened."""
    seen = [call.arguments.get("box") for message in messages for call in message.tool_calls if call.name == "look"]
    return next((place for place, box in enumerate(trail) if box not in seen), len(trail))
