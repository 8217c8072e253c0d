"""Output that cannot be written, shown or read: no traceback, no false success, and no run that stops for it."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentdistill.cli import method
from agentdistill.cli.main import main
from agentdistill.cli.output import Patient, patient_output

from .conftest import Command

FULL = Path("/dev/full")
SMALL = ("rollout.batch=2", "rollout.max_new_tokens=8", "eval.tasks=2", "eval.every=0", "eval.progress_tasks=2", "steps=2")


def shell(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``$AD`` is the command."""
    env = os.environ | {"AD": f"{sys.executable} -m agentdistill"} | environment
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words}"], capture_output=True, text=True, check=False, env=env, errors="replace"
    )


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("words", ["--help", "--version", "method list", "env list --json"])
def test_a_full_disk_behind_the_output_is_a_failure_in_one_sentence(words: str) -> None:
    done = shell(f"$AD {words} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "agentdistill: error: standard output could not be written: No space left on device\n"


def test_a_reader_that_leaves_early_is_no_failure_and_nothing_is_said() -> None:
    done = shell("$AD method list | true")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_exit_code_of_a_mistake_survives_broken_output() -> None:
    assert shell("$AD env check mth 2>&-").returncode == 2
    assert shell("$AD env check mth >&- 2>/dev/null").returncode == 2
    assert shell("$AD nope 2>&-").returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_our_characters_gets_question_marks(encoding: str) -> None:
    done = shell("$AD train --print-config run=→", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert 'run: "?"' in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.ci
def test_a_run_whose_output_nobody_reads_is_finished(tmp_path: Path) -> None:
    done = shell(f"$AD train run=r runs_dir={tmp_path} {' '.join(SMALL)} | head -1")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "r" / "summary.json").is_file()


@pytest.mark.ci
@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_run_whose_output_is_lost_is_finished_and_says_so(tmp_path: Path) -> None:
    done = shell(f"$AD train run=r runs_dir={tmp_path} {' '.join(SMALL)} > /dev/full")
    assert done.returncode == 1
    assert "standard output could not be written" in done.stderr
    assert (tmp_path / "r" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device; free some space; a run that had begun goes on with"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/runs"), "Permission denied: '/root/runs'\n"),
        (OSError("the hub says no"), "error: the hub says no\n"),
        (TimeoutError(), "error: TimeoutError\n"),
        (SystemExit(0), "a plug-in tried to end the process (SystemExit: 0); AGENTDISTILL_DEBUG=1 shows where"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, sentence: str
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(method, "run", fail)
    code, _, err = command("method", "list")
    assert code == 1
    assert sentence in err
    assert err.count("\n") == 1
    monkeypatch.setenv("AGENTDISTILL_DEBUG", "1")
    with pytest.raises(type(error)):
        main(["method", "list"])


def test_an_interruption_is_said_and_has_its_own_code(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(method, "run", interrupt)
    assert command("method", "list") == (130, "", "agentdistill: interrupted\n")


def test_streams_that_are_not_the_processs_own_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    with patient_output() as output:
        assert sys.stdout is mine
    assert output.lost is None


def test_the_processs_own_streams_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as own:
        monkeypatch.setattr(sys, "stdout", own)
        monkeypatch.setattr(sys, "__stdout__", own)
        own.write("before ")
        with patient_output() as output:
            assert sys.stdout is not own
            sys.stdout.write("inside →\n")
        assert sys.stdout is own
        own.write("after")
    assert (tmp_path / "out").read_text() == "before inside ?\nafter"
    assert output.lost is None


def test_a_stream_remembers_the_first_failure_and_goes_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with io.FileIO(writing, "wb") as raw, Patient(io.BufferedWriter(raw), encoding="utf-8") as stream:
        assert stream.write("one") == 3
        stream.flush()
        assert stream.write("four") == 4
    assert isinstance(stream.failure, BrokenPipeError)


def test_a_signal_may_print_while_a_write_is_under_way() -> None:
    program = (
        "import signal\n"
        "from agentdistill.cli.output import patient_output\n"
        "signal.signal(signal.SIGALRM, lambda *_: print('stopping', flush=True))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "with patient_output():\n"
        "    for _ in range(20_000): print('step', flush=True)\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("stopping") > 10
    assert done.stdout.count("step") == 20_000


def test_what_a_handler_says_during_a_flush_is_flushed_too() -> None:
    said: list[bytes] = []

    class Interrupted(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            text = bytes(data)  # type: ignore[call-overload]
            said.append(text)
            if text == b"step\n":
                stream.write("stopping\n")
                stream.flush()
            return len(text)

    stream = Patient(io.BufferedWriter(Interrupted()), encoding="utf-8")  # type: ignore[type-var]
    stream.write("step\n")
    stream.flush()
    assert said == [b"step\n", b"stopping\n"]
