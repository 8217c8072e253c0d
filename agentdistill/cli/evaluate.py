"""``agentdistill eval``: success on held-out tasks, of a run's newest checkpoint or of any student."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from agentdistill.config import Composed, compose_eval, show
from agentdistill.config.compose import COMMAND_LINE
from agentdistill.config.schema import EvaluateConfig
from agentdistill.errors import EXIT_OK, ConfigError


def run(arguments: argparse.Namespace) -> int:
    composed = _compose(arguments.overrides)
    if arguments.print_config:
        print(show(composed), end="")
        return EXIT_OK
    from agentdistill.policy.loading import borrowed_note
    from agentdistill.train.evaluate import evaluate

    if note := borrowed_note(composed.config.env.entry_point, (composed.config.student.path,)):
        print(f"agentdistill: note: {note}", file=sys.stderr, flush=True)

    report = evaluate(composed.config)
    print(json.dumps(report.model_dump(mode="json"), indent=2) if arguments.json else report.text())
    return EXIT_OK


UNUSED = {"rollout.batch": "all tasks are played", "rollout.temperature": "plays are greedy, and at 1", "rollout.top_p": "it is 1"}


def _compose(overrides: list[str]) -> Composed[EvaluateConfig]:
    """With ``run=NAME``, environment, student and rollout settings are the run's own, and other overrides are laid over them."""
    first = compose_eval(overrides)
    told = [key for key, origin in first.origins.items() if origin == COMMAND_LINE]
    for key in told:
        if key in UNUSED:
            raise ConfigError(f"{key} has no effect on an evaluation ({UNUSED[key]}); leave it out")
        if first.config.run is not None and key.split(".")[0] == "student" and key != "student.dtype":
            raise ConfigError(f"run={first.config.run} is measured with its own student; leave out either run= or student=")
    if first.config.run is None:
        return first
    from agentdistill.store import Run

    with Run.open(Path(first.config.runs_dir), first.config.run, readonly=True) as opened:
        return compose_eval(overrides, base=opened.path / "config.yaml")
