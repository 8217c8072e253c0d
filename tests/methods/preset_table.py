"""The batch as plain arrays, in which the references are written: read off records and models without the library's help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .preset_batch import INJECTED, distributions, groups, models, worth


@dataclass(frozen=True)
class Table:
    """All n sampled tokens of trainable episodes, in the order in which they were said. Streams are rounded as records keep them."""

    student: Tensor
    """ln q, [n, V], with gradient."""
    teacher: Tensor
    """ln p, [n, V]."""
    y: Tensor
    old: Tensor
    rollout: Tensor
    ref: Tensor
    told: Tensor
    """ln p(y)."""
    entropy: Tensor
    value: Tensor
    """What a learned value says of the state before the token."""
    by_student: Tensor
    """[n], bool."""
    ends: Tensor
    """Whether the token is the last one of its turn, [n], bool."""
    turn: list[int]
    episode: list[str]

    @property
    def lq(self) -> Tensor:
        """ln q(y), with gradient."""
        return self.student.gather(-1, self.y[:, None])[:, 0]

    @property
    def ratio(self) -> Tensor:
        """π_θ/π_old of each token."""
        return (self.lq - self.old).exp()

    @property
    def gap(self) -> Tensor:
        """ln p − ln q as it was when the batch was scored."""
        return self.told - self.old

    def of(self, name: str) -> Tensor:
        """The student's tokens of an episode, [m], in order."""
        return torch.tensor([i for i, each in enumerate(self.episode) if each == name and self.by_student[i]], dtype=torch.long)

    def per_episode(self, values: dict[str, float]) -> Tensor:
        """Each token's episode's number, [n]."""
        return torch.tensor([values.get(name, 0.0) for name in self.episode], dtype=torch.float64)


def table(student: Any, teacher_seed: int = 1) -> Table:
    """Read off the records; ``student`` gets the gradient of what is made of it."""
    everyone = models(teacher_seed)
    columns: dict[str, list[Any]] = {name: [] for name in ("y", "rollout", "value", "by_student", "ends", "turn", "episode")}
    whole: dict[str, list[Tensor]] = {"student": [], "teacher": [], "old": [], "ref": []}
    for group in groups():
        for episode in group.trainable:
            for segment in sorted({turn.segment for turn in episode.turns}):
                row: list[int] = []
                said: list[int] = []
                turns: list[int] = []
                for index, turn in enumerate(episode.turns):
                    if turn.segment != segment:
                        continue
                    ids = turn.completion.token_ids
                    row += turn.context_ids
                    said += range(len(row), len(row) + len(ids))
                    row += ids
                    injected = INJECTED[2] if (episode.id, index) == INJECTED[:2] else 0
                    columns["y"] += ids
                    columns["rollout"] += turn.completion.logprobs or [float("nan")] * len(ids)
                    columns["by_student"] += [turn.author == "student" and place >= injected for place in range(len(ids))]
                    columns["ends"] += [place == len(ids) - 1 for place in range(len(ids))]
                    columns["turn"] += [index] * len(ids)
                    turns += [index] * len(ids)
                    columns["episode"] += [episode.id] * len(ids)
                whose = [-1] * len(row)
                for place, turn_index in zip(said, turns, strict=True):
                    whose[place] = turn_index
                columns["value"] += worth(episode.id, whose)[said].tolist()
                for name, model in (
                    ("student", student),
                    ("teacher", everyone.teacher),
                    ("old", everyone.old),
                    ("ref", everyone.reference),
                ):
                    with torch.set_grad_enabled(name == "student"):
                        whole[name].append(distributions(model, row)[said])
    y = torch.tensor(columns["y"])
    every = {name: torch.cat(parts) for name, parts in whole.items()}
    chosen = {name: rounded(found.gather(-1, y[:, None])[:, 0]) for name, found in every.items() if name != "student"}
    now = every["student"].detach()
    return Table(
        student=every["student"],
        teacher=every["teacher"],
        y=y,
        old=chosen["old"],
        rollout=rounded(torch.tensor(columns["rollout"], dtype=torch.float64)),
        ref=chosen["ref"],
        told=chosen["teacher"],
        entropy=rounded(-(now.exp() * now).sum(-1)),
        value=torch.tensor(columns["value"], dtype=torch.float64),
        by_student=torch.tensor(columns["by_student"]),
        ends=torch.tensor(columns["ends"]),
        turn=columns["turn"],
        episode=columns["episode"],
    )


def rounded(values: Tensor) -> Tensor:
    """As float32 keeps it."""
    return values.float().double()
