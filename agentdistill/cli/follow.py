"""``python -m agentdistill.cli.follow COMMAND …``: the same command, which is asked to end when its standard input does.

For processes that work for another one and must not outlive it; whoever starts one holds the other end of the pipe.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from agentdistill.cli.main import main
from agentdistill.clock import ThreadExecutor

STDIN = 0
"""Its number."""


def follow(argv: Sequence[str]) -> int:
    """Run the command; its exit code."""
    watcher = ThreadExecutor(1)
    watcher.submit(_wait_for_the_end)
    return main(argv)


def _wait_for_the_end() -> None:
    while os.read(STDIN, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(follow(sys.argv[1:]))
