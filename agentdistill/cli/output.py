"""Standard output and error that no command has to worry about.

a character that the terminal cannot show   is shown as ?
nobody reads any more (| head -1)           the command goes on, in silence; a training run is finished
the disk behind it is full                  the command goes on, in silence, and main() says so in the end
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Sink(io.FileIO):
    """A file descriptor that swallows what it cannot write, and remembers why."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


class Output:
    """What became of the output of one command."""

    def __init__(self) -> None:
        self.sink: Sink | None = None
        """Behind standard output. ``None``: it is somebody else's object, and left alone."""

    @property
    def lost(self) -> str | None:
        """Why output is missing that somebody wanted. ``None``: none is, or nobody wanted it."""
        failure = self.sink.failure if self.sink is not None else None
        if failure is None or isinstance(failure, BrokenPipeError):
            return None
        return failure.strerror or str(failure)


@contextmanager
def patient_output() -> Iterator[Output]:
    """Standard output and error are patient inside the block."""
    output = Output()
    before = sys.stdout, sys.stderr
    sys.stdout, output.sink = _patient(before[0], sys.__stdout__)
    sys.stderr, _ = _patient(before[1], sys.__stderr__)
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _patient(stream: TextIO | None, own: TextIO | None) -> tuple[TextIO, Sink | None]:
    """``stream`` with a sink behind it, where it is the process's own; else itself."""
    if stream is None:  # whoever started us has closed it; the next file that is opened must not be taken for it
        return Path(os.devnull).open("w", encoding="utf-8"), None
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream, None
    try:
        stream.flush()
        sink = Sink(stream.fileno(), "wb", closefd=False)
    except OSError:
        return stream, None
    at_once = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(io.BufferedWriter(sink), encoding=stream.encoding, errors="replace", line_buffering=at_once), sink
