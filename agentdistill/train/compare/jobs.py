"""Training runs in processes of their own: one that dies costs itself alone.

The child reads nothing, but its standard input is a pipe from here: when this process is gone, however it went, the pipe ends and the
child stops after its step with a checkpoint (:mod:`agentdistill.cli.follow`). So nobody trains on behind the back of a second start.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from agentdistill.store import list_checkpoints


class Process(Protocol):
    """A training run under way."""

    def poll(self) -> int | None:
        """Its exit code; ``None``: it is not over."""
        ...

    def stop(self) -> None:
        """Ask it to end after its step, with a checkpoint."""
        ...


class Launcher(Protocol):
    """Starts ``agentdistill train`` with the words given; its output goes to ``log``."""

    def __call__(self, words: Sequence[str], log: Path) -> Process: ...


class Child:
    """A process of the system."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agentdistill.cli.follow", "train", *words],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # an interrupt at the terminal reaches it through us, and once
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)


def words_for(folder: Path, name: str, overrides: Sequence[str], *, threads: int | None) -> list[str]:
    """Begin the run, or go on with it where it has a checkpoint. What has none is begun anew."""
    run = folder / name
    machine = [] if threads is None else [f"learner.threads={threads}"]
    if list_checkpoints(run / "checkpoints"):
        return [f"run={name}", f"runs_dir={folder}", "resume=true", *machine]
    if run.exists():
        shutil.rmtree(run)
    return [*overrides, *machine, f"run={name}", f"runs_dir={folder}"]


def last_words(log: Path, code: int) -> str:
    """Why a run failed: the last line it said, and its exit code."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()] if log.is_file() else []
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{lines[-1].removeprefix('agentdistill: error: ')} ({how})" if lines else how
