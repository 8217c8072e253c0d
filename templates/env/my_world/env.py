"""MyWorldEnv: each box holds a note that names the next one; the last holds the prize.

    system     Open the boxes that the notes name, then reply with the prize.
    user       Begin with box c.
    assistant  -> look(box="c")
    tool       go to box f
    assistant  -> look(box="f")
    tool       the prize is 42
    assistant  42                                   reward 1, the end

A message with tool calls is work. A message without any is the answer, and ends the episode.
"""

from __future__ import annotations

from typing import Any

from agentdistill.env import EnvConfig, Observation, Reply, ToolEnv, tool
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task, Views
from pydantic import Field

from my_world.expert import MyWorldExpert, best_move, opened
from my_world.tasks import load, trail_of


class MyWorldConfig(EnvConfig):
    """What the environment can be told: ``env.longest=3``."""

    longest: int = Field(default=4, ge=2, le=4)
    """Boxes of the longest trail."""


class MyWorldEnv(ToolEnv):
    """Follow the notes to the prize."""

    Config = MyWorldConfig
    name = "my-world"
    config: MyWorldConfig
    bad_habits = {"guess": 0.8}  # noqa: RUF012  the flaws of the student that `agentdistill nano build` trains

    @classmethod
    def load_tasks(cls, config: MyWorldConfig, split: str) -> TaskSet:
        return load(split, config.longest)

    @classmethod
    def expert(cls, config: MyWorldConfig, *, flaws: Any = None) -> MyWorldExpert:
        return MyWorldExpert(**(flaws or {}))

    def begin(self, task: Task) -> Observation:
        """All state of an episode is set up here: nothing is left over from the one before."""
        self.trail = trail_of(task)
        self.prize = str(task.answer)
        return task.prompt

    @tool
    def look(self, box: str) -> str:
        """Opens a box.

        Args:
            box: its letter
        """
        if box not in tuple(self.trail):
            return "the box is empty"
        place = self.trail.index(box)
        return f"the prize is {self.prize}" if box == self.trail[-1] else f"go to box {self.trail[place + 1]}"

    def answer(self, message: Message) -> Reply:
        right = message.content.strip() == self.prize
        return Reply(parts={"answer": float(right)}, done=True, success=right)

    def anchor(self) -> str:
        """Equal where as much of the same trail is known."""
        return f"{self.task.id}/{opened(self.trail, tuple(self.messages))}"

    def views(self) -> Views:
        """What a privileged teacher may be told. The value is exact: a turn for each box that is left, and one for the answer."""
        left = len(self.trail) - opened(self.trail, tuple(self.messages))
        return Views(
            answer=self.prize,
            hint=f"The trail is {' '.join(self.trail)}.",
            expert_action=best_move(self.task, tuple(self.messages)),
            value=1.0 if not self.over and self.turns_left > left else 0.0,
        )
