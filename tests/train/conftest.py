"""Small real runs: the nano models, few episodes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from agentdistill.config import compose_train
from agentdistill.store import Run
from agentdistill.train.loop import train
from agentdistill.train.progress import PlainProgress
from agentdistill.train.session import open_session

SMALL = ["rollout.batch=8", "eval.tasks=8", "eval.progress_tasks=8", "eval.every=2", "checkpoint_every=1", "annotate=2"]


class Small:
    """Runs in a directory of their own."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def train(self, name: str, *overrides: str, stop_after: int | None = None) -> Run:
        """Train, or with ``stop_after`` die without a word when that many steps are done; the run, open for reading."""
        composed = compose_train([f"run={name}", f"runs_dir={self.runs}", *SMALL, *overrides], resume_base=True)
        with open_session(composed, PlainProgress(io.StringIO())) as (parts, recorder):
            if stop_after is not None:
                publish = parts.publish

                def dying(version: int) -> None:
                    publish(version)
                    if version > stop_after:
                        raise MemoryError("pulled the plug")

                parts.publish = dying  # type: ignore[method-assign]
            try:
                train(parts, recorder)
            except MemoryError:
                assert stop_after is not None
        return Run.open(self.runs, name, readonly=True)


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


@pytest.fixture(scope="session")
def small_in() -> Callable[[Path], Small]:
    """For runs that several tests look at."""
    return Small
