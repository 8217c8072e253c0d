"""``agentdistill export``: a run's checkpoint, or any model, in Hugging Face form."""

from __future__ import annotations

import argparse
from pathlib import Path

from agentdistill.config import compose_eval
from agentdistill.config.compose import COMMAND_LINE
from agentdistill.config.schema import EvaluateConfig
from agentdistill.errors import EXIT_OK, ConfigError, UsageError, unknown

KEYS = ("run", "runs_dir", "student", "env")


def run(arguments: argparse.Namespace) -> int:
    composed = compose_eval(arguments.overrides)
    config = composed.config
    told = [key for key, origin in composed.origins.items() if origin == COMMAND_LINE]
    for key in told:
        if key.split(".")[0] not in KEYS:
            raise ConfigError(unknown("key of an export", key, KEYS))
        if config.run is not None and key.split(".")[0] in ("student", "env"):
            raise ConfigError(f"run={config.run} is exported with its own {key.split('.')[0]}; leave out either run= or {key}=")
    to = None if arguments.to is None else Path(arguments.to).expanduser().absolute()
    if config.run is not None:
        from agentdistill.store import Run
        from agentdistill.train.export import export_run

        with Run.open(config.runs_dir, config.run, readonly=True) as opened:
            found = export_run(opened, to, what=arguments.what, step=arguments.step, force=arguments.force)
    else:
        found = _model(arguments, to, told, config)
    print(f"exported to {found}")
    return EXIT_OK


def _model(arguments: argparse.Namespace, to: Path | None, told: list[str], config: EvaluateConfig) -> Path:
    if not any(key.split(".")[0] == "student" for key in told):
        raise UsageError("what is to be exported? name a run with run=NAME, or a model with student.path=PATH")
    for option, value in (("--step", arguments.step), ("--what", arguments.what)):
        if value not in (None, "student"):
            raise UsageError(f"{option} is about a run's checkpoint; leave it out for student.path={config.student.path}, or add run=NAME")
    if to is None:
        raise UsageError(f"where is {config.student.path!r} to be exported? add --to DIR")
    from agentdistill.train.export import export_model

    return export_model(config, to, force=arguments.force)
