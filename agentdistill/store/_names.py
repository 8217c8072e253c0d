"""Runs by name: which names a folder can have, which are taken, and which are there."""

from __future__ import annotations

import re
from pathlib import Path

from agentdistill.errors import UsageError, unknown
from agentdistill.store.episodes import FILE_NAME

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def list_runs(runs_dir: Path) -> list[str]:
    """Names of the runs in a folder, sorted; empty where the folder does not exist."""
    if not runs_dir.is_dir():
        return []
    return sorted(path.name for path in runs_dir.iterdir() if (path / FILE_NAME).is_file())


def require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a run: letters, digits, '.', '_' and '-' are valid, at most 100, beginning with a letter or digit"
        )


def find(runs_dir: Path, name: str | None) -> Path:
    if name is None:
        raise UsageError(f"which run? name one with run=NAME; {runs_dir} has {', '.join(list_runs(runs_dir)) or 'none'}")
    require_name(name)
    path = runs_dir / name
    if not path.is_dir():
        raise UsageError(f"{unknown('run', name, list_runs(runs_dir))} (in {runs_dir})")
    return path


def taken(runs_dir: Path, name: str) -> UsageError:
    return UsageError(f"run {name!r} exists already in {runs_dir}; continue it with resume=true, or choose another name with run=NAME")


def claim(runs_dir: Path, name: str | None, stem: str) -> Path:
    """Make the run's folder; the first of two that ask for one name gets it."""
    if name is not None:
        try:
            (runs_dir / name).mkdir()
        except FileExistsError:
            raise taken(runs_dir, name) from None
        return runs_dir / name
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-_")[:80] or "run"
    number = 1
    while True:
        path = runs_dir / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1
