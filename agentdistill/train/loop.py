"""The training loop, in nine beats.

    take ─> play ─> review ─> score ─> credit ─> pack ─> loss ─> step ─> publish
      ^                                                                     │
      └──────────────── policy_version + 1, record, evaluate, save ─────────┘

The loop knows no method by name: who plays, what is reviewed and which terms are used is the method's to say
(:class:`~agentdistill.methods.protocol.Method`). Everything random is keyed by (seed, step, position), so a run that stops after any
step and resumes is the run that never stopped.
"""

from __future__ import annotations

from agentdistill.train.figures import StepRecord, Summary
from agentdistill.train.parts import Parts
from agentdistill.train.record import Recorder


class Interrupted(Exception):
    """The user or the system asked the run to stop; a checkpoint was written first."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal} after a clean checkpoint")
        self.signal = signal


def train(parts: Parts, recorder: Recorder) -> Summary:
    """Train until ``config.steps`` or ``config.budget``; start, or go on where the run's newest checkpoint stands.

    Raises:
        TeacherError: no feedback could be had (resumable).
        NumericsError: non-finite numbers, repeatedly (resumable).
        Interrupted: asked to stop.
    """
    recorder.begin()
    while not recorder.over:
        step = recorder.step
        with recorder.record(step) as record:
            one_step(parts, step, record)
        if recorder.stop_requested is not None:
            recorder.save()
            raise Interrupted(recorder.stop_requested)
    return recorder.finish()


def one_step(parts: Parts, step: int, record: StepRecord) -> None:
    """One turn of the loop: nine beats, each of which is timed and leaves its figures in ``record``."""
    with record.beat("take"):
        tasks = parts.take(step)
    with record.beat("play"):
        groups = parts.play(step, tasks)
        record.played(groups)
    with record.beat("review"):
        feedback = parts.review(groups)
        record.reviewed(feedback)
    with record.beat("score"):
        rows = parts.score(step, groups, feedback)
    with record.beat("credit"):
        credit = parts.method.credit(rows, groups, step)
        record.credited(credit)
    with record.beat("pack"):
        terms = parts.method.terms_at(step)
        batches = parts.learner.pack(credit.samples, terms, step)
    for _ in range(parts.config.learner.updates):
        with record.beat("loss"):
            losses = parts.learner.accumulate(batches, terms, step, parts.dense_teacher)
        with record.beat("step"):
            record.updated(losses, parts.learner.update())
    with record.beat("publish"):
        parts.publish(step + 1)
