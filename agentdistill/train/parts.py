"""What the loop works with, and the beats that are more than one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agentdistill.config.schema import TrainConfig
from agentdistill.credit import rows
from agentdistill.learner import Learner
from agentdistill.methods.protocol import Method
from agentdistill.policy.protocol import WeightSink
from agentdistill.rollout import Play, Players, plan, play
from agentdistill.taskset import TaskSet, cursor
from agentdistill.teacher.protocol import DenseTarget, DenseTeacher, PrivilegedTeacher, Teacher
from agentdistill.types import Author, Episode, EpisodeGroup, Feedback, Sample, Sampling, Task


@dataclass(kw_only=True)
class Parts:
    """Everything that one run needs, built once (:mod:`agentdistill.train.session`)."""

    config: TrainConfig
    tasks: TaskSet
    """The train split."""
    held_out: Mapping[str, TaskSet]
    """``test`` (for the figures before and after) and ``progress`` (for the curve)."""
    players: Players
    sinks: Sequence[WeightSink]
    teacher: Teacher | None
    dense_teacher: CountingDense | None
    method: Method
    learner: Learner

    def take(self, step: int) -> list[Task]:
        """The tasks of ``step``: a pure function of seed and step."""
        return cursor(self.tasks, self.config.seed, step, self.config.rollout.batch // self.method.group_size)

    def play(self, step: int, tasks: Sequence[Task]) -> list[EpisodeGroup]:
        """One group of episodes a task, in the order of the tasks."""
        plays = plan(tasks, seed=self.config.seed, kind="train", step=step, group_size=self.method.group_size, shares=self.method.shares)
        return grouped(play([self._fixed(each, step, index) for index, each in enumerate(plays)], self.players))

    def _fixed(self, each: Play, step: int, index: int) -> Play:
        """A data play of a method with a fixed set of demonstrations replays one of them, draws included."""
        count = self.method.demonstrations
        if count is None or each.author == "student":
            return each
        number = (step * self.config.rollout.batch + index) % count
        demonstration = plan(cursor(self.tasks, self.config.seed, 0, count), seed=self.config.seed, kind="demonstration", step=0)[number]
        return replace(each, task=demonstration.task, seed=demonstration.seed, key=demonstration.key)

    def review(self, groups: Sequence[EpisodeGroup]) -> dict[str, Feedback]:
        """The teacher's feedback on each trainable episode, by episode id; empty where the method asks for none."""
        if self.teacher is None or not self.method.needs.teacher_logprobs:
            return {}
        episodes = [episode for group in groups for episode in group.trainable if episode.turns]
        return {feedback.episode: feedback for feedback in self.teacher.review(episodes)}

    def score(self, groups: Sequence[EpisodeGroup], feedback: Mapping[str, Feedback]) -> list[Sample]:
        """Rows of all episodes that may train, with the trainer's own log-probabilities where something needs them."""
        episodes = [episode for group in groups for episode in group.episodes if self._may_train(episode)]
        told = self.teacher.prepare(episodes) if isinstance(self.teacher, PrivilegedTeacher) else None
        samples = rows(episodes, feedback, told)
        want = {"old"} if self.config.learner.updates > 1 else set()
        if self.method.needs.reference:
            want.add("ref")
        return self.learner.score(samples, want) if want else samples

    def _may_train(self, episode: Episode) -> bool:
        by_student = any(turn.author == "student" for turn in episode.turns)
        return by_student or not self.method.only_successes or episode.success is not False

    def publish(self, version: int) -> None:
        """Hand the new weights to every engine that plays with them."""
        for sink in self.sinks:
            sink.publish(version)

    def measure(self, tasks: TaskSet, *, kind: str, step: int, temperature: float) -> list[Episode]:
        """The student plays each task once; greedy at temperature 0."""
        sampling = Sampling(temperature=temperature, max_new_tokens=self.config.rollout.max_new_tokens)
        return play(plan(list(tasks), seed=self.config.seed, kind=kind, step=step), replace(self.players, sampling=sampling))


class CountingDense:
    """A dense teacher that counts the tokens it was shown."""

    def __init__(self, teacher: DenseTeacher) -> None:
        self._teacher = teacher
        self.tokens = 0
        """Since the last :meth:`take`."""

    def take(self) -> int:
        """Tokens shown since the last call."""
        tokens, self.tokens = self.tokens, 0
        return tokens

    def dense(self, samples: Sequence[Sample], positions: Sequence[Sequence[int]]) -> DenseTarget:
        self.tokens += sum(len(sample) for sample in samples)
        return self._teacher.dense(samples, positions)


def grouped(episodes: Sequence[Episode]) -> list[EpisodeGroup]:
    """Siblings together, in order of appearance."""
    by_group: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_group.setdefault(episode.group, []).append(episode)
    return [EpisodeGroup(id=id, task=siblings[0].task, episodes=tuple(siblings)) for id, siblings in by_group.items()]


def success_rate(episodes: Sequence[Episode], author: Author = "student") -> float | None:
    """Share of successes among the trainable episodes of ``author``; ``None`` where there are none."""
    verdicts = [
        bool(episode.success)
        for episode in episodes
        if episode.status.trainable and (not episode.turns or episode.turns[0].author == author)
    ]
    return sum(verdicts) / len(verdicts) if verdicts else None
