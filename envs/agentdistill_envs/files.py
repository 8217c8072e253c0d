"""Task files: the user's, a directory with one file a split or one file that is split by a hash; and our own, written by rule."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentdistill.env import SPLITS
from agentdistill.errors import TaskError, unknown
from agentdistill.taskset import FieldTypes, TaskSet
from agentdistill.types import Task

HELD_OUT = 0.1
"""Share of a single file's rows that is ``test``, and again that is ``val``."""

_FILES = ", ".join(f"{name}.jsonl" for name in SPLITS)


def check_split(split: str) -> None:
    """Raise :class:`TaskError` unless ``split`` is one of train, val and test."""
    if split not in SPLITS:
        raise TaskError(unknown("split", split, SPLITS))


def load_files(
    where: str,
    split: str,
    maker: Callable[[str], Callable[[dict[str, Any]], Task]],
    *,
    env: str,
    names: Sequence[str],
    required: FieldTypes | None = None,
) -> TaskSet:
    """The tasks of a split from the user's files.

    Args:
        where: a directory, or a ``.jsonl`` file.
        maker: from the set's name to what makes a task of a row.
        names: what ``where`` could have been instead, for the error.

    Raises:
        TaskError: there is no such file, a row is bad (with file and line), or nothing falls into the split.
    """
    path = Path(where).expanduser()
    if path.is_dir():
        file = path / f"{split}.jsonl"
        return TaskSet.from_jsonl(file, maker(path.name), env=env, name=path.name, split=split, required=required)
    if path.suffix != ".jsonl" and not path.is_file():
        message = unknown(f"task set of env {env!r}", where, names)
        raise TaskError(f"{message}; or the path of a .jsonl file, or of a directory with {_FILES}")
    return _share(TaskSet.from_jsonl(path, maker(path.stem), env=env, split=split, required=required), split, path)


def write_splits(
    directory: Path, rows: Iterable[tuple[str, Mapping[str, Any]]], form: type[BaseModel], *, separators: tuple[str, str] = (", ", ": ")
) -> None:
    """Write one JSONL file a split, and the JSON schema of a row, the same bytes on every machine.

    Args:
        rows: (split, row) of every task.
        form: of a row.
    """
    lines: dict[str, list[str]] = {}
    for split, row in rows:
        lines.setdefault(split, []).append(json.dumps(row, separators=separators) + "\n")
    directory.mkdir(parents=True, exist_ok=True)
    for split, text in lines.items():
        (directory / f"{split}.jsonl").write_bytes("".join(text).encode())
    (directory / "schema.json").write_text(json.dumps(form.model_json_schema(), indent=2) + "\n", "utf-8")


def _share(tasks: TaskSet, split: str, path: Path) -> TaskSet:
    """The rows of one file that belong to ``split``, by a hash of the question: adding rows moves no other."""
    kept = [task for task in tasks if _split_of(task.prompt[-1].content) == split]
    if not kept:
        raise TaskError(
            f"of the {len(tasks)} rows of {str(path)!r} none falls into the split {split!r} (a hash of the question decides: a tenth each "
            f"for val and test); give a directory with {_FILES} instead"
        )
    return TaskSet(tasks.name, kept, split=split)


def _split_of(question: str) -> str:
    place = int(hashlib.sha256(question.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if place < HELD_OUT else "val" if place < 2 * HELD_OUT else "train"
