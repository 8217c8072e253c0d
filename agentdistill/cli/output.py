"""Standard output and error that no command has to worry about.

a character that the terminal cannot show   is shown as ?
nobody reads any more (| head -1)           the command goes on, in silence; a training run is finished
the disk behind it is full                  the command goes on, in silence, and main() says so in the end
"""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO


class Patient(io.TextIOWrapper):
    """A stream that swallows what it cannot write, and remembers why.

    A signal's handler may print while a write is under way, which the buffers below refuse: what it says waits until that write is done.
    """

    failure: OSError | None = None
    _busy = False

    def __init__(self, buffer: BinaryIO, *, encoding: str, line_buffering: bool = False) -> None:
        self._waiting: deque[str] = deque()
        self._flush_wanted = False
        super().__init__(buffer, encoding=encoding, errors="replace", line_buffering=line_buffering)

    def write(self, text: str, /) -> int:
        self._waiting.append(text)
        self._drain(flush=False)
        return len(text)

    def flush(self) -> None:
        self._drain(flush=True)

    def _drain(self, *, flush: bool) -> None:
        self._flush_wanted |= flush
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting or self._flush_wanted:  # more may arrive during either
                if self._waiting:
                    text = self._waiting.popleft()
                    if self.failure is None:
                        super().write(text)
                else:
                    self._flush_wanted = False
                    if self.failure is None:
                        super().flush()
        except OSError as error:
            self._give_up(error)
        finally:
            self._busy = False

    def _give_up(self, error: OSError) -> None:
        """What is still in the buffers goes nowhere, else the interpreter would try it again when it ends."""
        self.failure = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class Output:
    """What became of the output of one command."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    @property
    def lost(self) -> str | None:
        """Why output is missing that somebody wanted. ``None``: none is, or nobody wanted it."""
        failure = self._stdout.failure if isinstance(self._stdout, Patient) else None
        if failure is None or isinstance(failure, BrokenPipeError):
            return None
        return failure.strerror or str(failure)


@contextmanager
def patient_output() -> Iterator[Output]:
    """Standard output and error are patient inside the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _patient(before[0], sys.__stdout__), _patient(before[1], sys.__stderr__)
    try:
        yield Output(sys.stdout)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _patient(stream: TextIO | None, own: TextIO | None) -> TextIO:
    """``stream``, patient where it is the process's own; else itself."""
    if stream is None:  # whoever started us has closed it; the next file that is opened must not be taken for it
        return Path(os.devnull).open("w", encoding="utf-8")
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    raw = io.BufferedWriter(io.FileIO(stream.fileno(), "wb", closefd=False))
    return Patient(raw, encoding=stream.encoding, line_buffering=stream.line_buffering or stream.write_through)
