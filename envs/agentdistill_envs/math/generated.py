"""Tasks made, and graded, by the generators of the package reasoning-gym (an extra; loaded when asked for).

env=math env.tasks=reasoning_gym:<name>     with the calculator, judged right or wrong
env=reasoning_gym env.dataset=<name>        the bare question, with partial credit: agentdistill.interop.reasoning_gym_env
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any

from agentdistill.errors import ConfigError, TaskError, unknown
from agentdistill.taskset import TaskSet
from agentdistill.types import Task
from agentdistill_envs.files import check_split
from agentdistill_envs.math.algebra import MAX_INERT, inert
from agentdistill_envs.math.grade import final_answer
from agentdistill_envs.math.tasks import free_task

PREFIX = "reasoning_gym:"
SEEDS = {"train": 0, "val": 100_000_000, "test": 200_000_000}
"""Far apart: these generators draw task i of a set from seed + i. Small generators can still repeat themselves across splits."""
MAX_SCORED = 20_000
"""Characters of an answer that is handed to a scorer which evaluates nothing."""

_EVALUATING = {"eval", "exec", "compile", "parse_expr", "sympify", "literal_eval"}


def load_generated(name: str, split: str, size: int) -> TaskSet:
    """``size`` tasks of generator ``name``, made when they are wanted.

    Raises:
        ConfigError: the package is not installed.
        TaskError: no such split or generator.
    """
    check_split(split)
    seed = SEEDS[split]
    made = generator(name, seed, size)

    def make(index: int) -> Task:
        entry = made.entry(index)
        return free_task(
            f"{name}-{split}-{index}", str(entry["question"]), str(entry["answer"]), generator=name, seed=seed, index=index, size=size
        )

    return TaskSet.from_source(f"{PREFIX}{name}", make, size, split=split)


def grade_generated(text: str, task: Task) -> bool:
    """Whether the generator's own scorer gives the final answer of a message full marks."""
    data = task.data
    made = generator(str(data["generator"]), int(str(data["seed"])), int(str(data["size"])))
    return made.score(final_answer(text), int(str(data["index"]))) >= 1.0


class Generator:
    """One generator of tasks with its scorer; what was made is kept, because some take a second a task."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._entries: dict[int, dict[str, Any]] = {}

    def entry(self, index: int) -> dict[str, Any]:
        """Question, answer (``None`` where many are right) and metadata of a task."""
        if index not in self._entries:
            self._entries[index] = self._dataset[index]
        return self._entries[index]

    def score(self, answer: str, index: int) -> float:
        """What the scorer gives for an answer, from 0 to 1. Some scorers evaluate what they are given, so an answer that could do harm
        never reaches them, and counts 0; so does one on which the scorer fails."""
        entry = self.entry(index)
        fits = harmless_sum(answer) if self.evaluates else len(answer) <= MAX_SCORED
        if not fits and answer != entry["answer"]:
            return 0.0
        try:
            found = float(self._dataset.score_answer(answer=answer, entry=entry))
        except Exception:  # a foreign scorer on a model's text: what it cannot read is not the answer
            return 0.0
        return min(max(found, 0.0), 1.0) if found == found else 0.0

    @cached_property
    def evaluates(self) -> bool:
        """Whether the code around the scorer runs text as code, or has an algebra system read it."""
        parts = getattr(self._dataset, "datasets", None)
        datasets = [self._dataset, *(parts.values() if isinstance(parts, Mapping) else ())]
        modules = {kind.__module__ for dataset in datasets for kind in type(dataset).__mro__ if kind.__module__ not in ("builtins", "abc")}
        return any(_EVALUATING & set(code.co_names) for module in modules for code in _codes(sys.modules[module]))


@lru_cache(maxsize=16)
def generator(name: str, seed: int, size: int, config: str = "{}", level: str = "null") -> Generator:
    """The generator of that name.

    Args:
        config: JSON object of settings of its own.
        level: JSON: a level for all attributes of its curriculum, an object of attribute to level, or null.

    Raises:
        ConfigError: the package is not installed, or the generator does not take these settings.
        TaskError: no such generator.
    """
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ConfigError(
            f"generator {name!r} needs the package reasoning-gym ({error}); install it: pip install 'agentdistill[reasoning-gym]'"
        ) from error
    if name not in DATASETS:
        raise TaskError(unknown("reasoning-gym generator", name, DATASETS))
    settings = _settings(name, json.loads(config))
    if (levels := json.loads(level)) is not None:
        settings = _leveled(name, levels) | settings
    try:
        return Generator(reasoning_gym.create_dataset(name, seed=seed, size=size, **settings))
    except (AssertionError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"reasoning-gym generator {name!r} does not take {settings}: {error or type(error).__name__}") from error


def _settings(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Settings as the generator's configuration class wants them."""
    from reasoning_gym.factory import DATASETS

    kind = DATASETS[name][1] if isinstance(DATASETS[name], tuple) else None
    fields = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else list(given)
    for key in given:
        if key not in fields or key in ("seed", "size"):
            known = [field for field in fields if field not in ("seed", "size")]
            raise ConfigError(unknown(f"setting of reasoning-gym generator {name!r}", key, known))
    if name == "composite" and "datasets" in given:
        from reasoning_gym.composite import DatasetSpec

        try:
            given = {**given, "datasets": [DatasetSpec(**{"weight": 1.0, "config": {}, **each}) for each in given["datasets"]]}
        except TypeError as error:
            raise ConfigError(f"datasets of 'composite' are objects with name, weight and config: {error}") from error
    return given


def _leveled(name: str, levels: Any) -> dict[str, Any]:
    """Settings of a level of the generator's curriculum."""
    from reasoning_gym.factory import CURRICULA, create_curriculum

    if name not in CURRICULA:
        raise ConfigError(f"reasoning-gym generator {name!r} has no curriculum; leave the level out")
    curriculum = create_curriculum(name)
    chosen = levels if isinstance(levels, dict) else dict.fromkeys(curriculum.attributes, levels)
    for attribute, level in chosen.items():
        if attribute not in curriculum.attributes:
            raise ConfigError(unknown(f"attribute of the curriculum of {name!r}", attribute, curriculum.attributes))
        highest = len(curriculum.attributes[attribute].levels) - 1
        if isinstance(levels, dict) and not 0 <= level <= highest:
            raise ConfigError(f"level {level} of {attribute!r} of {name!r} must lie within 0 and {highest}")
        curriculum.set_attr_level(attribute, min(level, highest))
    made = curriculum.generate_configuration({})
    return {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.name not in ("seed", "size")}


def harmless_sum(text: str) -> bool:
    """Whether every term of a sum is :func:`inert`: a long polynomial is, though the product of its exponents is large."""
    return len(text) <= MAX_INERT and all(map(inert, _terms(text)))


def _terms(text: str) -> Iterator[str]:
    """The text, cut at signs that stand outside brackets and belong to no exponent."""
    depth = start = 0
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char in "+-" and depth == 0 and re.search(r"[\w)\]}]\s*$", text[start:place]) and not re.search(r"\d[eE]$", text[start:place]):
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _codes(module: Any) -> Iterator[CodeType]:
    waiting = [
        function.__code__
        for owner in (module, *(each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__))
        for member in vars(owner).values()
        if inspect.isfunction(function := getattr(member, "__func__", member)) and function.__module__ == module.__name__
    ]
    while waiting:
        yield (code := waiting.pop())
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
