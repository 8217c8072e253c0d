"""Tiny random teachers, and random episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_models import VOCAB, build

from agentdistill.types import Completion, Episode, Message, Sample, Status, StopReason, Task, Turn


def strange() -> Any:
    """A model whose logits are not its head's: their sine is taken."""
    model = build("llama", seed=1)
    forward = model.forward

    def sine(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits.sin()
        return output

    model.forward = sine
    return model


@pytest.fixture(scope="session")
def models() -> Callable[..., Any]:
    return lambda kind, **changes: strange() if kind == "strange" else build(kind, seed=1, **changes)


def make_episode(seed: int, turns: int = 3, segments: bool = False, vocab: int = VOCAB) -> Episode:
    """Random ids; with ``segments`` the template rewrote history before the last turn."""
    rng = np.random.default_rng(seed)
    played = []
    for turn in range(turns):
        context = tuple(rng.integers(3, vocab, size=int(rng.integers(2, 9))).tolist())
        said = tuple(rng.integers(3, vocab, size=int(rng.integers(1, 8))).tolist())
        completion = Completion(message=Message.assistant("x"), token_ids=said)
        played.append(Turn(context_ids=context, completion=completion, segment=int(segments and turn == turns - 1)))
    task = Task(id="t", env="math", prompt=(Message.user("q"),))
    return Episode(
        id=f"e{seed}", group="g", task=task, seed=seed, prompt=task.prompt, turns=tuple(played), stop=StopReason.COMPLETED, status=Status.OK
    )


@pytest.fixture(scope="session")
def episode() -> Callable[..., Episode]:
    return make_episode


@pytest.fixture(scope="session")
def sample() -> Callable[..., Sample]:
    def make(ids: list[int], episode: str = "e") -> Sample:
        size = len(ids)
        return Sample(
            episode=episode,
            token_ids=np.array(ids, np.int32),
            author=np.zeros(size, np.uint8),
            turn=np.zeros(size, np.int32),
            policy_version=np.zeros(size, np.int32),
            rollout_logprobs=np.zeros(size, np.float32),
        )

    return make
