"""Calls into environments that are under way, each with a deadline.

    submit ──> waits for a thread ──> begins ──> comes back ──> collect
                      └──────── late ───┴─> given up: the environment is closed at once, and again should the call still come back

The deadline of a call counts from when a thread begins it. A call that waits for a thread is late only where none gets free: nothing at
all has begun, come back or been given up for that long.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from agentdistill.clock import Clock, Executor
from agentdistill.errors import EnvError, SandboxError
from agentdistill.rollout.running import Running
from agentdistill.types import Completion


@dataclass(eq=False)
class Call:
    """One ``reset`` or ``step``."""

    running: Running
    completion: Completion | None
    """What ``step`` is given. ``None``: the call is ``reset``."""
    turn: int | None
    """Turn index; ``None`` for ``reset``."""
    submitted: float
    number: int
    """In the order of submission."""
    began: float | None = None
    """Clock reading when a thread took it up. ``None``: it waits for one."""
    ended: float = 0.0
    future: Future[Any] | None = None

    @property
    def where(self) -> str:
        return "reset" if self.turn is None else f"step of turn {self.turn}"

    @property
    def seconds(self) -> float:
        """That the environment itself took."""
        return self.ended - (self.submitted if self.began is None else self.began)

    def result(self) -> Any:
        """What the environment returned.

        Raises:
            SandboxError: its sandbox failed.
            EnvError: it raised anything else, one of our own errors included (a bad row, say).
        """
        assert self.future is not None, "submitted"
        try:
            return self.future.result()
        except (EnvError, SandboxError):
            raise
        except (Exception, SystemExit) as error:
            raise EnvError(f"{self.where}: {type(error).__name__}: {error}") from error


class Calls:
    """All calls of one player loop."""

    def __init__(self, executor: Executor, clock: Clock, timeout: float | None) -> None:
        self._executor, self._clock, self._timeout = executor, clock, timeout
        self._open: dict[Future[Any], Call] = {}
        self._submitted = 0
        self._moved = 0.0
        """Clock reading when a call last came back or was given up."""

    def __len__(self) -> int:
        return len(self._open)

    def submit(self, running: Running, work: Callable[[], Any], completion: Completion | None) -> None:
        """Have ``work`` done beside the loop."""
        turn = None if completion is None else len(running.turns)
        call = Call(running, completion, turn=turn, submitted=self._clock.now(), number=self._submitted)
        self._submitted += 1

        def timed() -> Any:
            call.began = self._clock.now()
            try:
                return work()
            finally:
                call.ended = self._clock.now()

        call.future = self._executor.submit(timed)
        self._open[call.future] = call

    def collect(self, *, block: bool) -> list[Call]:
        """Calls that have come back; with ``block``, after at least one has or is late."""
        if not self._open:
            return []
        found = self._executor.wait_any(list(self._open), self._next_deadline() if block else 0.0)
        if found:
            self._moved = self._clock.now()
        return [self._open.pop(future) for future in found]

    def give_up_late(self) -> list[tuple[Call, EnvError]]:
        """Calls that are past their deadline and no longer waited for, and what each is to be blamed for."""
        if self._timeout is None:
            return []
        now = self._clock.now()
        late = [future for future, since in self._since().items() if now - since >= self._timeout and not future.done()]
        hanging = [future for future in late if self._open[future].began is not None]
        found = []
        for future in hanging or late:  # giving up one that hangs may free its thread for one that waits
            call = self._open.pop(future)
            self._moved = now
            _let_go(call)
            what = "no thread was free for the environment" if call.began is None else "the environment did not answer"
            found.append((call, EnvError(f"{what} within {self._timeout:g} s")))
        return found

    def abandon(self) -> None:
        """Nobody waits for any of them any more."""
        for call in self._open.values():
            _let_go(call)
        self._open.clear()

    def _since(self) -> dict[Future[Any], float]:
        """From when each deadline counts."""
        began = {future: call.began for future, call in self._open.items()}
        moved = max([self._moved, *(when for when in began.values() if when is not None)])
        return {future: max(moved, self._open[future].submitted) if when is None else when for future, when in began.items()}

    def _next_deadline(self) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, min(self._since().values()) + self._timeout - self._clock.now())


def close(running: Running) -> None:
    """Close its environment, if it has one."""
    if running.env is not None:
        try:
            running.env.close()
        except Exception as error:  # the episode's record is complete without it
            warnings.warn(f"closing the environment of episode {running.play.id!r} failed: {error!r}", RuntimeWarning, stacklevel=2)


def _let_go(call: Call) -> None:
    """One that has begun may still build or open something: its environment is closed behind it."""
    assert call.future is not None, "submitted"
    if not (call.future.cancel() or call.future.done()):
        call.future.add_done_callback(lambda _: close(call.running))
