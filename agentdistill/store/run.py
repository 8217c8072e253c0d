"""A run as a folder.

    runs/<name>/
    ├── config.yaml       the resolved configuration, as text
    ├── episodes.sqlite   EpisodeStore
    ├── metrics.jsonl     one line a step: figures that an equal run repeats bit by bit
    ├── perf.jsonl        one line a step: figures that depend on the machine and the hour
    ├── summary.json      the outcome
    ├── report.html       the outcome, to look at
    ├── checkpoints/      checkpoints.py
    └── lock              held by the one trainer that may write here; the system lets go of it when that process dies

Every line is on the disk when its append returns. A crash can tear only the last line, which no reader counts and the next writer removes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.errors import StoreError, boundary
from agentdistill.store import _disk
from agentdistill.store._lines import mend, read_lines
from agentdistill.store._lock import RunLock
from agentdistill.store._names import claim, find, require_name, taken
from agentdistill.store.checkpoints import sweep
from agentdistill.store.episodes import FILE_NAME, EpisodeStore
from agentdistill.store.plain import plain_json


class Run:
    """One run's folder. Make one with :meth:`create` or :meth:`open`; close it, or use it in a ``with``."""

    def __init__(self, path: Path, *, writable: bool, clock: Clock) -> None:
        self.path = path
        self.writable = writable
        self._clock = clock
        self._lock = RunLock(path / "lock") if writable else None
        self._episodes: EpisodeStore | None = None

    @classmethod
    def create(cls, runs_dir: Path, name: str | None = None, *, stem: str = "run", config: str = "", clock: Clock = SYSTEM_CLOCK) -> Self:
        """A new run, open for writing. Without ``name`` it is called ``stem``, with a number where that is taken.

        Raises:
            UsageError: the run exists already, or its name cannot be a folder's.
            StoreError: the disk refused.
        """
        if name is not None:
            require_name(name)
        with boundary(StoreError, f"cannot make a run in {runs_dir}"):
            runs_dir.mkdir(parents=True, exist_ok=True)
            path = claim(runs_dir, name, stem)
            run = cls(path, writable=True, clock=clock)
            run.checkpoints.mkdir()
            _disk.replace_file(path / "config.yaml", config.encode())
            run._episodes = EpisodeStore.create(path / FILE_NAME, clock=clock)
            _disk.sync_dir(path)
            _disk.sync_dir(runs_dir)
        return run

    @classmethod
    def open(cls, runs_dir: Path, name: str | None, *, readonly: bool = False, clock: Clock = SYSTEM_CLOCK) -> Self:
        """An existing run: to continue it, which first removes what a crash left half done; or to read, also while it is written.

        Raises:
            UsageError: there is no such run, or it is to be written and another process does.
            StoreError: its files are damaged.
        """
        run = cls(find(runs_dir, name), writable=not readonly, clock=clock)
        if run.writable:
            try:
                with boundary(StoreError, f"cannot repair {run.path}"):
                    run._repair()
            except BaseException:
                run.close()
                raise
        return run

    @staticmethod
    def require_new(runs_dir: Path, name: str | None) -> None:
        """Would :meth:`create` find this name valid and free?

        Raises:
            UsageError: it would not.
        """
        if name is not None:
            require_name(name)
            if (runs_dir / name).exists():
                raise taken(runs_dir, name)

    def close(self) -> None:
        """Close the store and let go of the lock."""
        if self._episodes is not None:
            self._episodes.close()
            self._episodes = None
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- parts -----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Root of the checkpoints, for :mod:`agentdistill.store.checkpoints`."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """Where the report is, or will be."""
        return self.path / "report.html"

    @property
    def episodes(self) -> EpisodeStore:
        """The store of episodes, opened at first use.

        Raises:
            StoreError: missing, damaged, or of a newer version.
        """
        if self._episodes is None:
            self._episodes = EpisodeStore.open(self.path / FILE_NAME, readonly=not self.writable, clock=self._clock)
        return self._episodes

    @property
    def config(self) -> str:
        """Text of ``config.yaml``; empty where there is none."""
        file = self.path / "config.yaml"
        return file.read_text("utf-8") if file.is_file() else ""

    def write_config(self, text: str) -> None:
        with self._writing("config.yaml"):
            _disk.replace_file(self.path / "config.yaml", text.encode())

    # ---- figures ---------------------------------------------------------------------------------------------------

    def append_metrics(self, step: int, figures: Mapping[str, Any], *, kind: str = "train") -> None:
        """Add the line ``{"step": step, "kind": kind, **figures}`` to ``metrics.jsonl``: only figures that an equal run repeats.

        Lines of kind ``train`` are about the step with that 0-based number; others (``eval``) about the moment before it.
        NaN and infinities become ``null``; numpy scalars and arrays become numbers and lists.
        """
        self._append(self._metrics, step, kind, figures)

    def append_perf(self, step: int, figures: Mapping[str, Any], *, kind: str = "train") -> None:
        """The same for ``perf.jsonl``: seconds, tokens a second, memory."""
        self._append(self._perf, step, kind, figures)

    def metrics(self) -> list[dict[str, Any]]:
        """Lines of ``metrics.jsonl`` in order; a torn last line is left out.

        Raises:
            StoreError: another line is damaged; the message names file and line.
        """
        return [row for _, row in read_lines(self._metrics)]

    def perf(self) -> list[dict[str, Any]]:
        """Lines of ``perf.jsonl``; see :meth:`metrics`."""
        return [row for _, row in read_lines(self._perf)]

    def discard_after(self, step: int) -> None:
        """Forget what came after the moment before ``step``: a run that resumes from checkpoint ``step`` plays and writes it again.

        That is every training step from ``step`` on and every evaluation later than ``step``, in metrics, perf and episodes (with their
        feedback and annotations). −1 forgets everything.
        """
        self.truncate_metrics(step)
        with self._writing(FILE_NAME):
            self.episodes.discard_after(step)
        if step < 0:
            (self.path / "summary.json").unlink(missing_ok=True)

    def truncate_metrics(self, after_step: int) -> None:
        """The part of :meth:`discard_after` that concerns ``metrics.jsonl`` and ``perf.jsonl``."""
        for file in (self._metrics, self._perf):
            lines = read_lines(file)
            kept = [line for line, row in lines if row.get("step", 0) < after_step + (row.get("kind") != "train")]
            if len(kept) < len(lines):
                with self._writing(file.name):
                    _disk.replace_file(file, b"".join(line + b"\n" for line in kept))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace ``summary.json`` atomically."""
        with self._writing("summary.json"):
            _disk.replace_file(self.path / "summary.json", json.dumps(plain_json(summary), indent=2, allow_nan=False).encode() + b"\n")

    def summary(self) -> dict[str, Any] | None:
        """The outcome; ``None``: the run has not ended.

        Raises:
            StoreError: the file is damaged.
        """
        file = self.path / "summary.json"
        if not file.is_file():
            return None
        with boundary(StoreError, f"{file} is damaged"):
            found = json.loads(file.read_bytes())
            if not isinstance(found, dict):
                raise ValueError(f"a {type(found).__name__}, not an object")
        return found

    # ---- inside ----------------------------------------------------------------------------------------------------

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _perf(self) -> Path:
        return self.path / "perf.jsonl"

    def _append(self, file: Path, step: int, kind: str, figures: Mapping[str, Any]) -> None:
        line = json.dumps({"step": step, "kind": kind, **plain_json(figures)}, allow_nan=False).encode()
        with self._writing(file.name):
            _disk.append_line(file, line)

    def _repair(self) -> None:
        self.checkpoints.mkdir(exist_ok=True)
        sweep(self.checkpoints)
        for leftover in self.path.glob(f"*{_disk.ASIDE}"):
            leftover.unlink()
        for file in (self._metrics, self._perf):
            mend(file)
        if not (self.path / FILE_NAME).exists():  # it died before it had one
            self._episodes = EpisodeStore.create(self.path / FILE_NAME, clock=self._clock)

    def _writing(self, what: str) -> AbstractContextManager[None]:
        if not self.writable:
            raise StoreError(f"run {self.name!r} is open for reading only; {what} cannot be written")
        return boundary(StoreError, f"cannot write {self.path / what}")
