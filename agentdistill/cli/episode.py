"""``agentdistill episode``: what was played in a run, as text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentdistill.errors import EXIT_OK, ConfigError, UsageError, unknown
from agentdistill.store import Run, list_runs, transcript
from agentdistill.store.plain import plain_json
from agentdistill.store.transcript import visible
from agentdistill.types import Status


def run(arguments: argparse.Namespace) -> int:
    words = _words(arguments.filters, ("run", "runs_dir", *(FILTERS if arguments.action == "list" else ())))
    runs_dir = Path(words.pop("runs_dir", arguments.runs_dir))
    name = words.pop("run", arguments.run)
    with Run.open(runs_dir, _newest(runs_dir) if name is None else name, readonly=True) as opened:
        return _show(opened, arguments) if arguments.action == "show" else _list(opened, arguments.json, words)


def _words(given: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """``key=value`` words as a mapping."""
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or name not in known:
            raise ConfigError(f"no filter {each!r}; valid are {', '.join(f'{key}=' for key in known)}")
        found[name] = value
    return found


def _newest(runs_dir: Path) -> str:
    """The run that was begun, or resumed, last."""
    runs = list_runs(runs_dir)
    if not runs:
        raise UsageError(f"there is no run in {runs_dir}; name another folder with --runs-dir")
    configs = {name: runs_dir / name / "config.yaml" for name in runs}  # written whenever a run is begun or resumed
    return max(runs, key=lambda name: configs[name].stat().st_mtime_ns if configs[name].is_file() else 0)


def _show(opened: Run, arguments: argparse.Namespace) -> int:
    """With ``--json`` the ATIF document, which other tools read: strict JSON, numbers that are not finite listed apart."""
    if arguments.json:
        print(json.dumps(opened.episodes.document(arguments.id), indent=2, allow_nan=False))
    else:
        print(transcript(opened.episodes.episode(arguments.id)))
    return EXIT_OK


FILTERS = ("kind", "status", "success", "step", "limit")


def _list(opened: Run, as_json: bool, wanted: Mapping[str, str]) -> int:
    if "status" in wanted and wanted["status"] not in {status.value for status in Status}:
        raise UsageError(unknown("status", wanted["status"], [status.value for status in Status]))
    heads = opened.episodes.heads(
        kind=wanted.get("kind"),
        status=wanted.get("status"),
        success=_boolean(wanted["success"]) if "success" in wanted else None,
        step=_whole("step", wanted["step"]) if "step" in wanted else None,
        limit=_whole("limit", wanted.get("limit", "20")),
        descending=True,
    )
    if not heads and wanted:
        kinds = sorted({head["kind"] for head in opened.episodes.heads()})
        print(f"no episode of run {opened.name!r} is like that; its kinds are {', '.join(kinds) or 'none yet'}", file=sys.stderr)
    if as_json:
        print(json.dumps(plain_json(heads), indent=2, allow_nan=False))
        return EXIT_OK
    for head in heads:
        reward = "–" if head["reward"] is None else f"{head['reward']:.2f}"
        line = f"{head['id']:<28} {head['kind']:<15} step {head['step']:<5} {head['status']:<13} reward {reward:<6} {head['task']}"
        print(visible(line))
    return EXIT_OK


def _boolean(value: str) -> bool:
    if value not in ("true", "false"):
        raise UsageError(f"success={value!r} is neither true nor false")
    return value == "true"


def _whole(name: str, value: str) -> int:
    if not value.isdecimal() or len(value) > 18:  # SQLite counts to 9.2e18
        raise UsageError(f"{name}={value!r} is not a whole number{' that a run can reach' if value.isdecimal() else ''}")
    return int(value)
