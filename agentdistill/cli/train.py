"""``agentdistill train``."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from agentdistill.config import Composed, compose_train, show, sweep
from agentdistill.config.schema import TrainConfig
from agentdistill.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from agentdistill.train.preflight import Plan
    from agentdistill.train.progress import Progress


STOPPING = b"agentdistill: stopping as soon as this step is done; a second signal stops at once\n"


def run(arguments: argparse.Namespace) -> int:
    combinations = sweep(arguments.overrides) if arguments.multirun else [arguments.overrides]
    composed = [compose_train(combination, resume_base=True) for combination in combinations]
    _require_own_names([each.config for each in composed])
    plans = [] if arguments.print_config else _plans(composed)
    for number, combination in enumerate(combinations):
        if arguments.multirun:
            print(f"── run {number + 1} of {len(combinations)}: {' '.join(combination)}", flush=True)
        if arguments.print_config:
            print(show(composed[number]), end="")
        elif arguments.dry_run:
            print(plans[number].text())
        elif (code := _train(composed[number])) != EXIT_OK:
            return code
    return EXIT_OK


def _plans(composed: Sequence[Composed]) -> list[Plan]:
    """What each run would do; all are checked before the first begins, so that a mistake in the last one stops it."""
    from agentdistill.policy.loading import borrowed_note
    from agentdistill.train.preflight import preflight
    from agentdistill.train.resume import require_same_run

    for each in composed:
        if each.config.resume:
            require_same_run(each)
    for note in dict.fromkeys(
        borrowed_note(each.config.env.entry_point, (each.config.student.path, _teacher_path(each.config))) for each in composed
    ):
        if note is not None:
            print(f"agentdistill: note: {note}", file=sys.stderr, flush=True)
    return [preflight(each.config) for each in composed]


def _teacher_path(config: TrainConfig) -> str:
    return str(getattr(config.teacher, "path", ""))


def _require_own_names(configs: Sequence[TrainConfig]) -> None:
    """A sweep whose runs would all be called the same would train the first and refuse the second."""
    seen = set()
    for config in configs:
        if config.run is not None and (config.runs_dir, config.run) in seen:
            raise ConfigError(f"two runs of the sweep are called {config.run!r}; leave run= out, or name each: run=first,second")
        seen.add((config.runs_dir, config.run))


def _train(composed: Composed) -> int:
    from agentdistill.train.loop import Interrupted, train
    from agentdistill.train.progress import progress_for
    from agentdistill.train.session import open_session

    progress = progress_for(sys.stdout)
    with open_session(composed, progress) as (parts, recorder):

        def stop(number: int, frame: FrameType | None) -> None:
            again = recorder.stop_requested is not None
            recorder.stop_requested = number
            if again:
                raise KeyboardInterrupt
            os.write(2, STOPPING)  # not through the panel, whose locks the interrupted code may hold

        try:
            with handling(stop):
                train(parts, recorder)
        except Interrupted as interrupted:
            return _stopped(progress, str(interrupted), interrupted.signal, composed.config, recorder.run.name)
        except KeyboardInterrupt:
            number = recorder.stop_requested or signal.SIGINT
            return _stopped(progress, f"stopped at once by signal {number}", number, composed.config, recorder.run.name)
        finally:
            progress.close()
        if recorder.stop_requested is not None:  # what follows in a sweep must not begin
            print(f"agentdistill: run {recorder.run.name} is complete; signal {recorder.stop_requested} came at its end", file=sys.stderr)
            return 128 + recorder.stop_requested
    return EXIT_OK


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Interrupt and termination go to ``handler`` inside the block, and to whoever had them before behind it."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)


def _stopped(progress: Progress, why: str, number: int, config: TrainConfig, name: str) -> int:
    """Say how to go on; returns the exit code."""
    progress.close()
    words = ["agentdistill", "train", f"run={name}", "resume=true"]
    if config.runs_dir != TrainConfig.model_fields["runs_dir"].default:
        words.append(f"runs_dir={config.runs_dir}")
    print(f"agentdistill: {why}; go on with: {shlex.join(words)}", file=sys.stderr)
    return 128 + number
