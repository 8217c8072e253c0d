"""``agentdistill train -m``: one run after the other, each with its own name; what fails stops the rest, with its exit code."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentdistill.errors import TeacherError
from agentdistill.train.parts import Parts
from agentdistill.train.record import Recorder

from .conftest import Command

TINY = ("steps=1", "rollout.batch=4", "eval.tasks=4", "eval.every=0", "eval.progress_tasks=4", "annotate=0")


def summaries(runs: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(runs.glob("*/summary.json"))}


@pytest.mark.ci
def test_a_sweep_trains_every_combination_under_a_name_of_its_own(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("train", "-m", f"runs_dir={tmp_path}", *TINY, "seed=7", "learner.lr=1e-3,1e-4")
    assert code == 0
    found = summaries(tmp_path)
    assert found.keys() == {"math-opd-7", "math-opd-7-2"}
    assert all(summary["steps"] == 1 and summary["success_after"] is not None for summary in found.values())
    headers = [line for line in out.splitlines() if line.startswith("── run ")]
    assert [header.split(":")[0] for header in headers] == ["── run 1 of 2", "── run 2 of 2"]
    assert [header.split()[-1] for header in headers] == ["learner.lr=1e-3", "learner.lr=1e-4"]
    for name, rate in (("math-opd-7", 1e-3), ("math-opd-7-2", 1e-4)):
        assert yaml.safe_load((tmp_path / name / "config.yaml").read_text())["learner"]["lr"] == rate
    assert len(list(tmp_path.glob("*/report.html"))) == 2


@pytest.mark.ci
def test_names_can_be_swept_too_and_a_sweep_can_resume(command: Command, tmp_path: Path) -> None:
    code, _, _ = command("train", "-m", f"runs_dir={tmp_path}", *TINY, "run=first,second")
    assert code == 0
    assert [summary["steps"] for summary in summaries(tmp_path).values()] == [1, 1]
    assert command("train", "-m", f"runs_dir={tmp_path}", "run=second,first", "resume=true", "steps=2").code == 0
    assert {name: summary["steps"] for name, summary in summaries(tmp_path).items()} == {"first": 2, "second": 2}


@pytest.mark.ci
def test_a_job_that_fails_ends_the_sweep_with_its_exit_code(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Parts.review

    def review(self: Parts, groups: Any) -> Any:
        if self.config.seed == 1:
            raise TeacherError("the teacher has left")
        return plain(self, groups)

    monkeypatch.setattr(Parts, "review", review)
    code, out, err = command("train", "-m", f"runs_dir={tmp_path}", *TINY, "seed=0,1,2", "method=opd_sampled")
    assert code == 4
    assert err.splitlines()[-1] == "agentdistill: error: the teacher has left"
    assert summaries(tmp_path).keys() == {"math-opd_sampled-0"}
    assert not (tmp_path / "math-opd_sampled-2").exists()
    assert "run 2 of 3" in out
    assert "run 3 of 3" not in out


@pytest.mark.ci
def test_a_signal_ends_the_whole_sweep(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Parts.publish

    def publish(self: Parts, version: int) -> None:
        plain(self, version)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Parts, "publish", publish)
    code, _, err = command("train", "-m", f"runs_dir={tmp_path}", *TINY, "seed=0,1")
    assert code == 143
    assert f"run=math-opd-0 resume=true runs_dir={tmp_path}" in err
    assert not (tmp_path / "math-opd-1").exists()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("seed=0,one",), "seed"),
        (("method=opd,opdd",), "did you mean 'opd'"),
        (("env.tasks=nano,./nowhere.jsonl",), "nowhere.jsonl"),
        (("run=x", "seed=0,1"), "two runs of the sweep are called 'x'"),
        (("seed=0,",), "seed"),
    ],
)
def test_a_mistake_in_the_last_combination_is_told_before_the_first_begins(
    command: Command, tmp_path: Path, overrides: tuple[str, ...], sentence: str
) -> None:
    code, out, err = command("train", "-m", f"runs_dir={tmp_path / 'runs'}", *TINY, *overrides)
    assert (code, out) == (2, "")
    assert sentence in err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_a_sweep_shows_each_plan(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("train", "-m", f"runs_dir={tmp_path / 'runs'}", "--dry-run", "method=opd,sft")
    assert code == 0
    first, second = out.split("── run 2 of 2: ")
    lines = [next(line.split()[1] for line in plan.splitlines() if line.startswith("method ")) for plan in (first, second)]
    assert lines == ["opd:", "sft:"]
    assert ["none: the method needs none" in plan for plan in (first, second)] == [False, True]
    assert not (tmp_path / "runs").exists()


def test_the_configurations_of_a_sweep_are_told_apart(command: Command) -> None:
    code, out, _ = command("train", "-m", "--print-config", "seed=3,4")
    assert code == 0
    first, second = out.split("── run 2 of 2: seed=4\n")
    assert first.startswith("── run 1 of 2: seed=3\n")
    assert "seed: 3" in first
    assert "seed: 4" in second


@pytest.mark.ci
def test_a_signal_during_the_last_measurements_ends_the_sweep_too(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Recorder.finish

    def finish(self: Recorder) -> Any:
        signal.raise_signal(signal.SIGINT)
        return plain(self)

    monkeypatch.setattr(Recorder, "finish", finish)
    code, _, err = command("train", "-m", f"runs_dir={tmp_path}", *TINY, "seed=0,1")
    assert code == 130
    assert "run math-opd-0 is complete; signal 2 came at its end" in err
    assert summaries(tmp_path).keys() == {"math-opd-0"}
    assert not (tmp_path / "math-opd-1").exists()
