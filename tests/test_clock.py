"""Time and threads, real and stood in for."""

import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from agentdistill.clock import SYSTEM_CLOCK, Clock, Executor, InlineExecutor, ManualClock, ThreadExecutor


def test_a_manual_clock_moves_only_when_told_or_slept_on() -> None:
    clock: Clock = ManualClock(5.0)
    assert clock.now() == clock.now() == 5.0
    clock.sleep(2.5)
    assert clock.now() == clock.wall() == clock.cpu() == 7.5
    with pytest.raises(ValueError, match="does not run backwards"):
        clock.sleep(-1)


def test_the_system_clock_is_the_machines() -> None:
    clock: Clock = SYSTEM_CLOCK
    before = clock.now()
    clock.sleep(0.01)
    assert 0.009 < clock.now() - before < 5
    assert abs(clock.wall() - time.time()) < 5
    started = clock.cpu()
    sum(range(200_000))
    assert clock.cpu() > started


def fail() -> int:
    raise KeyError("x")


@pytest.mark.parametrize("make", [InlineExecutor, lambda: ThreadExecutor(2)], ids=["inline", "threads"])
class TestEveryExecutor:
    def test_work_comes_back_in_the_order_that_was_asked_for(self, make: type[InlineExecutor]) -> None:
        executor: Executor = make()
        futures = [executor.submit(lambda value=value: value * 2) for value in range(4)]
        assert [future.result(timeout=5) for future in futures] == [0, 2, 4, 6]
        assert executor.wait_any(futures, timeout=5) == futures
        executor.close()

    def test_an_exception_comes_back_through_the_future(self, make: type[InlineExecutor]) -> None:
        executor: Executor = make()
        with pytest.raises(KeyError):
            executor.submit(fail).result(timeout=5)
        executor.close()


def test_threads_work_beside_the_caller_and_waiting_gives_up_in_time() -> None:
    executor = ThreadExecutor(2)
    gate = threading.Event()
    slow = executor.submit(lambda: gate.wait(5))
    fast = executor.submit(lambda: True)
    assert executor.wait_any([slow, fast], timeout=5) == [fast]
    assert executor.wait_any([slow], timeout=0.01) == []
    gate.set()
    assert slow.result(timeout=5)
    executor.close()


def test_closing_cancels_what_has_not_begun() -> None:
    executor = ThreadExecutor(1)
    gate, begun = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return gate.wait(5)

    running = executor.submit(work)
    begun.wait(5)
    waiting = executor.submit(lambda: True)
    executor.close()
    gate.set()
    assert waiting.cancelled()
    assert running.result(timeout=5)


def test_inline_work_is_done_before_submit_returns_and_interruptions_pass() -> None:
    done: list[int] = []
    future = InlineExecutor().submit(lambda: done.append(1))
    assert done == [1]
    assert future.done()
    assert InlineExecutor().wait_any([Future()]) == []

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InlineExecutor().submit(interrupted)


@pytest.mark.parametrize("executor", [InlineExecutor(), ThreadExecutor(1)])
def test_work_that_wants_to_end_the_process_only_ends_itself(executor: InlineExecutor | ThreadExecutor) -> None:
    future = executor.submit(lambda: sys.exit(3))
    with pytest.raises(SystemExit):
        future.result(timeout=5)
    assert executor.submit(lambda: 4).result(timeout=5) == 4
    executor.close()


def test_a_thread_that_never_ends_does_not_keep_the_process_alive() -> None:
    program = "import threading; from agentdistill.clock import ThreadExecutor; ThreadExecutor(1).submit(threading.Event().wait)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0


def test_a_thread_that_was_given_up_is_made_up_for_and_leaves_when_its_work_ends() -> None:
    executor = ThreadExecutor(1)
    gate, begun = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return gate.wait(5)

    hanging = executor.submit(work)
    begun.wait(5)
    executor.give_up(hanging)
    assert executor.submit(lambda: 7).result(timeout=5) == 7
    lost = [thread for thread in threading.enumerate() if thread in executor._threads]
    assert len(lost) == 2
    gate.set()
    assert hanging.result(timeout=5)
    for _ in range(200):
        if len(executor._threads) == 1:
            break
        time.sleep(0.01)
    assert len(executor._threads) == 1
    waiting = executor.submit(lambda: 8)
    assert waiting.result(timeout=5) == 8
    executor.close()


def test_closing_does_not_wait_for_an_item_that_a_thread_took_in_the_meantime() -> None:
    class Lying(queue.Queue[Any]):
        def empty(self) -> bool:  # as it looks between a check and a get
            return False

    executor = ThreadExecutor(1)
    executor._waiting = Lying()  # type: ignore[assignment]
    closing = threading.Thread(target=executor.close, daemon=True)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()
