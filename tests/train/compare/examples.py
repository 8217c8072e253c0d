"""Runs that nobody trained: what a training run leaves behind, with figures of our choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agentdistill.store import Run
from agentdistill.types import Status
from tests.store.examples import an_episode


def a_run(
    folder: Path,
    name: str,
    curve: Sequence[tuple[int, float, float]],
    verdicts: Mapping[str, tuple[bool | None, Sequence[bool]]],
    *,
    stopped_by: str = "budget",
    teacher_tokens: int = 1000,
) -> None:
    """One training step for each point of ``curve`` (tokens, greedy, sampled) but the first; ``verdicts``: task -> greedy, sampled plays.

    A greedy verdict of ``None`` is a play that the environment spoilt.
    """
    steps = len(curve) - 1
    with Run.create(folder, name, config="env: math\n") as run:
        for step, (tokens, greedy, sampled) in enumerate(curve):
            if step:
                run.append_metrics(step - 1, {"tokens/training/total": float(tokens)})
            run.append_metrics(step, {"eval/success/greedy": greedy, "eval/success/sampled": sampled}, kind="eval")
        for number, (task, (greedy, sampled)) in enumerate(verdicts.items()):
            status = Status.ENV_ERROR if greedy is None else Status.OK
            first = an_episode(f"after-greedy-{steps}-{number}-0", group=f"g{number}", task=task, success=greedy, status=status)
            run.episodes.append_episodes([first], step=steps, kind="after-greedy")
            plays = [an_episode(f"after-sampled-{steps}-{number}-{i}", task=task, success=right) for i, right in enumerate(sampled)]
            run.episodes.append_episodes(plays, step=steps, kind="after-sampled")
        tokens = curve[-1][0]
        run.write_summary(
            {
                "steps": steps,
                "training_tokens": tokens,
                "student_tokens": tokens,
                "teacher_tokens": teacher_tokens,
                "stopped_by": stopped_by,
                "wall_s": 60.0,
                "cpu_s": 50.0,
            }
        )
