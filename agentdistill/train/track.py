"""The figures of a run, sent to where a user watches them. A tracker that fails is dropped with one note; it never stops a run.

``metrics.jsonl`` and ``perf.jsonl`` are always written and are the record; a tracker is a copy for the eye.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from agentdistill.errors import ConfigError


class Tracker(Protocol):
    """Receives scalars; ``step`` counts finished steps, so an evaluation before training is at 0."""

    def scalars(self, step: int, figures: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in ``<run>/tensorboard``: look at them with ``tensorboard --logdir runs``.

    Args:
        after: finished steps of the checkpoint that the run goes on from; later figures of an earlier session disappear from the view.
    """

    def __init__(self, run: Path, *, after: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=None if after is None else after + 1)

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Guarded:
    """Any tracker, which cannot hurt the run: its first error is told once, and it is not asked again."""

    def __init__(self, make: Callable[[], Tracker], say: Callable[[str], None]) -> None:
        self._say = say
        self._tracker: Tracker | None = None
        self._try("start", lambda: setattr(self, "_tracker", make()))

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        if (tracker := self._tracker) is not None:
            self._try("write", lambda: tracker.scalars(step, figures))

    def close(self) -> None:
        if (tracker := self._tracker) is not None:
            self._try("close", tracker.close)
            self._tracker = None

    def _try(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a tracker does, the run goes on
            self._tracker = None
            self._say(f"the tracker could not {what} ({type(error).__name__}: {error}); the run goes on without it")


class Silent:
    """No tracker."""

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        return

    def close(self) -> None:
        return


def check_tracker(name: str) -> None:
    """Is what ``track=name`` needs installed?

    Raises:
        ConfigError: it is not.
    """
    if name == "tensorboard" and find_spec("tensorboard") is None:
        raise ConfigError("track=tensorboard needs the package tensorboard: pip install 'agentdistill[track]', or leave track=none")


def open_tracker(name: str, run: Path, *, after: int | None, say: Callable[[str], None]) -> Tracker:
    """The tracker of ``track=name`` for a run that starts (``after=None``) or goes on after so many steps."""
    return Guarded(lambda: TensorBoard(run, after=after), say) if name == "tensorboard" else Silent()
