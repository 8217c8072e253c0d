"""Trackers show figures; none can hurt a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentdistill.errors import ConfigError
from agentdistill.train import track
from agentdistill.train.track import Guarded, check_tracker, open_tracker


class Failing:
    """Raises at the call that it is told to fail at."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.seen: list[int] = []

    def scalars(self, step, figures):
        self.seen.append(step)
        if self.at == "scalars":
            raise OSError("no space left")

    def close(self):
        if self.at == "close":
            raise OSError("gone")


def test_a_tracker_that_fails_is_told_of_once_and_left_alone():
    said: list[str] = []
    tracker = Failing("scalars")
    guarded = Guarded(lambda: tracker, said.append)
    for step in range(3):
        guarded.scalars(step, {"loss": 1.0})
    guarded.close()
    assert tracker.seen == [0]
    assert said == ["the tracker could not write (OSError: no space left); the run goes on without it"]


def test_a_tracker_that_cannot_start_or_close_is_no_trouble_either():
    said: list[str] = []

    def broken():
        raise RuntimeError("no server")

    never = Guarded(broken, said.append)
    never.scalars(0, {"loss": 1.0})
    never.close()
    Guarded(lambda: Failing("close"), said.append).close()
    assert [line.split(" (")[0] for line in said] == ["the tracker could not start", "the tracker could not close"]


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(track, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'agentdistill\[track\]'"):
        check_tracker("tensorboard")
    check_tracker("none")


def scalars(run: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_event_files_hold_finite_figures_and_a_resumed_run_replaces_what_came_later(tmp_path):
    first = open_tracker("tensorboard", tmp_path, after=None, say=pytest.fail)
    for step in (1, 2, 3):
        first.scalars(step, {"loss": float(step), "bad": float("nan")})
    first.close()
    again = open_tracker("tensorboard", tmp_path, after=2, say=pytest.fail)
    again.scalars(3, {"loss": 30.0})
    again.close()
    assert scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 30.0)]
    with pytest.raises(KeyError):
        scalars(tmp_path, "bad")


@pytest.mark.ci
def test_a_run_sends_its_figures_to_tensorboard(small):
    run = small.train("a", "steps=2", "track=tensorboard")
    rows = run.metrics()
    losses = [row["loss/total"] for row in rows if row["kind"] == "train"]
    assert [value for _, value in scalars(run.path, "loss/total")] == pytest.approx(losses)
    assert [step for step, _ in scalars(run.path, "loss/total")] == [1, 2]
    assert [step for step, _ in scalars(run.path, "eval/success/greedy")] == [0, 2]
