"""What one run of a comparison came to, read from what the run stored."""

from __future__ import annotations

from pathlib import Path

from agentdistill.store import Run
from agentdistill.train.compare.protocol import Protocol
from agentdistill.train.stats import Interval, area, bootstrap, first_reach, pass_at, wilson
from agentdistill.types import Record, Status


class Outcome(Record):
    """Success is on held-out tasks; tokens are training tokens."""

    tokens: int
    """At the end; a little over the budget, since runs end with a step."""
    steps: int
    complete: bool
    """The budget was reached. ``False``: the run came to the most steps first."""
    curve: list[tuple[int, float, float]]
    """(tokens, greedy success, sampled success) of each measurement, the first before training."""
    greedy: float
    """At the end, one play a task."""
    greedy_interval: Interval
    """95 %, Wilson over tasks."""
    sampled: float
    """At the end, at temperature 1, the mean over tasks of each task's share."""
    sampled_interval: Interval
    """95 %, bootstrap over tasks."""
    pass_at: dict[int, float]
    """pass@k for k = 1, 2, 4 …, the mean over tasks."""
    reach: float | None
    """Tokens at which sampled success first was at the target; ``None``: not within the budget, a censored observation."""
    area: float
    """Mean of sampled success from 0 to the budget."""
    by_task: dict[str, tuple[int, int, int, int]]
    """Task -> right greedy plays, greedy plays, right sampled plays, sampled plays. Plays that an environment spoilt are not in it."""
    unjudged: int
    """Plays of the final measurement that an environment spoilt."""
    student_tokens: int
    teacher_tokens: int
    wall_s: float
    cpu_s: float


def read_outcome(folder: Path, name: str, protocol: Protocol, *, tuning: bool = False) -> Outcome | None:
    """``None``: the run has not ended, or not one of its plays could be judged.

    Raises:
        StoreError: a file of the run is damaged.
    """
    if not (folder / name / "summary.json").is_file():
        return None
    with Run.open(folder, name, readonly=True) as run:
        summary, rows = run.summary() or {}, run.metrics()
        last = int(summary["steps"])
        greedy, unjudged = _verdicts(run, "after-greedy", last)
        sampled, more = _verdicts(run, "after-sampled", last)
    if not greedy or not sampled:
        return None
    spent = {0: 0} | {int(row["step"]) + 1: int(row["tokens/training/total"]) for row in rows if row["kind"] == "train"}
    curve = [
        (spent[int(row["step"])], float(row["eval/success/greedy"]), float(row["eval/success/sampled"]))
        for row in rows
        if row["kind"] == "eval" and "eval/success/sampled" in row
    ]
    budget = protocol.tokens(tuning=tuning)
    points = [(float(tokens), success) for tokens, _, success in curve]
    reach = first_reach(points, protocol.target)
    shares = [sum(verdicts) / len(verdicts) for verdicts in sampled.values()]
    right, plays = sum(map(sum, greedy.values())), sum(map(len, greedy.values()))
    return Outcome(
        tokens=int(summary["training_tokens"]),
        steps=last,
        complete=summary["stopped_by"] == "budget",
        curve=curve,
        greedy=right / plays,
        greedy_interval=wilson(right, plays),
        sampled=sum(shares) / len(shares),
        sampled_interval=bootstrap(shares),
        pass_at=_pass_at([*sampled.values()]),
        reach=reach if reach is not None and reach <= budget else None,
        area=area(points, budget),
        by_task={
            task: (sum(greedy.get(task, ())), len(greedy.get(task, ())), sum(sampled.get(task, ())), len(sampled.get(task, ())))
            for task in {**greedy, **sampled}
        },
        unjudged=unjudged + more,
        student_tokens=int(summary["student_tokens"]),
        teacher_tokens=int(summary["teacher_tokens"]),
        wall_s=float(summary["wall_s"]),
        cpu_s=float(summary["cpu_s"]),
    )


def _verdicts(run: Run, kind: str, step: int) -> tuple[dict[str, list[bool]], int]:
    """Task -> whether each play succeeded; and how many plays could not be judged."""
    found: dict[str, list[bool]] = {}
    unjudged = 0
    for head in run.episodes.heads(kind=kind, step=step):
        if Status(head["status"]).trainable:
            found.setdefault(head["task"], []).append(bool(head["success"]))
        else:
            unjudged += 1
    return found, unjudged


def _pass_at(verdicts: list[list[bool]]) -> dict[int, float]:
    found, k = {}, 1
    while k <= min(map(len, verdicts)):
        found[k] = sum(pass_at(len(each), sum(each), k) for each in verdicts) / len(verdicts)
        k *= 2
    return found
