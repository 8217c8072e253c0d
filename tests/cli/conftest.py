from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from agentdistill.cli.main import main


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """``command("env", "list")``: run it in this process."""

    def command(*argv: str) -> Done:
        capsys.readouterr()
        try:
            code = main(list(argv))
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Done(code, captured.out, captured.err)

    return command
