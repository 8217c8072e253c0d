"""``tasks=reasoning_gym:<name>``: tasks made, and graded, by a generator of the package reasoning-gym (an extra; loaded when asked for)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from agentdistill.errors import ConfigError, TaskError, unknown
from agentdistill.taskset import TaskSet
from agentdistill.types import Task
from agentdistill_envs.files import check_split
from agentdistill_envs.math.algebra import inert
from agentdistill_envs.math.grade import final_answer
from agentdistill_envs.math.tasks import free_task

PREFIX = "reasoning_gym:"
_SEEDS = {"train": 0, "val": 100_000_000, "test": 200_000_000}
"""Far apart: these generators draw task i of a set from seed + i. Small generators can still repeat themselves across splits."""


def load_generated(name: str, split: str, size: int) -> TaskSet:
    """``size`` tasks of generator ``name``, made when they are wanted.

    Raises:
        ConfigError: the package is not installed.
        TaskError: no such split or generator.
    """
    check_split(split)
    seed = _SEEDS[split]
    dataset = _dataset(name, seed, size)

    def make(index: int) -> Task:
        entry = dataset[index]
        return free_task(
            f"{name}-{split}-{index}", str(entry["question"]), str(entry["answer"]), generator=name, seed=seed, index=index, size=size
        )

    return TaskSet.from_source(f"{PREFIX}{name}", make, size, split=split)


def grade_generated(text: str, task: Task) -> bool:
    """Whether the generator's own scorer gives the final answer of a message full marks. Some scorers evaluate what they are given, so an
    answer that could do harm never reaches them."""
    answer, data = final_answer(text), task.data
    if not inert(answer):
        return False
    index = int(str(data["index"]))
    dataset = _dataset(str(data["generator"]), int(str(data["seed"])), int(str(data["size"])))
    return float(dataset.score_answer(answer=answer, entry=dataset[index])) >= 1.0


@lru_cache(maxsize=16)
def _dataset(name: str, seed: int, size: int) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ConfigError(
            f"tasks='{PREFIX}{name}' needs the package reasoning-gym ({error}); install it: pip install 'agentdistill[reasoning-gym]'"
        ) from error
    if name not in DATASETS:
        raise TaskError(unknown("reasoning-gym generator", name, DATASETS))
    return reasoning_gym.create_dataset(name, seed=seed, size=size)
