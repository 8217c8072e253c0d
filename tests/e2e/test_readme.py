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


def test_the_comparison_is_what_its_reports_say() -> None:
    """Each arm's tokens, sampled and greedy success, as the README shows them, against docs/comparison/*/report.md."""
    reported: dict[str, tuple[str, str, str]] = {}
    for folder in ("math", "tools"):
        text = (README.parent / "docs" / "comparison" / folder / "report.md").read_text("utf-8")
        result = text.partition("## Result")[2].partition("## Each run")[0]
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.splitlines() if line.startswith("|")]
        for row in rows:
            arm = row[0] if "-" in row[0] else f"{row[0]}-tools"
            reported[arm] = (row[head.index("tokens to 0.5 sampled")].split(" (")[0], row[head.index("sampled")], row[head.index("greedy")])
    methods = ("opd", "sft_teacher", "sft_64", "grpo_plain")
    assert set(reported) == {f"{method}-{env}" for method in methods for env in ("math34", "math4", "tools")}
    for method in methods:
        (line,) = [line for line in README.read_text("utf-8").splitlines() if line.startswith(f"| **`{method}`**")]
        shown = [cell.strip() for cell in line.strip("|").split("|")[1:]]
        assert shown == [
            cell
            for env in ("math34", "math4", "tools")
            for cell in (reported[f"{method}-{env}"][0], " / ".join(reported[f"{method}-{env}"][1:]))
        ]
