"""The figures of a training run: of one step, of all steps so far, and of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from agentdistill.clock import Clock
from agentdistill.credit import CreditReport
from agentdistill.learner import LossReport, StepReport
from agentdistill.train.parts import Parts, success_rate
from agentdistill.types import AUTHORS, Author, Episode, EpisodeGroup, Feedback, Record


class Summary(Record):
    """``summary.json``: how the run came out. Success is on held-out tasks; ``None``: not measured."""

    env: str
    method: str
    seed: int
    student: str
    teacher: str
    steps: int
    success_before: float | None
    success_after: float | None
    success_sampled_before: float | None
    success_sampled_after: float | None
    eval_split: str
    eval_tasks: int
    student_tokens: int
    """Sampled by the student in training."""
    training_tokens: int
    """What ``budget`` counts: those, and the sampled tokens of others' episodes that the student was trained on, each time."""
    teacher_tokens: int
    """Read or sampled by the teacher; a fixed set of demonstrations counts once."""
    stopped_by: Literal["steps", "budget"]
    """What ended the run."""
    episodes: int
    """Played in training."""
    failed_episodes: int
    """Of those, not trainable."""
    wall_s: float
    """Of the training loop and its evaluations, over all sessions of the run."""
    cpu_s: float
    version: str


@dataclass
class Counters:
    """What has to survive a restart besides weights and optimizer."""

    step: int = 0
    student_tokens: int = 0
    training_tokens: int = 0
    teacher_tokens: int = 0
    demonstration_tokens: int = 0
    """Sampled by the teacher for a fixed set, once."""
    episodes: int = 0
    failed_episodes: int = 0
    skipped_steps: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    success_before: float | None = None
    success_sampled_before: float | None = None
    schedules: dict[str, Any] = field(default_factory=dict)
    """Where the method's adaptive schedules stand."""

    def count(self, record: StepRecord, parts: Parts) -> None:
        """Add what one step played and what the teacher read and wrote for it."""
        episodes = [episode for group in record.groups for episode in group.episodes]
        student = tokens_of("student", episodes)
        self.student_tokens += student
        self.training_tokens += student + sum(
            tokens_of(author, [episode for episode in episodes if episode.status.trainable and parts.may_train(episode)])
            for author in AUTHORS
            if author != "student"
        )
        self.demonstration_tokens = tokens_of("teacher", parts.demonstrations)
        if not parts.demonstrations:  # else they are replayed
            self.teacher_tokens += tokens_of("teacher", episodes)
        self.teacher_tokens += sum(each.cost.tokens for each in record.feedback.values())
        self.teacher_tokens += 0 if parts.dense_teacher is None else parts.dense_teacher.take()
        self.episodes += len(episodes)
        self.failed_episodes += sum(not episode.status.trainable for episode in episodes)
        self.skipped_steps += record.skipped


@dataclass
class StepRecord:
    """The figures of one step, gathered while its beats run."""

    step: int
    clock: Clock
    groups: Sequence[EpisodeGroup] = ()
    feedback: Mapping[str, Feedback] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    perf: dict[str, float] = field(default_factory=dict)
    losses: LossReport | None = None
    skipped: bool = False

    @property
    def skipped_because(self) -> str:
        """Why the weights did not move, where the numbers were sound. Empty: they were not, or the weights moved."""
        if self.losses is None or self.losses.measured:
            return ""
        failures = Counter(episode.failure.type for group in self.groups for episode in group.episodes if episode.failure is not None)
        told = ", ".join(f"{count} {name}" for name, count in failures.most_common(3))
        return f"no episode could train ({told})" if told else "no token of this step carries a term"

    @contextmanager
    def beat(self, name: str) -> Iterator[None]:
        """Times one beat of the loop."""
        began = self.clock.now()
        yield
        key = f"time/{name}/seconds"
        self.perf[key] = self.perf.get(key, 0.0) + self.clock.now() - began

    def played(self, groups: Sequence[EpisodeGroup]) -> None:
        self.groups = groups
        self.metrics.update(rollout_metrics([episode for group in groups for episode in group.episodes]))

    def reviewed(self, feedback: Mapping[str, Feedback]) -> None:
        self.feedback = feedback

    def credited(self, credit: CreditReport) -> None:
        self.metrics.update(credit.metrics)

    def updated(self, losses: LossReport, report: StepReport) -> None:
        self.losses = losses
        self.skipped = self.skipped or report.skipped
        self.metrics.update(losses.metrics)
        self.metrics.update(report.metrics)


def tokens_of(author: Author, episodes: Sequence[Episode]) -> int:
    """Tokens that ``author`` sampled in the episodes it played."""
    return sum(episode.completion_tokens for episode in episodes if episode.turns and episode.turns[0].author == author)


def rollout_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Figures of a batch of episodes, named area/what/stat."""
    trainable = [episode for episode in episodes if episode.status.trainable]
    metrics = {"rollout/episodes/count": float(len(episodes)), "rollout/failed/count": float(len(episodes) - len(trainable))}
    student = [episode for episode in trainable if episode.turns and episode.turns[0].author == "student"]
    rate = success_rate(student)
    if rate is not None:
        metrics["rollout/success/mean"] = rate
    for name, values in (
        ("reward", [episode.reward for episode in student]),
        ("turns", [float(len(episode.turns)) for episode in student]),
        ("completion_tokens", [float(episode.completion_tokens) for episode in student]),
        ("truncated", [float(episode.stop.truncated) for episode in student]),
    ):
        if values:
            metrics[f"rollout/{name}/mean"] = float(np.mean(values))
    return metrics
