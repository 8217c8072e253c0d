"""Every command on the page about real checkpoints is one that the command line takes, down to the last key."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agentdistill.cli.main import main, parse
from agentdistill.config import compose_eval, compose_train
from agentdistill.learner.kernel import BLOCK_ELSEWHERE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "real-checkpoints.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.startswith("agentdistill ")]


def test_the_page_has_commands_of_each_kind() -> None:
    assert {command.split()[1] for command in COMMANDS} == {"train", "eval", "export"}
    assert len(COMMANDS) >= 12
    assert all(line.startswith(("agentdistill ", "pip ")) for block in BLOCKS for line in block.replace("\\\n", " ").splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_composes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[1:]
    arguments = parse(words)
    if words[0] == "export":
        compose_eval(arguments.overrides)
        assert arguments.to
        return
    assert main([word for word in words if word != "--dry-run"] + ["--print-config"]) == 0, capsys.readouterr().err


def test_a_misspelt_key_would_be_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "learner.activation_checkpoint=true", "--print-config"]) == 2


def test_the_memory_table_is_that_of_the_shapes_it_names() -> None:
    """The page's arithmetic, again."""
    page = PAGE.read_text("utf-8")
    config = compose_train(shlex.split(next(command for command in COMMANDS if "run=qwen-full" in command))[2:]).config
    layers, width, heads, key_value, size, inner, rows, parameters = 28, 1024, 16, 8, 128, 3072, 151_936, 596_049_920
    a_token = 2 * layers * key_value * size * 2
    assert f"{a_token / 1e3:.0f} kB a token" in page
    assert f"≤ {config.rollout.in_flight * config.rollout.max_tokens * a_token / 1e9:.0f} GB" in page
    chunk = min(rows * width * 2 // 2, config.learner.chunk_tokens * rows * 4 * 2)  # bytes; a half-precision product
    assert f"blocks of 2²⁴ numbers | {(chunk + 5 * BLOCK_ELSEWHERE * 4) / 1e9:.1f} GB |" in page
    assert BLOCK_ELSEWHERE == 2**24
    ends = [(width, heads * size), (width, key_value * size), (width, key_value * size), (heads * size, width)]
    ends += [(width, inner), (width, inner), (inner, width)]
    adapters = 32 * sum(map(sum, ends)) * layers
    assert f"LoRA: {adapters / 1e6:.0f} M parameters" in page
    for what in (parameters * 4, parameters * 12, parameters * 2, adapters * 16):
        assert f"{what / 1e9:.1f} GB" in page
