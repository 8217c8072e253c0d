"""Where the tasks of env=math come from.

tasks=nano                      the committed splits, procedural (see nano.py)
tasks=path/to/file.jsonl        rows as GSM8K or MATH have them; split by a hash of the question
tasks=path/to/dir               the same, one file a split: train.jsonl, val.jsonl, test.jsonl
tasks=reasoning_gym:<name>      a generator of reasoning-gym, which is an extra (see generated.py)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from agentdistill.errors import TaskError
from agentdistill.resources import data_dir
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, Task
from agentdistill_envs.files import check_split, load_files
from agentdistill_envs.math.grade import last_boxed
from agentdistill_envs.math.rows import NanoRow

NANO_SYSTEM = "Use the calculator for each operation, then reply with the number."
FREE_SYSTEM = "Solve the problem. The calculator does one operation a call. Reply with the final answer in \\boxed{}."

_QUESTIONS = ("question", "problem")


def load(tasks: str, split: str, calls: tuple[int, int] | None) -> TaskSet:
    """The tasks of a split from the nano files, or from files of the user's.

    Args:
        tasks: ``nano``, or a path.
        split: ``train``, ``val`` or ``test``.
        calls: nano tasks with fewer or more operations are left out.

    Raises:
        TaskError: no such set or split, a bad row (with file and line), or nothing left.
    """
    check_split(split)
    if tasks == "nano":
        return _nano(split, calls)
    if calls is not None:
        raise TaskError(f"calls={list(calls)} chooses among nano tasks; leave it out with tasks={tasks!r}")
    return load_files(tasks, split, _maker, env="math", names=("nano", "reasoning_gym:<name>"))


# --------------------------------------------------------------------------------------------------------------------
# Nano
# --------------------------------------------------------------------------------------------------------------------


def nano_task(row: dict[str, Any]) -> Task:
    """A row of the nano files as a task."""
    nano = NanoRow.model_validate(row)
    return Task(
        id=nano.id,
        env="math",
        prompt=(Message.system(NANO_SYSTEM), Message.user(nano.question)),
        answer=nano.answer,
        data=nano.data.model_dump(),
        tags=("nano", nano.data.kind, f"calls-{nano.data.calls}"),
    )


def _nano(split: str, calls: tuple[int, int] | None) -> TaskSet:
    path = data_dir("tasks") / "math" / "nano" / f"{split}.jsonl"
    required = {"id": str, "question": str, "answer": str, "data": dict}
    tasks = TaskSet.from_jsonl(path, nano_task, env="math", name="nano", split=split, required=required)
    if calls is None:
        return tasks
    low, high = calls
    kept = [task for task in tasks if low <= int(str(task.data["calls"])) <= high]
    if not kept:
        raise TaskError(f"no nano task has {low} to {high} operations; calls=[lowest, highest] lies within [2, 4]")
    return TaskSet(f"nano calls {low}-{high}", kept, split=split)


# --------------------------------------------------------------------------------------------------------------------
# Files of the user's
# --------------------------------------------------------------------------------------------------------------------


def free_task(id: str, question: str, answer: str, **data: Any) -> Task:
    """A task whose answer is graded by value."""
    return Task(id=id, env="math", prompt=(Message.system(FREE_SYSTEM), Message.user(question)), answer=answer, data=data)


def _maker(stem: str) -> Callable[[dict[str, Any]], Task]:
    """Rows to tasks. A row without an id gets one from its question, so that ids do not change when rows are added."""
    seen: dict[str, int] = {}

    def make(row: dict[str, Any]) -> Task:
        question = _question(row)
        key = hashlib.sha256(question.encode()).hexdigest()[:10]
        seen[key] = seen.get(key, 0) + 1
        again = f"-{seen[key]}" if seen[key] > 1 else ""
        return free_task(str(row.get("id", f"{stem}-{key}{again}")), question, row_answer(row))

    return make


def _question(row: dict[str, Any]) -> str:
    for field in _QUESTIONS:
        if field in row:
            if not isinstance(row[field], str) or not row[field].strip():
                raise TaskError(f"the field {field!r} must be a text that is not empty")
            return str(row[field]).strip()
    raise TaskError(f"the row lacks a question: a field 'question' or 'problem'; it has {_listing(row)}")


def row_answer(row: dict[str, Any]) -> str:
    """The final answer of a row: after ``####`` in ``answer`` (GSM8K), else all of ``answer``, else the last ``\\boxed{}`` of ``solution``.

    Raises:
        TaskError: there is none.
    """
    answer = row.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return str(answer)
    if isinstance(answer, str) and answer.strip():
        boxed = last_boxed(answer)
        return (answer.rsplit("####", 1)[-1] if boxed is None else boxed).strip()
    solution = row.get("solution")
    boxed = last_boxed(solution) if isinstance(solution, str) else None
    if boxed is None or not boxed.strip():
        raise TaskError(f"the row lacks an answer: a field 'answer', or a \\boxed{{}} in 'solution'; it has {_listing(row)}")
    return boxed.strip()


def _listing(row: dict[str, Any]) -> str:
    return ", ".join(repr(key) for key in row) or "no fields"
