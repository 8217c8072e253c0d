"""Questions and answers from JSONL, for worlds that bring tools but no tasks.

    {"question": "How many open issues has the project?", "answer": "12"}
    {"id": "q2", "question": "…", "answer": ["12", "twelve"], "limits": {"turns": 4}, "tags": ["easy"], "anything": "for a grader"}

``tasks=file.jsonl`` is split by a hash of the question (a tenth is ``test``, a tenth ``val``); ``tasks=folder`` has ``train.jsonl``,
``val.jsonl`` and ``test.jsonl``.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from agentdistill.env import SPLITS
from agentdistill.errors import ConfigError, TaskError, unknown
from agentdistill.taskset import TaskSet
from agentdistill.types import Limits, Message, Task

Check = Literal["exact", "value", "contains", "regex"]
Grader = Callable[[str, Task, tuple[Message, ...]], float | bool]
"""(the final answer, the task, the conversation) to the reward."""

_LONGEST_ANSWER = 20_000
"""Characters of an answer that are judged."""


def load(path: str, split: str, *, env: str, system: str, check: Check | None) -> TaskSet:
    """The tasks of a split.

    Args:
        path: of a file or a folder.
        system: what the system says first. Empty: nothing.
        check: how answers will be judged, so that every row must have one. ``None``: by a function, and none need have.

    Raises:
        TaskError: no such split, no such file, a bad row (with file and line), or an empty split.
    """
    if split not in SPLITS:
        raise TaskError(unknown("split", split, SPLITS))
    if not path:
        raise TaskError(f"env {env!r} needs tasks: set env.tasks to a .jsonl file of rows with 'question' and 'answer', or to a folder")
    place = Path(path).expanduser()
    maker = _Maker(env, system, check)
    if place.is_dir():
        return TaskSet.from_jsonl(place / f"{split}.jsonl", maker, env=env, name=place.name, split=split)
    return _share(TaskSet.from_jsonl(place, maker, env=env, split=split), split, place)


class _Maker:
    """Rows to tasks; a row without an id is called by its question."""

    def __init__(self, env: str, system: str, check: Check | None) -> None:
        self.env, self.system, self.check = env, system, check

    def __call__(self, row: dict[str, Any]) -> Task:
        known = ("id", "question", "answer", "limits", "tags")
        question, answer = row["question"], row.get("answer")
        if not isinstance(question, str) or not question.strip():
            raise ValueError("the field 'question' must be text")
        if answer is None and self.check is not None:
            raise ValueError("the row lacks the field 'answer'; give one, or judge by a function: env.grader=package.module:function")
        if self.check == "regex":
            _require_patterns(answer)
        limits, tags = row.get("limits") or {}, row.get("tags") or ()
        if not isinstance(limits, dict) or not isinstance(tags, list | tuple):
            raise ValueError("'limits' must be an object, for instance {\"turns\": 4}, and 'tags' a list")
        system = (Message.system(self.system),) if self.system else ()
        return Task(
            id=str(row.get("id") or f"q-{hashlib.sha256(question.encode()).hexdigest()[:12]}"),
            env=self.env,
            prompt=(*system, Message.user(question)),
            answer=answer,
            data={key: value for key, value in row.items() if key not in known},
            limits=Limits(**limits),
            tags=tuple(tags),
        )


def _require_patterns(answer: JsonValue) -> None:
    for each in answer if isinstance(answer, list) else [answer]:
        try:
            re.compile(_text(each))
        except re.error as error:
            raise ValueError(f"the answer {_text(each)[:80]!r} is no pattern: {error}; check=regex takes regular expressions") from error


def _share(tasks: TaskSet, split: str, path: Path) -> TaskSet:
    """A single file's part: by a hash of the question, so that more rows move no other; where that leaves a split empty, by rank."""
    parts = {name: [task for task in tasks if _split_of(task) == name] for name in SPLITS}
    if not all(parts.values()):
        if len(tasks) < len(SPLITS):
            named = ", ".join(f"{name}.jsonl" for name in SPLITS)
            raise TaskError(f"{path}: {len(tasks)} rows are too few for {', '.join(SPLITS)}; give more, or a folder with {named}")
        ranked = sorted(tasks, key=lambda task: (_hash(task), task.id))
        tenth = max(1, len(ranked) // 10)
        parts = {"test": ranked[:tenth], "val": ranked[tenth : 2 * tenth], "train": ranked[2 * tenth :]}
    return TaskSet(tasks.name, parts[split], split=split)


def _hash(task: Task) -> float:
    return int(hashlib.sha256(task.prompt[-1].content.encode()).hexdigest()[:8], 16) / 0x1_0000_0000


def _split_of(task: Task) -> str:
    share = _hash(task)
    return "test" if share < 0.1 else "val" if share < 0.2 else "train"


# ---- judging --------------------------------------------------------------------------------------------------------------


def grader_named(name: str) -> Grader:
    """The function ``package.module:function``.

    Raises:
        ConfigError: there is none of that name.
    """
    module, colon, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if module and colon and attribute else None
    except Exception as error:  # a stranger's import can raise anything
        raise ConfigError(f"the grader {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"the grader {name!r} is no function; name one as package.module:function, taking (answer, task, messages)")
    return found  # type: ignore[no-any-return]


def right(check: Check, said: str, answer: JsonValue) -> bool:
    """Whether what was said is the answer, or one of a list of answers.

    Args:
        check: ``exact``: the same words; ``value``: the last number said is the same number; ``contains``: the answer stands somewhere in
            it, as words of its own; ``regex``: the answer is a pattern that is found in it.
    """
    text = said[-_LONGEST_ANSWER:]
    return any(_JUDGES[check](text, _text(each)) for each in (answer if isinstance(answer, list) else [answer]))


def _text(answer: JsonValue) -> str:
    return ("true" if answer else "false") if isinstance(answer, bool) else str(answer)


def _contains(said: str, answer: str) -> bool:
    wanted = _words(answer)
    return bool(wanted) and re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", _words(said)) is not None


def _same_value(said: str, answer: str) -> bool:
    mine, theirs = _last_number(said), _last_number(answer)
    if mine is None or theirs is None:
        return _words(said) == _words(answer)
    return math.isclose(mine, theirs, rel_tol=1e-6, abs_tol=1e-9)


_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:\s*/\s*\d+(?:\.\d+)?)?|[-+−]?\.\d+")


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    if not found:
        return None
    over, _, under = found[-1].replace(",", "").replace("−", "-").partition("/")
    try:
        return float(over) / float(under) if under else float(over)
    except (ZeroDivisionError, OverflowError):
        return None


def _words(text: str) -> str:
    return " ".join(text.casefold().split())


_JUDGES: dict[Check, Callable[[str, str], bool]] = {
    "exact": lambda said, answer: " ".join(said.split()) == " ".join(answer.split()),
    "value": _same_value,
    "contains": _contains,
    "regex": lambda said, answer: re.search(answer, said) is not None,
}
