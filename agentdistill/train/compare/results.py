"""From the runs of a comparison to ``results.json``: every figure that the report shows, and those that it is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agentdistill.store import replace_text
from agentdistill.train.compare.campaign import State, score
from agentdistill.train.compare.outcome import Outcome, read_outcome
from agentdistill.train.compare.plot import plot
from agentdistill.train.compare.protocol import Arm, Comparison, Job, Protocol
from agentdistill.train.compare.table import report
from agentdistill.train.stats import Interval, bootstrap, censored_median, t_interval
from agentdistill.types import Record


class RunResult(Record):
    """One run that was wanted."""

    run: str
    seed: int
    lr: float
    state: str
    """``done``, ``failed`` or ``missing``."""
    why: str = ""
    """Of a failed one."""
    score: float | None = None
    """Of a tuning run that is done, by the criterion."""
    outcome: Outcome | None = None
    """``None``: it is not done."""


class ArmResult(Record):
    """One arm. Means and medians are over the reported runs that are done; ``None``: there are none."""

    name: str
    lr: float | None
    """``None``: not chosen yet, or no tuning run ended."""
    lr_at_edge: bool
    """The chosen rate is the lowest or highest of a grid of several, so a better one may lie outside."""
    grid: list[float]
    tuning: list[RunResult]
    runs: list[RunResult]
    done: int
    sampled: float | None
    sampled_over_seeds: Interval | None
    """95 %, Student's t over runs; ``None``: fewer than two."""
    sampled_over_tasks: Interval | None
    """95 %, bootstrap over tasks, each with its share over all plays of all runs."""
    greedy: float | None
    greedy_over_seeds: Interval | None
    greedy_over_tasks: Interval | None
    pass_at: dict[int, float]
    reach_median: float | None
    """Tokens to the target, the median over runs with the censored ones above all others; ``None``: censored, or no run is done."""
    reached: int
    """Runs that reached it."""
    student_tokens: float | None
    """Means over runs."""
    teacher_tokens: float | None
    wall_s: float | None
    cpu_s: float | None
    settings: dict[str, Any]


class Results(Record):
    """A comparison as far as it has come."""

    name: str
    protocol: Protocol
    arms: list[ArmResult]

    @property
    def missing(self) -> int:
        """Runs that are still to be made, as far as that is known."""
        return sum(run.state == "missing" for arm in self.arms for run in (*(arm.tuning if arm.lr is None else ()), *arm.runs))

    @property
    def failed(self) -> int:
        return sum(run.state == "failed" for arm in self.arms for run in (*arm.tuning, *arm.runs))


def results(comparison: Comparison) -> Results:
    """Read every run that is there.

    Raises:
        StoreError: a run's files are damaged.
    """
    state = State.read(comparison.path)
    arms = [_arm(comparison, arm, state) for arm in comparison.arms]
    return Results(name=comparison.path.name, protocol=comparison.protocol, arms=arms)


def write(comparison: Comparison) -> Results:
    """``results.json``, ``tuning.jsonl``, ``report.md`` and ``plot.svg`` of what is there."""
    found = results(comparison)
    replace_text(comparison.path / "results.json", found.model_dump_json(indent=1) + "\n")
    lines = [
        {"arm": arm.name, "lr": each.lr, "seed": each.seed, "state": each.state, "score": each.score, "chosen": each.lr == arm.lr}
        | ({"why": each.why} if each.why else {})
        | ({"sampled": each.outcome.sampled, "area": each.outcome.area, "tokens": each.outcome.tokens} if each.outcome else {})
        for arm in found.arms
        for each in arm.tuning
    ]
    replace_text(comparison.path / "tuning.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    replace_text(comparison.path / "report.md", report(found))
    replace_text(comparison.path / "plot.svg", plot(found))
    return found


# --------------------------------------------------------------------------------------------------------------------


def _arm(comparison: Comparison, arm: Arm, state: State) -> ArmResult:
    rate = state.chosen.get(arm.name)
    if rate is None and len(arm.rates) == 1:
        rate = arm.rates[0]
    tuning = [_run(comparison, job, state) for job in comparison.tuning(arm)]
    runs = [_run(comparison, job, state) for job in comparison.reported(arm, rate)] if rate is not None else []
    if rate is None:  # they are wanted all the same
        runs = [RunResult(run="", seed=seed, lr=0.0, state="missing") for seed in range(comparison.protocol.seeds)]
    done = [run.outcome for run in runs if run.outcome is not None]
    return ArmResult(
        name=arm.name,
        lr=rate,
        lr_at_edge=len(arm.rates) > 1 and rate in (min(arm.rates), max(arm.rates)),
        grid=list(arm.rates),
        tuning=tuning,
        runs=runs,
        done=len(done),
        sampled=_mean([each.sampled for each in done]),
        sampled_over_seeds=t_interval([each.sampled for each in done]),
        sampled_over_tasks=_over_tasks([{task: counts[2:] for task, counts in each.by_task.items()} for each in done]),
        greedy=_mean([each.greedy for each in done]),
        greedy_over_seeds=t_interval([each.greedy for each in done]),
        greedy_over_tasks=_over_tasks([{task: counts[:2] for task, counts in each.by_task.items()} for each in done]),
        pass_at={k: sum(each.pass_at[k] for each in done) / len(done) for k in _common_k(done)},
        reach_median=censored_median([each.reach for each in done]) if done else None,
        reached=sum(each.reach is not None for each in done),
        student_tokens=_mean([each.student_tokens for each in done]),
        teacher_tokens=_mean([each.teacher_tokens for each in done]),
        wall_s=_mean([each.wall_s for each in done]),
        cpu_s=_mean([each.cpu_s for each in done]),
        settings=arm.resolved,
    )


def _run(comparison: Comparison, job: Job, state: State) -> RunResult:
    outcome = read_outcome(comparison.path, job.name, comparison.protocol, tuning=job.tuning)
    unjudged = "not one held-out play could be judged" if (comparison.path / job.name / "summary.json").is_file() else ""
    why = "" if outcome else state.failures.get(job.name, unjudged)
    return RunResult(
        run=job.name,
        seed=job.seed,
        lr=job.rate,
        state="done" if outcome else "failed" if why else "missing",
        why=why,
        score=score(outcome, comparison) if outcome and job.tuning else None,
        outcome=outcome,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _over_tasks(runs: Sequence[dict[str, Any]]) -> Interval | None:
    """Bootstrap over tasks of each task's share over all runs."""
    right: dict[str, int] = {}
    plays: dict[str, int] = {}
    for run in runs:
        for task, (good, count) in run.items():
            right[task] = right.get(task, 0) + good
            plays[task] = plays.get(task, 0) + count
    shares = [right[task] / count for task, count in plays.items() if count]
    return bootstrap(shares) if shares else None


def _common_k(done: Sequence[Outcome]) -> list[int]:
    return [k for k in done[0].pass_at if all(k in each.pass_at for each in done)] if done else []
