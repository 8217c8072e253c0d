"""A command that works for another process ends when that one does."""

from __future__ import annotations

import os
import signal

import pytest

from agentdistill.cli import follow
from agentdistill.clock import SystemClock


def test_the_command_is_asked_to_end_when_the_other_end_of_the_pipe_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))

    def command(argv: list[str]) -> int:
        clock = SystemClock()
        clock.sleep(0.1)
        assert asked == [], "as long as somebody holds it, nothing happens"
        os.write(writing, b"noise is no end")
        clock.sleep(0.1)
        assert asked == []
        os.close(writing)
        end = clock.now() + 10
        while not asked and clock.now() < end:
            clock.sleep(0.01)
        return len(argv)

    monkeypatch.setattr(follow, "STDIN", reading)
    monkeypatch.setattr(follow, "main", command)
    try:
        assert follow.follow(["train", "steps=1"]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(reading)
    assert asked == [signal.SIGTERM]
