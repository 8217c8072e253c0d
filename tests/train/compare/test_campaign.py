"""What is run, in which order, and what becomes of what fails; the training itself is played."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from agentdistill.clock import ManualClock, SystemClock
from agentdistill.train.compare.campaign import Campaign, State, best_rate
from agentdistill.train.compare.jobs import Child, last_words, words_for
from agentdistill.train.compare.results import results, write
from agentdistill.train.compare.words import read

from .examples import a_run


class Trainer:
    """Stands for the processes: each run ends at the second look, as its name says it should."""

    def __init__(self, scores: dict[str, float], fail: dict[str, int] | None = None) -> None:
        self.scores, self.fail = scores, fail or {}
        self.started: list[list[str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.stopped_with = 143

    def __call__(self, words: list[str], log: Path) -> Played:
        self.started.append(words)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        return Played(self, dict(word.split("=", 1) for word in words), log)


class Played:
    def __init__(self, trainer: Trainer, words: dict[str, str], log: Path) -> None:
        self.trainer, self.words, self.log, self.looks, self.stopped = trainer, words, log, 0, False

    def poll(self) -> int | None:
        self.looks += 1
        if self.looks < 2:
            return None
        self.trainer.at_once -= 1
        name, folder = self.words["run"], Path(self.words["runs_dir"])
        if self.stopped:
            (folder / name).mkdir()
            return self.trainer.stopped_with
        if code := self.trainer.fail.get(name):
            self.log.parent.mkdir(exist_ok=True)
            self.log.write_text("step 1/9\nagentdistill: error: the teacher has left\n")
            return code
        end = next(score for part, score in self.trainer.scores.items() if part in name)
        a_run(folder, name, [(0, 0.0, 0.0), (1000, end, end)], {"t": (True, [True, False])})
        return 0

    def stop(self) -> None:
        self.stopped = True


def a_comparison(tmp_path, *words):
    comparison, _ = read([f"runs_dir={tmp_path}", "name=c", "seeds=2", "budget=1000", *words])
    comparison.hold()
    return comparison


def sit(comparison, trainer, *, jobs=1):
    said: list[str] = []
    campaign = Campaign(comparison, jobs=jobs, say=said.append, launch=trainer, clock=ManualClock())
    campaign.run()
    return campaign, said


def names(trainer):
    return [next(word for word in words if word.startswith("run=")).removeprefix("run=") for words in trainer.started]


def test_each_arm_is_tuned_first_and_reported_with_the_rate_that_won(tmp_path):
    comparison = a_comparison(tmp_path, "method=opd,grpo", "lr=1e-3,2e-3", "lr.grpo=5e-4")
    trainer = Trainer({"lr0.001-tuning": 0.4, "lr0.002-tuning": 0.6, "seed": 0.5})
    campaign, said = sit(comparison, trainer)
    assert names(trainer)[:2] == ["opd-lr0.001-tuning", "opd-lr0.002-tuning"]
    assert names(trainer)[2:] == [f"{arm}-seed{seed}" for arm in ("opd-lr0.002", "grpo-lr0.0005") for seed in (0, 1)]
    assert campaign.state.chosen == {"opd": 2e-3, "grpo": 5e-4}
    assert "opd: learning rate 0.002 of 0.001, 0.002" in said
    assert [line.split("]")[0] for line in said if line.startswith("[")] == [f"[{number}/6" for number in range(1, 7)]
    again = Trainer({})
    sit(comparison, again)
    assert again.started == [], "a complete comparison trains nothing"


@pytest.mark.parametrize(("criterion", "expected"), [("area", 1e-3), ("final", 2e-3)])
def test_the_criterion_chooses_the_rate_and_of_equal_ones_the_lowest_wins(tmp_path, criterion, expected):
    comparison = a_comparison(tmp_path, "lr=4e-3,1e-3,2e-3", f"criterion={criterion}")
    early, late = [(0, 0.0, 0.0), (500, 0.8, 0.8), (1000, 0.6, 0.6)], [(0, 0.0, 0.0), (500, 0.1, 0.1), (1000, 0.9, 0.9)]
    few, many = {"t": (True, [True, False])}, {"t": (True, [True, True])}
    for rate, curve, verdicts in (("0.004", early, few), ("0.001", early, few), ("0.002", late, many)):
        a_run(comparison.path, f"opd-math-lr{rate}-tuning", curve, verdicts)
    assert best_rate(comparison, comparison.arms[0]) == expected


def test_two_runs_go_at_once_each_with_one_thread(tmp_path):
    comparison = a_comparison(tmp_path, "method=opd,grpo", "lr=1e-3")
    trainer = Trainer({"seed": 0.5})
    sit(comparison, trainer, jobs=2)
    assert trainer.most_at_once == 2
    assert all("learner.threads=1" in words for words in trainer.started)
    assert len(trainer.started) == 4


def test_a_reported_run_that_failed_loses_no_other_and_is_tried_again(tmp_path):
    comparison = a_comparison(tmp_path, "method=opd,grpo", "lr=1e-3")
    trainer = Trainer({"seed": 0.5}, fail={"opd-lr0.001-seed0": 4})
    sit(comparison, trainer)
    assert len(trainer.started) == 4
    found = write(comparison)
    assert (found.failed, found.missing) == (1, 0)
    assert found.arms[0].runs[0].why == "the teacher has left (exit code 4)"
    assert found.arms[0].done == 1
    sit(comparison, second := Trainer({"seed": 0.5}))
    assert names(second) == ["opd-lr0.001-seed0"]
    assert (results(comparison).failed, results(comparison).missing) == (0, 0)


def test_a_tuning_run_that_failed_is_not_chosen_and_the_choice_stays(tmp_path):
    comparison = a_comparison(tmp_path, "lr=1e-3,9e-1")
    sit(comparison, Trainer({"0.001": 0.1}, fail={"opd-math-lr0.9-tuning": 5}))
    sit(comparison, second := Trainer({"0.9": 1.0}))
    assert second.started == []
    found = write(comparison)
    assert (found.arms[0].lr, found.failed) == (1e-3, 1)
    lines = [json.loads(line) for line in (comparison.path / "tuning.jsonl").read_text().splitlines()]
    assert [(line["lr"], line["state"], line["chosen"]) for line in lines] == [(1e-3, "done", True), (0.9, "failed", False)]
    assert lines[0]["score"] == pytest.approx(0.05)
    assert lines[1]["why"] == "the teacher has left (exit code 5)"


def test_an_arm_whose_tuning_failed_altogether_has_no_reported_runs(tmp_path):
    comparison = a_comparison(tmp_path, "method=opd,grpo", "lr=1e-3,2e-3")
    fail = {"opd-lr0.001-tuning": 5, "opd-lr0.002-tuning": -9}
    sit(comparison, trainer := Trainer({"grpo": 0.3}, fail=fail))
    assert [name for name in names(trainer) if name.startswith("opd")] == ["opd-lr0.001-tuning", "opd-lr0.002-tuning"]
    found = write(comparison)
    assert [arm.done for arm in found.arms] == [0, 2]
    text = (comparison.path / "report.md").read_text()
    assert "opd: no tuning run ended" in text
    assert "ended by signal 9" in text


@pytest.mark.parametrize("code", [130, 143, -2, -15])
def test_a_stop_reaches_every_process_and_the_rest_waits(tmp_path, code):
    comparison = a_comparison(tmp_path, "method=opd,grpo", "lr=1e-3")
    trainer, said = Trainer({"seed": 0.5}), []
    trainer.stopped_with = code
    campaign = Campaign(comparison, jobs=2, say=said.append, launch=trainer, clock=ManualClock())
    plain = campaign._start

    def start() -> None:
        plain()
        campaign.stop_requested = 15

    campaign._start = start  # type: ignore[method-assign]
    campaign.run()
    assert len(trainer.started) == 2
    assert sum("goes on another time" in line for line in said) == 2
    assert (results(comparison).missing, results(comparison).failed) == (4, 0)
    assert State.read(comparison.path).failures == {}
    sit(comparison, second := Trainer({"seed": 0.5}))
    assert len(second.started) == 4
    assert results(comparison).missing == 0


def test_a_run_without_a_verdict_is_failed_and_not_missing(tmp_path):
    comparison = a_comparison(tmp_path, "lr=1e-3")
    a_run(comparison.path, "opd-math-lr0.001-seed0", [(0, 0.0, 0.0), (1000, 0.1, 0.1)], {"t": (None, [])})
    run = results(comparison).arms[0].runs[0]
    assert (run.state, run.why) == ("failed", "not one held-out play could be judged")


def test_a_run_goes_on_from_its_checkpoint_and_begins_anew_without_one(tmp_path):
    (tmp_path / "r" / "checkpoints").mkdir(parents=True)
    (tmp_path / "r" / "config.yaml").write_text("")
    assert words_for(tmp_path, "r", ["steps=3"], threads=None) == ["steps=3", "run=r", f"runs_dir={tmp_path}"]
    assert not (tmp_path / "r").exists()
    (tmp_path / "r" / "checkpoints" / "4").mkdir(parents=True)
    assert words_for(tmp_path, "r", ["steps=3"], threads=1) == ["run=r", f"runs_dir={tmp_path}", "resume=true", "learner.threads=1"]


def test_the_last_words_of_a_process(tmp_path):
    log = tmp_path / "log"
    assert last_words(log, 3) == "exit code 3"
    log.write_text("a\nagentdistill: error: no luck\n\n")
    assert last_words(log, 2) == "no luck (exit code 2)"
    assert last_words(log, -11) == "no luck (ended by signal 11)"


def test_a_child_is_a_process_with_a_log_that_ends_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho started $@\ntrap 'echo asked; exit 143' TERM\nwhile :; do sleep 0.05; done\n")
    (tmp_path / "python").chmod(0o755)
    log, clock = tmp_path / "logs" / "a.log", SystemClock()
    child = Child(["run=a"], log)
    while "started" not in log.read_text():
        clock.sleep(0.02)
    assert child.poll() is None
    clock.sleep(0.1)
    child.stop()
    while (code := child.poll()) is None:
        clock.sleep(0.02)
    assert code == 143
    assert log.read_text() == "started -m agentdistill.cli.follow train run=a\nasked\n"
