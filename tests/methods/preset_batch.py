"""One small batch that every preset is tried on, and that batch as plain arrays.

    group a   four plays and one whose world broke: two turns, two turns, one turn, two turns in two segments
    group b   four plays: cut short, two turns, two turns of which the teacher wrote some words, one turn
    group c   two plays that both failed: nothing to compare
    group d   an expert's play and a teacher's

:func:`batch` is what a run has at this point: records, scored rows.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from agentdistill.config.schema import LearnerConfig
from agentdistill.credit import rows
from agentdistill.learner import Learner
from agentdistill.types import (
    AuthorSpan,
    Completion,
    Episode,
    EpisodeGroup,
    Feedback,
    Message,
    Sample,
    Status,
    StopReason,
    Task,
    Turn,
)

VOCAB = 40
"""More than the largest k of a preset, 32."""
SPECIAL = frozenset({3, 7, 11, 19})


def tiny(seed: int, spread: float = 0.4) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, initializer_range=spread,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).double().eval()


@dataclass(frozen=True)
class Models:
    """The student as it is, as it was when the batch was scored and as it began, and the teacher; all float64."""

    student: Any
    old: Any
    reference: Any
    teacher: Any


@cache
def models(teacher_seed: int = 1) -> Models:
    """The old policy is close enough for ratios within the clip range, and far enough for some beyond."""
    student = tiny(0)
    old = copy.deepcopy(student)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in old.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
    return Models(student, old, tiny(2), tiny(teacher_seed, 0.8))


class Dense:
    """A white-box teacher: answers the positions that it is asked about, from whole rows."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def dense(self, samples: Sequence[Sample], positions: Sequence[Sequence[int]]) -> Target:
        return Target(torch.cat([distributions(self.model, s.token_ids)[list(cols)] for s, cols in zip(samples, positions, strict=True)]))


@dataclass
class Target:
    table: Tensor

    def __len__(self) -> int:
        return len(self.table)

    def log_probs(self, start: int, stop: int) -> Tensor:
        return self.table[start:stop]


def distributions(model: Any, ids: Any) -> Tensor:
    """ln of the distribution that position t was drawn from, [L, V]; nothing predicts position 0."""
    logits = model(input_ids=torch.as_tensor(np.asarray(ids)[None], dtype=torch.long)).logits[0]
    logprobs = logits.log_softmax(-1)
    return torch.cat([torch.full_like(logprobs[:1], torch.nan), logprobs[:-1]])


# --- The records --------------------------------------------------------------------------------------------------------

# name: (author, reward, status, turns), a turn being (context, completion length, segment, state before it)
PLAYS: dict[str, tuple[str, float, Status, list[tuple[int, int, int, str | None]]]] = {
    "a0": ("student", 1, Status.OK, [(3, 4, 0, "a"), (2, 3, 0, "a1")]),
    "a1": ("student", 0, Status.OK, [(3, 5, 0, "a"), (2, 6, 0, "a1")]),
    "a2": ("student", 1, Status.OK, [(3, 2, 0, "a")]),
    "a3": ("student", 0, Status.OK, [(3, 3, 0, "a"), (7, 4, 1, "a2")]),
    "a4": ("student", 1, Status.ENV_ERROR, [(3, 3, 0, "a")]),
    "b0": ("student", 0, Status.TRUNCATED, [(4, 6, 0, "b"), (1, 5, 0, "b1")]),
    "b1": ("student", 1, Status.OK, [(4, 3, 0, "b"), (2, 2, 0, "b1")]),
    "b2": ("student", 0, Status.OK, [(4, 4, 0, "b"), (2, 5, 0, None)]),
    "b3": ("student", 0, Status.OK, [(4, 7, 0, "b")]),
    "c0": ("student", 0, Status.OK, [(2, 4, 0, "c"), (2, 3, 0, "c1")]),
    "c1": ("student", 0, Status.OK, [(2, 3, 0, "c")]),
    "d0": ("expert", 1, Status.OK, [(3, 4, 0, "d"), (2, 4, 0, "d1")]),
    "d1": ("teacher", 1, Status.OK, [(3, 5, 0, "d")]),
}
STOPS = {Status.TRUNCATED: StopReason.MAX_TOKENS, Status.ENV_ERROR: StopReason.ERROR}
INJECTED = ("b2", 1, 2)
"""Episode, turn, and how many of its first tokens the teacher wrote."""


