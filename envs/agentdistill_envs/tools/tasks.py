"""Where the tasks of env=tools come from.

tasks=nano                      the committed splits (see nano.py)
tasks=sampled                   made from seeds, any horizon, as many as wanted
tasks=path/to/dir               files of the same form: train.jsonl, val.jsonl, test.jsonl
tasks=path/to/file.jsonl        one file, split by a hash of the question
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from agentdistill.errors import TaskError
from agentdistill.resources import data_dir
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task
from agentdistill_envs.dice import Dice
from agentdistill_envs.files import check_split, load_files
from agentdistill_envs.tools.progress import Goal
from agentdistill_envs.tools.rows import ToolsRow
from agentdistill_envs.tools.sample import draw

SYSTEM = "You keep a shop. Use the tools, then reply."
SHORTEST, LONGEST = 2, 8
"""Turns of optimal play, the last word included."""
_FIRST_SEED = {"train": 0, "val": 1_000_000, "test": 2_000_000}
_REQUIRED = {"id": str, "question": str, "data": dict}


def make_task(row: dict[str, Any]) -> Task:
    """A row as a task.

    Raises:
        ValueError: it lacks something, or its goal cannot be reached.
    """
    parsed = ToolsRow.model_validate(row)
    goal = Goal(parsed.data)
    answers = [str(call) for call, _ in goal.changes] + ([] if goal.answer is None else [goal.answer])
    tags = ["changes"] * bool(goal.changes) + ["question"] * (goal.asks is not None)
    return Task(
        id=parsed.id,
        env="tools",
        prompt=(Message.system(SYSTEM), Message.user(parsed.question)),
        answer=", ".join(answers),
        data=parsed.data.model_dump(mode="json", exclude_defaults=True),
        tags=(*tags, f"turns-{parsed.data.turns}"),
    )


def load(tasks: str, split: str, horizon: tuple[int, int] | None, count: int) -> TaskSet:
    """The tasks of a split.

    Args:
        tasks: ``nano``, ``sampled``, or a path.
        split: ``train``, ``val`` or ``test``.
        horizon: fewest and most turns of optimal play; others are left out.
        count: how many, where they are sampled.

    Raises:
        TaskError: no such set or split, a bad row (with file and line), or nothing left.
    """
    check_split(split)
    if tasks == "nano":
        return _within(_nano(split), horizon)
    if tasks == "sampled":
        return _sampled(split, horizon or (SHORTEST, LONGEST), count)
    return _within(load_files(tasks, split, lambda name: make_task, env="tools", names=("nano", "sampled"), required=_REQUIRED), horizon)


@lru_cache(maxsize=4)
def _nano(split: str) -> TaskSet:
    """The shipped files do not change under a running process."""
    path = data_dir("tasks") / "tools" / "nano" / f"{split}.jsonl"
    return TaskSet.from_jsonl(path, make_task, env="tools", name="nano", split=split, required=_REQUIRED)


def _within(tasks: TaskSet, horizon: tuple[int, int] | None) -> TaskSet:
    if horizon is None:
        return tasks
    low, high = horizon
    kept = [task for task in tasks if low <= int(str(task.data["turns"])) <= high]
    if not kept:
        raise TaskError(f"no task of {tasks.name!r} ({tasks.split}) takes {low} to {high} turns; widen env.horizon")
    return TaskSet(f"{tasks.name} turns {low}-{high}", kept, split=tasks.split)


def _sampled(split: str, horizon: tuple[int, int], count: int) -> TaskSet:
    low, high = horizon
    if not SHORTEST <= low <= high <= LONGEST:
        raise TaskError(f"sampled tasks take {SHORTEST} to {LONGEST} turns; horizon={list(horizon)} is outside")

    def make(index: int) -> Task:
        dice = Dice(_FIRST_SEED[split] + index)
        row = draw(dice, low + index % (high - low + 1))
        return make_task({"id": f"tools-sampled-{split}-{index}", **row})

    return TaskSet.from_source(f"sampled turns {low}-{high}", make, count, split=split)
