"""The only place that knows real time and real threads.

Code that waits or measures takes a :class:`Clock`; code that runs work beside itself takes an :class:`Executor`. Tests bring
:class:`ManualClock` and :class:`InlineExecutor`, so that no test sleeps and every schedule can be repeated.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from agentdistill.errors import EnvError

T = TypeVar("T")


class Clock(Protocol):
    """Reads and waits. All values in seconds."""

    def now(self) -> float:
        """Monotonic time; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...

    def cpu(self) -> float:
        """Processor time of this process, all threads; that of its children is not in it."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def cpu(self) -> float:
        return time.process_time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to, or when somebody sleeps on it."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    wall = now
    cpu = now

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds}")
        self._now += seconds


class Executor(Protocol):
    """Runs blocking work beside the caller."""

    def submit(self, work: Callable[[], T]) -> Future[T]: ...

    def wait_any(self, futures: Sequence[Future[T]], timeout: float | None = None) -> Sequence[Future[T]]:
        """Those of ``futures`` that are done, in the order given, after at least one is or ``timeout`` seconds have passed."""
        ...

    def give_up(self, future: Future[T]) -> None:
        """Nobody waits for this work any more."""
        ...

    def close(self) -> None: ...


class InlineExecutor:
    """Runs work at once, in the caller's thread: cheap, and the order is always the same."""

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        _work_off(future, work, but=KeyboardInterrupt)
        return future

    def wait_any(self, futures: Sequence[Future[T]], timeout: float | None = None) -> Sequence[Future[T]]:
        return [future for future in futures if future.done()]

    def give_up(self, future: Future[T]) -> None:
        return

    def close(self) -> None:
        return


class ThreadExecutor:
    """Runs work in daemon threads, so that work which never ends cannot keep the process from ending, as it does in
    ``concurrent.futures.ThreadPoolExecutor``."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._lost: set[Future[Any]] = set()
        """Given up while they ran."""
        self._counting = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._waiting.put((future, work))
        with self._counting:
            if len(self._threads) < self._workers + len(self._lost):
                self._hire()
        return future

    def _hire(self) -> None:
        """One more thread; the caller holds the lock."""
        thread = threading.Thread(target=self._serve, name=f"agentdistill-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait_any(self, futures: Sequence[Future[T]], timeout: float | None = None) -> Sequence[Future[T]]:
        wait(futures, timeout=timeout, return_when=FIRST_COMPLETED)
        return [future for future in futures if future.done()]

    def give_up(self, future: Future[T]) -> None:
        """It is cancelled; where it runs already, its thread is made up for by a fresh one."""
        with self._counting:  # a thread looks whether it is lost after its future is done, and under the same lock
            if not future.cancel() and not future.done():
                self._lost.add(future)
                self._hire()

    def close(self) -> None:
        """Cancel what waits, and let the threads end after what they are at."""
        while True:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                item[0].cancel()
        for _ in self._threads:
            self._waiting.put(None)

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, work = item
            if future.set_running_or_notify_cancel():
                _work_off(future, work)
            if self._was_lost(future):
                return
            del item, future, work  # or the thread would hold the result until its next work

    def _was_lost(self, future: Future[Any]) -> bool:
        """This thread was made up for while it worked, and is one too many now."""
        with self._counting:
            if future not in self._lost:
                return False
            self._lost.remove(future)
            self._threads.remove(threading.current_thread())
            return True


def _work_off(future: Future[T], work: Callable[[], T], *, but: type[BaseException] | tuple[()] = ()) -> None:
    """Result or exception into the future; ``but`` goes through."""
    try:
        result = work()
    except but:
        raise
    except BaseException as error:  # SystemExit too: work must not end the process
        future.set_exception(error)
    else:
        future.set_result(result)


SYSTEM_CLOCK = SystemClock()


class Mutex:
    """One thread at a time; the same thread may enter again. For what a whole process shares, in threads that an :class:`Executor` made."""

    def __init__(self, patience: float = 60.0) -> None:
        """
        Args:
            patience: seconds that a thread waits for another one, which may never come out again.
        """
        self._lock = threading.RLock()
        self._patience = patience

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raise :class:`EnvError` where another thread does not come out."""
        if not self._lock.acquire(timeout=self._patience):
            raise EnvError(f"another environment has been inside a call for more than {self._patience:g} s; they share a generator")
        try:
            yield
        finally:
            self._lock.release()
