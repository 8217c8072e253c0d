from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from agentdistill.clock import ManualClock
from agentdistill.errors import StoreError, UsageError
from agentdistill.store import Run, list_runs
from agentdistill.store.plain import plain_json
from tests.store.examples import an_episode

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


# ---- making and finding ----------------------------------------------------------------------------------------------


def test_a_new_run_is_a_folder_with_config_store_and_room_for_checkpoints(runs: Path) -> None:
    with Run.create(runs, "first", config="env: math\n", clock=ManualClock()) as run:
        run.episodes.append_episodes([an_episode()], step=0, kind="train")
        assert run.name == "first"
    assert list_runs(runs) == ["first"]
    with Run.open(runs, "first", readonly=True) as run:
        assert run.config == "env: math\n"
        assert run.episodes.count() == 1
        assert run.checkpoints.is_dir()
        assert (run.metrics(), run.perf(), run.summary()) == ([], [], None)


def test_a_taken_name_is_refused_and_says_how_to_go_on(runs: Path) -> None:
    Run.create(runs, "first").close()
    with pytest.raises(UsageError, match=r"run 'first' exists already in .*runs; continue it with resume=true, or .* run=NAME"):
        Run.create(runs, "first")


def test_runs_without_a_name_are_numbered(runs: Path) -> None:
    names = []
    for stem in ("math-opd-0", "math-opd-0", "math-opd-0", "../odd name!", "???"):
        with Run.create(runs, stem=stem) as run:
            names.append(run.name)
    assert names == ["math-opd-0", "math-opd-0-2", "math-opd-0-3", "odd-name", "run"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "-flag", "a b", "x" * 101, "new\nline", ".hidden", "a\\b"])
def test_a_name_that_could_leave_the_folder_is_refused(runs: Path, name: str) -> None:
    for attempt in (Run.create, Run.open):
        with pytest.raises(UsageError, match="cannot name a run"):
            attempt(runs, name)
    assert not runs.exists()


def test_an_unknown_run_gets_the_right_one_suggested(runs: Path) -> None:
    Run.create(runs, "first").close()
    with pytest.raises(UsageError, match=r"no run 'frist'; available: first; did you mean 'first'\? \(in .*runs\)"):
        Run.open(runs, "frist")
    with pytest.raises(UsageError, match=r"which run.*first"):
        Run.open(runs, None)
    assert list_runs(runs / "none") == []


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make a run in"):
        Run.create(tmp_path / "file" / "runs", "first")


# ---- one writer ------------------------------------------------------------------------------------------------------


def test_two_trainers_never_write_one_run(runs: Path) -> None:
    with Run.create(runs, "first"):
        with pytest.raises(UsageError, match=f"run 'first' is being written by process {os.getpid()}"):
            Run.open(runs, "first")
        Run.open(runs, "first", readonly=True).close()
    Run.open(runs, "first").close()


def test_a_reader_cannot_write_a_line(runs: Path) -> None:
    Run.create(runs, "first").close()
    with Run.open(runs, "first", readonly=True) as run, pytest.raises(StoreError, match=r"open for reading only; metrics.jsonl"):
        run.append_metrics(0, {})


HOLDER = """
import os, sys, time
from pathlib import Path
from agentdistill.store import Run
run = Run.open(Path(sys.argv[1]), "first")
if os.fork() == 0:
    print(os.getpid(), flush=True)  # the child speaks, so that it has run when the parent is killed
time.sleep(60)
"""


@pytest.mark.ci
def test_the_lock_dies_with_its_process_although_a_forked_child_lives_on(runs: Path) -> None:
    Run.create(runs, "first").close()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(runs)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(UsageError, match=f"written by process {holder.pid}"):
            Run.open(runs, "first")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)
        Run.open(runs, "first").close()
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


# ---- figures ---------------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


def test_figures_come_back_as_plain_json(runs: Path) -> None:
    with Run.create(runs, "first") as run:
        run.append_metrics(0, {"loss": np.float32(0.5), "nan": float("nan"), "list": np.array([1.0, np.inf]), "path": Path("a/b")})
        run.append_metrics(0, {"success": 0.25}, kind="eval")
        run.append_perf(0, {"speed": 10.0})
        line = (run.path / "metrics.jsonl").read_text().split("\n")[0]
        assert json.loads(line, parse_constant=pytest.fail) == {
            "step": 0,
            "kind": "train",
            "loss": 0.5,
            "nan": None,
            "list": [1.0, None],
            "path": "a/b",
        }
        assert [row["kind"] for row in run.metrics()] == ["train", "eval"]
        assert run.perf() == [{"step": 0, "kind": "train", "speed": 10.0}]


