"""What the README shows can be run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_python_block_plays_an_episode_that_the_expert_wins(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = BLOCKS
    exec(compile(block, str(README), "exec"), {})
    question, verdict = capsys.readouterr().out.splitlines()
    answer = question.split(" -> ")[1]
    assert verdict == f"{answer} 1.0"