def _episode(name: str) -> Episode:
    author, reward, status, turns = PLAYS[name]
    rng = np.random.default_rng([*name.encode()])
    made, row, segment = [], [], 0
    for index, (context, length, place, anchor) in enumerate(turns):
        row, segment = ([], place) if place != segment else (row, segment)
        context_ids, ids = rng.integers(0, VOCAB, context).tolist(), rng.integers(0, VOCAB, length).tolist()
        row = row + context_ids + ids
        with torch.no_grad():
            raw = distributions(models().old, row)[-length:].gather(-1, torch.tensor(ids)[:, None])[:, 0]
        noise = 0.2 * rng.normal(size=length)
        spans = (AuthorSpan(start=0, stop=INJECTED[2], author="teacher"),) if (name, index) == INJECTED[:2] else None
        completion = Completion(
            message=Message.assistant("…"),
            token_ids=tuple(ids),
            logprobs=None if author == "expert" else tuple((raw.numpy() + noise).tolist()),
            authors=spans,
        )
        last = index == len(turns) - 1
        made.append(
            Turn(
                context_ids=tuple(context_ids),
                completion=completion,
                segment=place,
                author=author,
                reward=reward if last else 0.0,
                anchor=anchor,
            )
        )
    return Episode(
        id=name, group=name[0], task=_task(name[0]), seed=0, prompt=(Message.user("?"),), turns=tuple(made), reward=reward, status=status,
        stop=STOPS.get(status, StopReason.COMPLETED),
    )  # fmt: skip


def _task(name: str) -> Task:
    return Task(id=name, env="none", prompt=(Message.user("?"),))


@cache
def groups() -> tuple[EpisodeGroup, ...]:
    names = dict.fromkeys(name[0] for name in PLAYS)
    return tuple(EpisodeGroup(id=g, task=_task(g), episodes=tuple(_episode(name) for name in PLAYS if name[0] == g)) for g in names)


@cache
def batch(teacher_seed: int = 1) -> tuple[Sample, ...]:
    """The rows as a run has them before credit: scored by the old policy, the reference and the teacher."""
    everyone = models(teacher_seed)
    episodes = [episode for group in groups() for episode in group.trainable]
    samples = rows(episodes, {episode.id: _feedback(episode, everyone.teacher) for episode in episodes})
    samples = learner(everyone.student, reference=everyone.reference).score(samples, {"ref", "entropy"})
    old = learner(everyone.old).score(samples, {"old"})
    samples = [replace(sample, old_logprobs=before.old_logprobs) for sample, before in zip(samples, old, strict=True)]
    return tuple(
        replace(sample, values={"outcome": worth(sample.episode, sample.turn)}, values_after={"outcome": AFTER}) for sample in samples
    )


AFTER = 0.3
"""What a learned value says of the state after an episode's last token."""


def worth(episode: str, turns: Any) -> Any:
    """What it says of the state before each token; turns of an episode differ, and so do their tokens."""
    place = np.arange(len(turns))
    return (0.1 * ord(episode[1]) % 0.7 + 0.15 * np.asarray(turns) - 0.01 * place).astype(np.float32)


def _feedback(episode: Episode, teacher: Any) -> Feedback:
    found: list[tuple[float, ...]] = []
    row: list[int] = []
    segment = 0
    for turn in episode.turns:
        row, segment = ([], turn.segment) if turn.segment != segment else (row, segment)
        ids = turn.completion.token_ids
        row = [*row, *turn.context_ids, *ids]
        with torch.no_grad():
            said = distributions(teacher, row)[-len(ids) :].gather(-1, torch.tensor(ids)[:, None])[:, 0]
        found.append(tuple(said.tolist()))
    return Feedback(episode=episode.id, teacher="tiny", access="white", token_logprobs=tuple(found))


def learner(model: Any, **choices: Any) -> Learner:
    settings = LearnerConfig(device="cpu", threads=1, micro_batch_tokens=choices.pop("micro_batch_tokens", 64), chunk_tokens=16)
    return Learner(copy.deepcopy(model), settings, **choices)