def test_what_has_no_json_form_is_refused() -> None:
    assert plain_json({"c": Colour.RED, 1: (np.bool_(True),)}) == {"c": "red", "1": [True]}
    with pytest.raises(TypeError, match="a set has no JSON form"):
        plain_json({"x": {1}})


@pytest.mark.parametrize("torn", ['{"step": 2, "lo', '{"step": 2', "{", '{"step": 2, "kind": "train"'])
def test_a_torn_last_line_is_not_counted_and_does_not_spoil_the_next(runs: Path, torn: str) -> None:
    with Run.create(runs, "first") as run:
        run.append_metrics(0, {"loss": 1.0})
        run.append_metrics(1, {"loss": 0.5})
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write(torn)
        assert [row["step"] for row in run.metrics()] == [0, 1]
    with Run.open(runs, "first") as run:
        run.append_metrics(2, {"loss": 0.25})
        assert [row["loss"] for row in run.metrics()] == [1.0, 0.5, 0.25]


def test_a_last_line_that_lacks_only_its_newline_is_kept(runs: Path) -> None:
    with Run.create(runs, "first") as run:
        (run.path / "metrics.jsonl").write_text('{"step": 0}')
        assert run.metrics() == [{"step": 0}]
    with Run.open(runs, "first") as run:
        run.append_metrics(1, {})
        assert [row["step"] for row in run.metrics()] == [0, 1]


@pytest.mark.parametrize("bad", ["{nonsense", "[1]", ""])
def test_damage_before_the_last_line_names_file_and_line(runs: Path, bad: str) -> None:
    with Run.create(runs, "first") as run:
        (run.path / "metrics.jsonl").write_text(f'{{"step": 0}}\n{bad}\n{{"step": 2}}\n')
        with pytest.raises(StoreError, match=r"metrics\.jsonl, line 2 is damaged"):
            run.metrics()


def test_discarding_brings_back_the_moment_of_the_checkpoint(runs: Path) -> None:
    with Run.create(runs, "first") as run:
        for step in range(4):
            run.append_metrics(step, {"success": step}, kind="eval")
            run.append_metrics(step, {"loss": step})
            run.append_perf(step, {"seconds": step})
            run.episodes.append_episodes([an_episode(f"e{step}")], step=step, kind="train")
        run.discard_after(2)
        assert [(row["step"], row["kind"]) for row in run.metrics()] == [(0, "eval"), (0, "train"), (1, "eval"), (1, "train"), (2, "eval")]
        assert [row["step"] for row in run.perf()] == [0, 1]
        assert [head["id"] for head in run.episodes.heads()] == ["e0", "e1"]
        run.write_summary({"success_after": 0.5})
        run.discard_after(-1)
        assert (run.metrics(), run.perf(), run.episodes.count(), run.summary()) == ([], [], 0, None)


def test_the_summary_is_replaced_whole_and_read_back(runs: Path) -> None:
    with Run.create(runs, "first") as run:
        run.write_summary({"success_after": float("nan"), "steps": np.int64(3)})
        run.write_summary({"success_after": 0.5, "steps": np.int64(3)})
        assert run.summary() == {"success_after": 0.5, "steps": 3}
        assert not list(run.path.glob("*.tmp"))
        run.write_config("env: code\n")
        assert run.config == "env: code\n"
        for damage in ("{", "[]"):
            (run.path / "summary.json").write_text(damage)
            with pytest.raises(StoreError, match=r"summary\.json is damaged"):
                run.summary()


def test_opening_to_write_removes_what_a_crash_left(runs: Path) -> None:
    with Run.create(runs, "first") as run:
        leftovers = [run.path / "summary.json.tmp", run.checkpoints / "30.tmp"]
        leftovers[0].write_text("half")
        leftovers[1].mkdir()
        (run.path / "episodes.sqlite").unlink()
    with Run.open(runs, "first") as run:
        assert not any(path.exists() for path in leftovers)
        assert run.episodes.count() == 0


def test_a_run_that_cannot_be_repaired_is_not_left_locked(runs: Path) -> None:
    with Run.create(runs, "first") as run:
        metrics = run.path / "metrics.jsonl"
        metrics.write_text('broken\n{"step": 1}')
    with pytest.raises(StoreError, match="line 1 is damaged"):
        Run.open(runs, "first")
    metrics.unlink()
    Run.open(runs, "first").close()
