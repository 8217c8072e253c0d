"""``agentdistill compare``: methods side by side under one stated protocol; ``compare show NAME`` prints what came out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from agentdistill.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from agentdistill.train.compare.protocol import Comparison
    from agentdistill.train.compare.results import Results

EXIT_SOME_FAILED = 1
STOPPING = b"agentdistill: stopping as soon as the steps under way are done; the same command goes on\n"


def run(arguments: argparse.Namespace) -> int:
    words = list(arguments.overrides)
    if words[:1] == ["show"]:
        return _show(words[1:])
    from agentdistill.train.compare.words import read

    comparison, jobs = read(words)
    if arguments.dry_run:
        return _dry_run(comparison)
    return _campaign(comparison, jobs)


def _show(words: Sequence[str]) -> int:
    """Trains nothing; the report and the chart are written again from the runs that are there, also while others are under way."""
    from agentdistill.train.compare.protocol import load
    from agentdistill.train.compare.results import write
    from agentdistill.train.compare.table import table

    given = dict(word.partition("=")[::2] if "=" in word else ("name", word) for word in words)
    if strange := sorted(given.keys() - {"name", "runs_dir"}):
        raise ConfigError(f"compare show takes NAME and runs_dir=DIR, not {strange[0]}=")
    comparison = load(Path(given.get("runs_dir", "runs")) / given.get("name", "compare"))
    found = write(comparison)
    print(table(found))
    print(_closing(found, comparison.path))
    return EXIT_OK


def _dry_run(comparison: Comparison) -> int:
    """The plan, after every arm was checked as `train --dry-run` checks it."""
    _check(comparison)
    protocol, width = comparison.protocol, max(len(arm.name) for arm in comparison.arms)
    for arm in comparison.arms:
        tuning = len(comparison.tuning(arm))
        tuned = f"{tuning} tuning runs of {protocol.tokens(tuning=True):,}" if tuning else "nothing to tune"
        rates = ", ".join(f"{rate:g}" for rate in arm.rates)
        print(f"{arm.name:<{width}}  lr {rates}: {tuned}, {protocol.seeds} reported of {protocol.budget:,} training tokens")
    runs = sum(len(comparison.tuning(arm)) + protocol.seeds for arm in comparison.arms)
    measured = protocol.budget // protocol.interval + 1
    print(f"{len(comparison.arms)} arms, {runs} runs, {comparison.tokens():,} training tokens in {comparison.path}")
    print(
        f"each reported run: about {measured} measurements of {protocol.tasks} tasks x {protocol.plays + 1} plays on {protocol.split!r}, "
        f"and {protocol.samples + 1} plays at the end"
    )
    return EXIT_OK


def _check(comparison: Comparison) -> None:
    """Would the arms' runs start? Both kinds, since they are measured on different splits."""
    from agentdistill.config import compose_train
    from agentdistill.train.preflight import preflight

    for arm in comparison.arms:
        jobs = [*comparison.tuning(arm)[:1], comparison.reported(arm, arm.rates[0])[0]]
        for job in jobs:
            preflight(compose_train(job.overrides(comparison.protocol)).config)


def _campaign(comparison: Comparison, jobs: int) -> int:
    from agentdistill.cli.train import handling
    from agentdistill.store import RunLock
    from agentdistill.train.compare.campaign import Campaign
    from agentdistill.train.compare.results import write
    from agentdistill.train.compare.table import table

    _check(comparison)
    comparison.hold()
    lock = RunLock(comparison.path / "lock")
    try:
        campaign = Campaign(comparison, jobs=jobs, say=lambda text: print(text, flush=True))

        def stop(number: int, frame: FrameType | None) -> None:
            campaign.stop_requested = number
            os.write(2, STOPPING)

        with handling(stop):
            campaign.run()
            found = write(comparison)
    finally:
        lock.release()
    print(table(found))
    print(_closing(found, comparison.path))
    if campaign.stop_requested is not None:
        return 128 + campaign.stop_requested
    return EXIT_SOME_FAILED if found.failed else EXIT_OK


def _closing(found: Results, path: Path) -> str:
    """What there is and what is not."""
    lines = [f"runs still missing: {found.missing}; the same compare command goes on"] if found.missing else []
    for arm in found.arms:
        lines += [f"failed: {run.run}: {run.why}" for run in (*arm.tuning, *arm.runs) if run.state == "failed"]
    return "\n".join([*lines, f"Report: {path / 'report.md'}    Chart: {path / 'plot.svg'}"])
