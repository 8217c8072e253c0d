"""Ctrl-C and termination: after the step, a checkpoint and how to go on; a second signal stops at once, and what was saved stays."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentdistill.store import _disk, list_checkpoints, newest_checkpoint
from agentdistill.train.parts import Parts
from agentdistill.train.record import Recorder

from .conftest import Command

pytestmark = pytest.mark.ci

SMALL = ("rollout.batch=4", "eval.tasks=4", "eval.progress_tasks=4", "eval.every=2", "checkpoint_every=3", "annotate=1")
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The command gives the handlers back as it found them."""
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    yield
    assert [signal.getsignal(number) for number, _ in SIGNALS] == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The metrics of the run that was never stopped."""
    from agentdistill.cli.main import main

    runs = tmp_path_factory.mktemp("whole")
    assert main(["train", "run=r", f"runs_dir={runs}", "steps=5", *SMALL]) == 0
    return (runs / "r" / "metrics.jsonl").read_text()


def when_published(version: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something in the middle of training, once: as the weights of this version are published."""
    plain = Parts.publish
    done: list[int] = []

    def publish(self: Parts, now: int) -> None:
        plain(self, now)
        if now == version and not done:
            done.append(now)
            act()

    monkeypatch.setattr(Parts, "publish", publish)


def goes_on(command: Command, err: str, runs: Path, whole: str) -> None:
    """The sentence names a command, and that command ends the run as if nothing had been."""
    assert not (runs / "r" / "summary.json").exists()
    (words,) = (shlex.split(line.partition("go on with: ")[2]) for line in err.splitlines() if "go on with: " in line)
    assert words[:2] == ["agentdistill", "train"]
    assert command(*words[1:]).code == 0
    assert (runs / "r" / "metrics.jsonl").read_text() == whole
    assert (runs / "r" / "summary.json").is_file()


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_first_signal_ends_the_run_after_the_step_with_a_checkpoint(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: str, number: int, code: int
) -> None:
    when_published(2, lambda: signal.raise_signal(number), monkeypatch)
    done = command("train", "run=r", f"runs_dir={tmp_path}", "steps=5", *SMALL)
    assert done.code == code
    assert f"stopped by signal {number:d} after a clean checkpoint" in done.err
    newest = newest_checkpoint(tmp_path / "r" / "checkpoints")
    assert newest is not None
    assert newest.step == 2, "although it was not due"
    goes_on(command, done.err, tmp_path, whole)


def test_a_signal_before_the_first_step_still_leaves_that_step(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: str
) -> None:
    plain = Recorder.begin

    def begin(self: Recorder) -> None:
        if not self.config.resume:
            signal.raise_signal(signal.SIGINT)
        plain(self)

    monkeypatch.setattr(Recorder, "begin", begin)
    done = command("train", "run=r", f"runs_dir={tmp_path}", "steps=5", *SMALL)
    assert done.code == 130
    assert list_checkpoints(tmp_path / "r" / "checkpoints")[-1] == 1
    goes_on(command, done.err, tmp_path, whole)


def test_a_second_signal_in_the_middle_of_saving_leaves_the_older_checkpoint(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: str
) -> None:
    armed: list[str] = []
    write = _disk.write_file

    def write_file(path: Path, data: bytes) -> None:
        write(path, data)
        if armed and "checkpoints" in path.parts and armed.pop():
            signal.raise_signal(signal.SIGINT)

    def first() -> None:
        armed.append("for the next file of a checkpoint")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_disk, "write_file", write_file)
    when_published(4, first, monkeypatch)
    done = command("train", "run=r", f"runs_dir={tmp_path}", "steps=5", *SMALL)
    assert armed == [], "the second signal came while a checkpoint was written"
    assert done.code == 130
    assert f"stopped at once by signal {signal.SIGINT:d}" in done.err
    newest = newest_checkpoint(tmp_path / "r" / "checkpoints")
    assert newest is not None
    assert newest.step == 3
    goes_on(command, done.err, tmp_path, whole)
    assert not list((tmp_path / "r" / "checkpoints").glob(f"*{_disk.ASIDE}"))


def test_a_second_signal_in_the_middle_of_a_step_ends_it_at_once(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: str
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    when_published(5, twice, monkeypatch)
    done = command("train", "run=r", f"runs_dir={tmp_path}", "steps=5", *SMALL)
    assert done.code == 143, "the last one counts"
    assert list_checkpoints(tmp_path / "r" / "checkpoints")[-1] == 3
    goes_on(command, done.err, tmp_path, whole)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_real_process_that_is_signalled_says_how_to_go_on_and_does(
    command: Command, tmp_path: Path, whole: str, number: int, code: int
) -> None:
    argv = [sys.executable, "-m", "agentdistill", "train", "run=r", f"runs_dir={tmp_path}", "steps=400", *SMALL]
    environment: dict[str, Any] = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 2/"):
                process.send_signal(number)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in out + err
    assert "stopping as soon as this step is done" in err
    (words,) = (shlex.split(line.partition("go on with: ")[2]) for line in err.splitlines() if "go on with: " in line)
    stopped_at = list_checkpoints(tmp_path / "r" / "checkpoints")[-1]
    assert 2 <= stopped_at < 100
    assert command(*words[1:], f"steps={stopped_at + 1}").code == 0
    lines, wanted = ((text.splitlines()) for text in ((tmp_path / "r" / "metrics.jsonl").read_text(), whole))
    assert lines[:4] == wanted[:4]
