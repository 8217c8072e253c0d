from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from agentdistill.clock import ManualClock
from agentdistill.nano.tokenizer import train_tokenizer
from agentdistill.render import Renderer

from .toys import Impatient


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    return Renderer(train_tokenizer(["plain"], vocab_size=300))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def impatient(clock: ManualClock) -> Iterator[Callable[[int], Impatient]]:
    """``impatient(workers)``; whatever hangs is let go when the test is over."""
    made: list[Impatient] = []

    def make(workers: int) -> Impatient:
        made.append(Impatient(workers, clock))
        return made[-1]

    yield make
    for executor in made:
        executor.gate.set()
        executor.close()
