"""What the loop works with, and the beats that are more than one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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
    demonstrations: list[Episode] = field(default_factory=list)
    """The fixed set of a method that has one, from the first step that wants it on: ``method.demonstrations`` of each author in turn."""

    def take(self, step: int) -> list[Task]:
        """The tasks of ``step``: a pure function of seed and step."""
        return cursor(self.tasks, self.config.seed, step, self.config.rollout.batch // self.method.group_size)

    def play(self, step: int, tasks: Sequence[Task]) -> list[EpisodeGroup]:
        """One group of episodes a task, in the order of the tasks."""
        shares = self.method.shares_at(step)
        plays = plan(tasks, seed=self.config.seed, kind="train", step=step, group_size=self.method.group_size, shares=shares)
        replayed = {} if self.method.demonstrations is None else self._replayed(plays, step, self.method.demonstrations)
        played = {each.id: each for each in play([each for each in plays if each.id not in replayed], self.players)} | replayed
        return grouped([played[each.id] for each in plays])

    def _replayed(self, plays: Sequence[Play], step: int, count: int) -> dict[str, Episode]:
        """The plays of data, each answered by an episode of the fixed set, which is gone through in order from step to step."""
        authors = [author for author in self.method.players if author != "student"]
        if not self.demonstrations:  # all in one go, so that a run that resumes makes the same ones
            planned = plan(cursor(self.tasks, self.config.seed, 0, count), seed=self.config.seed, kind="demonstration", step=0)
            for author in authors:
                self.demonstrations += play([replace(each, author=author) for each in planned], self.players)
        found = {}
        for index, each in enumerate(plays):
            if each.author != "student":
                number = authors.index(each.author) * count + (step * self.config.rollout.batch + index) % count
                found[each.id] = self.demonstrations[number].model_copy(update={"id": each.id, "group": each.group})
        return found

    def review(self, groups: Sequence[EpisodeGroup]) -> dict[str, Feedback]:
        """The teacher's feedback on each trainable episode, by episode id; empty where the method asks for none."""
        if self.teacher is None or not self.method.needs.teacher_logprobs:
            return {}
        episodes = [episode for group in groups for episode in group.trainable if episode.turns]
        return {feedback.episode: feedback for feedback in self.teacher.review(episodes)}

    def score(self, step: int, groups: Sequence[EpisodeGroup], feedback: Mapping[str, Feedback]) -> list[Sample]:
        """Rows of all episodes that may train, with the trainer's own log-probabilities where something needs them."""
        episodes = [episode for group in groups for episode in group.episodes if self.may_train(episode)]
        told = self.teacher.prepare(episodes) if isinstance(self.teacher, PrivilegedTeacher) else None
        samples = rows(episodes, feedback, told)
        needs = self.method.needs
        wanted = {
            "old": needs.old_logprobs or self.config.learner.updates > 1,
            "ref": needs.reference_logprobs,
            "entropy": needs.entropy,
            "value": needs.values,
        }
        want = [name for name, needed in wanted.items() if needed]
        if want:
            samples = self.learner.score(samples, want)
        if needs.dense_signals and self.dense_teacher is not None:
            samples = self.learner.score_signals(samples, self.method.terms_at(step), self.dense_teacher)
        return samples

    def may_train(self, episode: Episode) -> bool:
        """The student's own episodes may, those of others where the method does not leave them out for having failed."""
        by_student = any(turn.author == "student" for turn in episode.turns)
        return by_student or not self.method.only_successes or episode.success is not False

    def publish(self, version: int) -> None:
        """Hand the new weights to every engine that plays with them."""
        for sink in self.sinks:
            sink.publish(version)

    def measure(self, tasks: TaskSet, *, kind: str, step: int, temperature: float, samples: int = 1) -> list[Episode]:
        """The student plays each task ``samples`` times; greedy at temperature 0."""
        sampling = Sampling(temperature=temperature, max_new_tokens=self.config.rollout.max_new_tokens)
        named = plan(list(tasks), seed=self.config.seed, kind=kind, step=step, group_size=samples)
        if (seed := self.config.eval.seed) is not None:
            drawn = plan(list(tasks), seed=seed, kind=kind, step=0, group_size=samples)
            named = [replace(each, seed=draws.seed, key=draws.key) for each, draws in zip(named, drawn, strict=True)]
        return play(named, replace(self.players, sampling=sampling))


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
