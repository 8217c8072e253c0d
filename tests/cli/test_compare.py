"""``agentdistill compare``: the plan, real runs, and going on after every kind of end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentdistill.clock import SystemClock
from agentdistill.store import RunLock, list_checkpoints
from agentdistill.train.compare.campaign import Campaign
from agentdistill.train.compare.words import read

from .conftest import Command

SMALL = ("rollout.batch=4", "tasks=2", "plays=1", "samples=2", "checkpoint_every=1", "lr=1e-3", "seeds=1", "env=math34")


def words(runs: Path, *more: str) -> list[str]:
    return ["compare", "name=c", f"runs_dir={runs}", *SMALL, *more]


def test_a_dry_run_says_how_many_runs_and_tokens_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    code, out, _ = command(*words(tmp_path, "--dry-run", "method=opd,sft_64", "lr.opd=1e-3,2e-3", "seeds=2", "budget=1000"))
    assert code == 0
    assert "2 arms, 6 runs, 6,000 training tokens" in out
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["opd"] == "lr 0.001, 0.002: 2 tuning runs of 1,000, 2 reported of 1,000 training tokens"
    assert lines["sft_64"] == "lr 0.001: nothing to tune, 2 reported of 1,000 training tokens"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("method=opd,opdd",), "did you mean 'opd'"),
        (("seeds=0",), "seeds=0"),
        (("lr=",), "positive numbers"),
        (("tuning_split=nowhere", "lr=1e-3,2e-3"), "nowhere"),
        (("learner.lr=1,2",), "it is tuned for each arm"),
    ],
)
def test_a_mistake_is_told_before_anything_begins(command: Command, tmp_path: Path, more: tuple[str, ...], sentence: str) -> None:
    for extra in ((), ("--dry-run",)):
        code, out, err = command(*words(tmp_path, *more, *extra))
        assert (code, out) == (2, "")
        assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_shown_is_told(command: Command, tmp_path: Path) -> None:
    assert "no comparison 'c'" in command("compare", "show", "c", f"runs_dir={tmp_path}").err
    code, _, err = command("compare", "show", "c", "seeds=3")
    assert (code, "takes NAME and runs_dir=DIR, not seeds=" in err) == (2, True)


def test_nobody_writes_a_comparison_that_somebody_writes(command: Command, tmp_path: Path) -> None:
    comparison, _ = read(words(tmp_path)[1:])
    comparison.hold()
    lock = RunLock(comparison.path / "lock")
    try:
        code, _, err = command(*words(tmp_path))
    finally:
        lock.release()
    assert (code, "is being written by process" in err) == (2, True)
    code, _, err = command(*words(tmp_path, "budget=7"))
    assert (code, "protocol.budget was 400000, not 7" in err) == (2, True)


def test_failures_have_their_exit_code_and_a_signal_its_own(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Campaign) -> None:
        self.state.failures["opd-math34-lr0.001-seed0"] = "the teacher has left (exit code 4)"
        self.state.write()

    def signalled(self: Campaign) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Campaign, "run", failing)
    done = command(*words(tmp_path))
    assert done.code == 1
    assert "failed: opd-math34-lr0.001-seed0: the teacher has left (exit code 4)" in done.out
    monkeypatch.setattr(Campaign, "run", signalled)
    assert command(*words(tmp_path)).code == 143
    (tmp_path / "c" / "report.md").unlink()
    shown = command("compare", "show", "c", f"runs_dir={tmp_path}")
    assert shown.code == 0
    assert (tmp_path / "c" / "report.md").is_file()
    assert "failed: opd-math34-lr0.001-seed0" in shown.out


# --------------------------------------------------------------------------------------------------------------------


def metrics(folder: Path) -> str:
    return (folder / "metrics.jsonl").read_text()


@pytest.mark.ci
def test_a_comparison_tunes_and_reports_and_is_only_shown_the_second_time(command: Command, tmp_path: Path) -> None:
    argv = words(tmp_path, "method=opd,grpo", "lr.opd=1e-3,2e-3", "budget=120", "rollout.batch=8", "jobs=2")
    code, out, _ = command(*argv)
    assert code == 0
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert [arm["done"] for arm in results["arms"]] == [1, 1]
    for arm in results["arms"]:
        outcome = arm["runs"][0]["outcome"]
        assert outcome["tokens"] >= 120
        assert outcome["complete"]
        assert outcome["curve"][0][0] == 0
        assert outcome["curve"][-1][0] == outcome["tokens"]
    tuned = [json.loads(line) for line in (tmp_path / "c" / "tuning.jsonl").read_text().splitlines()]
    assert [(line["arm"], line["lr"], line["state"]) for line in tuned] == [("opd", 1e-3, "done"), ("opd", 2e-3, "done")]
    assert {"report.md", "plot.svg"} <= {path.name for path in (tmp_path / "c").iterdir()}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("c/*/summary.json")}
    code, again, _ = command(*argv)
    assert code == 0
    assert "begins" not in again
    assert again.splitlines()[0].startswith("| arm")
    assert again in out, "the same table and the same last words"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("c/*/summary.json")} == before
    assert command("compare", "show", "c", f"runs_dir={tmp_path}").out == again


def started(argv: Sequence[str]) -> subprocess.Popen[str]:
    environment: dict[str, Any] = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "agentdistill", *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_until(true: Any, seconds: float = 60.0) -> None:
    clock = SystemClock()
    end = clock.now() + seconds
    while not true():
        assert clock.now() < end, "it did not happen in time"
        clock.sleep(0.05)


def is_free(run: Path) -> bool:
    try:
        RunLock(run / "lock").release()
    except ValueError:
        return False
    return True


@pytest.mark.ci
def test_after_it_was_killed_it_goes_on_to_the_same_figures(command: Command, tmp_path: Path) -> None:
    argv = words(tmp_path, "budget=2000", "every=1000")
    run = tmp_path / "c" / "opd-math34-lr0.001-seed0"
    process = started(argv)
    wait_until(lambda: any(step >= 2 for step in list_checkpoints(run / "checkpoints")))
    process.kill()
    process.communicate()
    wait_until(lambda: is_free(run))  # the child saw that nobody holds the other end
    assert not (run / "summary.json").exists()
    stopped_at = list_checkpoints(run / "checkpoints")[-1]
    code, out, _ = command(*argv)
    assert code == 0
    assert "opd-math34, lr 0.001, seed 0: goes on" in out
    assert f"resumed after step {stopped_at}" in (tmp_path / "c" / "logs" / f"{run.name}.log").read_text()
    comparison, _ = read(argv[1:])
    (job,) = comparison.reported(comparison.arms[0], 1e-3)
    assert command("train", f"runs_dir={tmp_path}", "run=whole", *job.overrides(comparison.protocol)).code == 0
    assert metrics(run) == metrics(tmp_path / "whole")


@pytest.mark.ci
def test_a_signal_stops_it_with_a_checkpoint_of_every_run_and_a_run_that_fails_is_named(command: Command, tmp_path: Path) -> None:
    argv = words(tmp_path, "budget=100000")
    run = tmp_path / "c" / "opd-math34-lr0.001-seed0"
    process = started(argv)
    wait_until(lambda: any(step >= 1 for step in list_checkpoints(run / "checkpoints")))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in out + err
    assert "stopped, goes on another time" in out
    assert "runs still missing: 1;" in out
    assert is_free(run)
    for checkpoint in (run / "checkpoints").glob("*/model.safetensors"):
        checkpoint.write_bytes(b"damaged")
    code, out, _ = command(*argv)
    assert code == 1
    assert "(exit code 7)" in out
