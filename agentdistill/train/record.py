"""What a run leaves behind: figures of every step, episodes, feedback, annotations, checkpoints and the summary.

    begin ──> record(step) … record(step) ──> finish
      │            │ every k steps: evaluate, save
      └ resume: newest valid checkpoint; everything stored after it is dropped and played again, to the same bits

``metrics.jsonl`` holds only figures that are a function of configuration and seed; what depends on the clock goes to ``perf.jsonl``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.store import Run, write_report
from agentdistill.train.figures import Counters, StepRecord, Summary
from agentdistill.train.parts import Parts, success_rate
from agentdistill.train.progress import Progress, StepView
from agentdistill.train.state import Restored, save_checkpoint
from agentdistill.train.track import Silent, Tracker, open_tracker
from agentdistill.types import Episode


class Recorder:
    """Keeps a run's records and decides what is due."""

    def __init__(
        self, run: Run, parts: Parts, progress: Progress, *, restored: Restored | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.run, self.parts, self.progress, self.clock = run, parts, progress, clock
        self.config = parts.config
        self._restored = restored
        self.counters = Counters()
        self.stop_requested: int | None = None
        """Number of the signal that asked the run to stop, if one did."""
        self.tracker: Tracker = Silent()
        self._recent: deque[float] = deque(maxlen=10)
        """Seconds of the latest steps, evaluations included."""
        self._evaluated: dict[str, float] = {}
        """Figures of an evaluation that no schedule has heard yet."""
        self._began = (0.0, 0.0)
        self._saved_at: int | None = None
        self._trained_before = 0
        """Training tokens before the latest step."""

    @property
    def step(self) -> int:
        """The step that comes next, 0-based."""
        return self.counters.step

    @property
    def over(self) -> bool:
        """All steps are taken, or the budget is spent."""
        return self.counters.step >= self.config.steps or self._spent

    @property
    def _spent(self) -> bool:
        return self.config.budget is not None and self.counters.training_tokens >= self.config.budget

    def begin(self) -> None:
        """Start afresh, or go on where the restored checkpoint stands."""
        self._began = (self.clock.now(), self.clock.cpu())
        restored = self._restored
        after = None if restored is None else restored.step
        self.progress.start(self.config, resumed_at=after)
        self.tracker = open_tracker(self.config.track, self.run.path, after=after, say=self.progress.note)
        if restored is None:
            self.run.discard_after(-1)
            if self.config.resume:
                self.progress.note("the run has no checkpoint yet; it starts from the beginning")
            tasks = self.parts.held_out["test"]
            self.progress.note(f"measuring {len(tasks)} held-out tasks before training")
            self.counters.success_before = success_rate(self._measure("before-greedy", "test", temperature=0.0))
            self.counters.success_sampled_before = success_rate(self._measure("before-sampled", "test", temperature=1.0))
            self._evaluate()
            self.save()
        else:
            for why in restored.skipped:
                self.progress.note(f"a newer checkpoint was passed over: {why}")
            self.counters = Counters(**restored.counters)
            self.parts.method.load_state(self.counters.schedules)
            self.run.discard_after(self.counters.step)
            self._saved_at = self.counters.step
            self.parts.publish(self.counters.step)

    @contextmanager
    def record(self, step: int) -> Iterator[StepRecord]:
        """Gather the figures of ``step``; store them, and do what is due, when its beats are over."""
        record = StepRecord(step=step, clock=self.clock)
        began = self.clock.now()
        yield record
        record.perf["time/step/seconds"] = self.clock.now() - began
        self._store(record)
        self.counters.step = step + 1
        if self._measurement_due():
            self._evaluate()
        self.parts.method.observe(record.metrics | self._evaluated)  # once a step: schedules may count them
        self._evaluated = {}
        if self.counters.step % self.config.checkpoint_every == 0 or self.over:
            self.save()
        self._recent.append(self.clock.now() - began)

    def _store(self, record: StepRecord) -> None:
        episodes = [episode for group in record.groups for episode in group.episodes]
        store = self.run.episodes
        store.append_episodes(episodes, step=record.step, kind="train")
        store.append_feedback(list(record.feedback.values()))
        if record.losses is not None:
            shown = {episode.id for episode in episodes[: self.config.annotate]}
            store.append_annotations(record.losses.annotations(record.step, shown))
        before = self.counters.student_tokens
        self._trained_before = self.counters.training_tokens
        self.counters.count(record, self.parts)
        totals = {"tokens/student/total": self.counters.student_tokens, "tokens/training/total": self.counters.training_tokens}
        self.run.append_metrics(record.step, record.metrics | {name: float(total) for name, total in totals.items()})
        record.perf["speed/student_tokens/per_second"] = (self.counters.student_tokens - before) / max(
            record.perf["time/step/seconds"], 1e-9
        )
        self.run.append_perf(record.step, record.perf)
        self.tracker.scalars(record.step + 1, record.metrics | record.perf)
        self.progress.step(
            StepView(
                step=record.step + 1,
                steps=record.step + 1 + self._steps_left(),
                success=record.metrics.get("rollout/success/mean"),
                reverse_kl=record.metrics.get("divergence/reverse_kl"),
                loss=record.metrics.get("loss/total"),
                tokens_per_second=record.perf["speed/student_tokens/per_second"],
                seconds_left=self._steps_left() * self._seconds_a_step(record),
                skipped=record.skipped,
                skipped_because=record.skipped_because,
                failed=int(record.metrics.get("rollout/failed/count", 0)),
            )
        )

    def _measurement_due(self) -> bool:
        """At this step; the one before training is taken by :meth:`begin`."""
        every, tokens = self.config.eval.every, self.config.eval.every_tokens
        if tokens is not None:
            return self.over or self.counters.training_tokens // tokens > self._trained_before // tokens
        return bool(every) and self.counters.step % every == 0

    def _steps_left(self) -> int:
        """With a budget, as many as it will last at the mean of the steps so far."""
        taken = self.counters.step + 1
        left = self.config.steps - taken
        if self.config.budget is None:
            return left
        tokens = max(self.counters.training_tokens, 1)
        return min(left, max(0, math.ceil((self.config.budget - tokens) * taken / tokens)))

    def _seconds_a_step(self, latest: StepRecord) -> float:
        """The mean over the last steps, whose evaluations and checkpoints count."""
        known = self._recent or (latest.perf["time/step/seconds"],)
        return sum(known) / len(known)

    def _measure(self, kind: str, tasks: str, *, temperature: float, samples: int = 1) -> list[Episode]:
        at = self.counters.step
        episodes = self.parts.measure(self.parts.held_out[tasks], kind=kind, step=at, temperature=temperature, samples=samples)
        self.run.episodes.append_episodes(episodes, step=at, kind=kind)
        return episodes

    def _evaluate(self) -> None:
        """The point of the curve at this step: success on the progress tasks, greedy and as often at temperature 1 as is asked for."""
        settings = self.config.eval
        if not settings.every and settings.every_tokens is None:
            return
        rate = success_rate(self._measure("progress", "progress", temperature=0.0))
        sampled = None
        if settings.progress_samples:
            sampled = success_rate(self._measure("progress-sampled", "progress", temperature=1.0, samples=settings.progress_samples))
        if rate is not None:
            figures = {"eval/success/greedy": rate} | ({} if sampled is None else {"eval/success/sampled": sampled})
            self.run.append_metrics(self.counters.step, figures, kind="eval")
            self._evaluated = figures
            self.tracker.scalars(self.counters.step, figures)
            self.progress.evaluated(self.counters.step, rate)

    def save(self) -> None:
        """Write a checkpoint of this moment, unless it is there."""
        if self._saved_at == self.counters.step:
            return
        now, cpu = self.clock.now(), self.clock.cpu()
        self.counters.wall_s += now - self._began[0]
        self.counters.cpu_s += cpu - self._began[1]
        self._began = (now, cpu)
        self.counters.schedules = self.parts.method.state()
        save_checkpoint(self.run, self.parts.learner, self.parts.players.renderer, asdict(self.counters), keep=self.config.keep_checkpoints)
        self._saved_at = self.counters.step

    def finish(self) -> Summary:
        """Measure held-out success after training, and write summary and report."""
        tasks = self.parts.held_out["test"]
        self.progress.note(f"measuring {len(tasks)} held-out tasks after training")
        greedy = self._measure("after-greedy", "test", temperature=0.0)
        sampled = self._measure("after-sampled", "test", temperature=1.0, samples=self.config.eval.samples)
        counters = self.counters
        summary = Summary(
            env=self.config.env.name,
            method=self.config.method.name,
            seed=self.config.seed,
            student=self.config.student.path,
            teacher=getattr(self.config.teacher, "path", self.config.teacher.name),
            steps=counters.step,
            success_before=counters.success_before,
            success_after=success_rate(greedy),
            success_sampled_before=counters.success_sampled_before,
            success_sampled_after=success_rate(sampled),
            eval_split=self.config.eval.split,
            eval_tasks=len(tasks),
            student_tokens=counters.student_tokens,
            training_tokens=counters.training_tokens,
            teacher_tokens=counters.teacher_tokens + counters.demonstration_tokens,
            stopped_by="budget" if self._spent else "steps",
            episodes=counters.episodes,
            failed_episodes=counters.failed_episodes,
            wall_s=round(counters.wall_s + self.clock.now() - self._began[0], 3),
            cpu_s=round(counters.cpu_s + self.clock.cpu() - self._began[1], 3),
            version=self.parts.players.versions.get("agentdistill", ""),
        )
        self.run.write_summary(summary.model_dump(mode="json"))
        before, after = self._telling_pair(greedy)
        page = write_report(self.run, before=before, after=after)
        self.progress.finished(summary, before, after, self.run.path, page)
        return summary

    def close(self) -> None:
        """Let go of what is not the run's own; it is safe to call at any time."""
        self.tracker.close()

    def _telling_pair(self, after: Sequence[Episode]) -> tuple[Episode | None, Episode | None]:
        """One task before and after: the first that was failed before and solved after, else the first."""
        pairs = []
        for index, episode in enumerate(after):
            before = self.run.episodes.find(f"before-greedy-0-{index}-0")
            if before is not None:
                pairs.append((before, episode))
        turned = [pair for pair in pairs if not pair[0].success and pair[1].success]
        chosen = turned or pairs
        return chosen[0] if chosen else (None, after[0] if after else None)
