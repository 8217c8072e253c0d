"""Tiny random models, and a renderer double whose text is the ids themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from tiny_models import VOCAB, build

from agentdistill.policy.protocol import Policy, Request
from agentdistill.types import Completion, Message, Sampling


class Numbers:
    """Text is numbers: ``encode`` and ``parse`` are each other's inverse, and id 2 ends a turn."""

    stop_ids = frozenset({2})

    def parse(self, token_ids: Sequence[int]) -> Message:
        return Message.assistant(" ".join(str(token) for token in token_ids if token not in self.stop_ids))

    def encode(self, message: Message) -> tuple[int, ...]:
        return (*(int(word) for word in message.content.split()), 2)


@pytest.fixture(scope="session")
def models() -> Callable[..., Any]:
    return build


@pytest.fixture
def renderer() -> Any:
    return Numbers()


@pytest.fixture
def play() -> Callable[..., dict[str, list[tuple[tuple[int, ...], Completion]]]]:
    return run


def contexts(episode: int, turns: int) -> list[tuple[int, ...]]:
    """Ragged context tokens of each turn; no stop token among them."""
    rng = np.random.default_rng(episode)
    sizes = [int(rng.integers(3, 14)), *rng.integers(1, 9, size=turns - 1).tolist()]
    return [tuple(rng.integers(3, VOCAB, size=size).tolist()) for size in sizes]


def run(
    policy: Policy,
    episodes: Iterable[int],
    *,
    turns: int = 3,
    sampling: Sampling | Callable[[int], Sampling] = Sampling(max_new_tokens=7),  # noqa: B008  # frozen
    on_step: Callable[[int], None] | None = None,
    delay: Callable[[int, int], int] = lambda episode, turn: 0,
) -> dict[str, list[tuple[tuple[int, ...], Completion]]]:
    """Play ``turns`` turns of every episode and return (context ids, completion) of each; ``delay`` steps pass before a next turn."""
    played: dict[str, list[tuple[tuple[int, ...], Completion]]] = {str(episode): [] for episode in episodes}
    lengths = dict.fromkeys(played, 0)
    due: list[tuple[int, str]] = [(0, id) for id in played]
    step = 0
    while due or any(len(done) < turns for done in played.values()):
        for when, id in [each for each in due if each[0] <= step]:
            due.remove((when, id))
            turn = len(played[id])
            context = contexts(int(id), turns)[turn]
            settings = sampling(int(id)) if callable(sampling) else sampling
            request = Request(
                id=id, turn=turn, segment=0, context_ids=context, prefix_length=lengths[id], sampling=settings, key=(5, int(id), turn)
            )
            policy.submit(request)
        for id, completion in policy.advance():
            turn = len(played[id])
            context = contexts(int(id), turns)[turn]
            played[id].append((context, completion))
            lengths[id] += len(context) + len(completion.token_ids)
            if turn + 1 < turns:
                due.append((step + 1 + delay(int(id), turn), id))
            else:
                policy.release(id)
        step += 1
        if on_step is not None:
            on_step(step)
        assert step < 10_000
    return played
