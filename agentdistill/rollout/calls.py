"""Calls into environments that are under way, each with a deadline.

    submit ──> waits for a thread ──> begins ──> comes back ──> collect
                                         └─ late ─> given up: the environment is closed at once, and again should the call still come back

The deadline of a call counts from when a thread begins it; one that waits for a thread is never late, because a thread whose call is given
up is made up for by a fresh one (:meth:`agentdistill.clock.Executor.give_up`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
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
    def done(self) -> bool:
        """It came back."""
        return self.future is not None and self.future.done()

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
        return [self._open.pop(future) for future in found]

    def give_up_late(self) -> list[tuple[Call, EnvError]]:
        """Calls that are past their deadline and no longer waited for, and what each is to be blamed for."""
        if self._timeout is None:
            return []
        now = self._clock.now()
        late = [call for call in self._open.values() if call.began is not None and now - call.began >= self._timeout and not call.done]
        for call in late:
            assert call.future is not None, "submitted"
            del self._open[call.future]
            self._let_go(call)
        return [(call, EnvError(f"the environment did not answer within {self._timeout:g} s")) for call in late]

    def abandon(self) -> None:
        """Nobody waits for any of them any more."""
        for call in self._open.values():
            self._let_go(call)
        self._open.clear()

    def _let_go(self, call: Call) -> None:
        """One that has begun may still build or open something: its environment is closed behind it."""
        assert call.future is not None, "submitted"
        self._executor.give_up(call.future)
        if not call.future.done():
            call.future.add_done_callback(lambda _: close(call.running))

    def _next_deadline(self) -> float | None:
        """Seconds until the first call can be late; one that waits for a thread cannot be before ``timeout`` from now."""
        if self._timeout is None:
            return None
        now = self._clock.now()
        return max(0.0, min([now, *(call.began for call in self._open.values() if call.began is not None)]) + self._timeout - now)


@contextmanager
def staying(what: str) -> Iterator[None]:
    """A plug-in's ``sys.exit`` is an error like any other."""
    try:
        yield
    except SystemExit as error:
        raise EnvError(f"{what}: SystemExit: {error}") from error


def close(running: Running) -> None:
    """Close its environment, if it has one."""
    if running.env is not None:
        try:
            running.env.close()
        except (Exception, SystemExit) as error:  # the episode's record is complete without it
            warnings.warn(f"closing the environment of episode {running.play.id!r} failed: {error!r}", RuntimeWarning, stacklevel=2)
