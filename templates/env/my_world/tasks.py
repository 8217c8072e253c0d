"""The tasks: made by rule from a seed, the same on every machine, and no trail in two splits."""

from __future__ import annotations

import random
from functools import cache
from itertools import permutations

from agentdistill.errors import TaskError, unknown
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task

BOXES = "abcdefgh"
SPLITS = {"train": slice(0, 1600), "val": slice(1600, 1800), "test": slice(1800, None)}
SYSTEM = "Open the boxes that the notes name, then reply with the prize."


def load(split: str, longest: int) -> TaskSet:
    """The tasks of a split, with trails of 2 to ``longest`` boxes.

    Raises:
        TaskError: no such split.
    """
    if split not in SPLITS:
        raise TaskError(unknown("split of my-world", split, SPLITS))
    found = [task for task in _all()[SPLITS[split]] if len(trail_of(task)) <= longest]
    return TaskSet("my-world", found, split=split)


def trail_of(task: Task) -> str:
    """The boxes from the first to the one with the prize: ``"cfa"``."""
    return str(task.data["trail"])


@cache
def _all() -> list[Task]:
    trails = ["".join(boxes) for length in (2, 3, 4) for boxes in permutations(BOXES, length)]
    chance = random.Random(0)
    chance.shuffle(trails)
    return [_task(trail, prize=chance.randint(10, 99)) for trail in trails]


def _task(trail: str, prize: int) -> Task:
    prompt = (Message.system(SYSTEM), Message.user(f"Begin with box {trail[0]}."))
    return Task(id=f"trail-{trail}", env="my-world", prompt=prompt, answer=str(prize), data={"trail": trail})
