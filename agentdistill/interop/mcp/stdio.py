"""A server that is a program of ours: one process group, three pipes, and an end that nothing of it survives.

    stdin   <── one JSON message a line, written only as fast as it reads
    stdout  ──> the same; lines that are no JSON-RPC are skipped and remembered
    stderr  ──> its last words, which every error quotes

All three are served by whoever waits for an answer, so that neither side can block the other. Between requests nobody reads, and a server
that talks then fills its pipe and waits.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO, Any

from agentdistill.clock import SYSTEM_CLOCK
from agentdistill.errors import ConfigError, EnvError
from agentdistill.interop.mcp.client import Json, Late

LONGEST = 64 << 20
"""Bytes of one message."""
_TAIL = 2000
"""Characters of stderr that are kept."""
_GRACE = 1.0
"""Seconds that a server has to end by itself, and again after it was asked to."""
_INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "SYSTEMROOT")

_running: set[StdioTransport] = set()
"""Killed when the interpreter ends."""


class StdioTransport:
    """A running server."""

    def __init__(self, command: Sequence[str], *, cwd: str | None = None, variables: Mapping[str, str] | None = None) -> None:
        """
        Args:
            command: program and arguments; no shell is between.
            cwd: where it runs. ``None``: where we do.
            variables: of its environment, beside the few that it inherits (no secrets of ours are among them).

        Raises:
            ConfigError: there is no such program or folder.
        """
        self.command = " ".join(command)
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd or None,
                env={**inherited, **(variables or {})},
                start_new_session=True,
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            raise ConfigError(f"the MCP server {self.command!r} cannot be started: {error}; mend env.command (or env.cwd)") from error
        self._errors = ""
        self._status: int | None = None
        """Of its exit; that of a signal is negative. ``None``: it runs."""
        self._stray = ""
        """The last line that was no message."""
        self._inbox = bytearray()
        self._searched = 0
        self._outbox = bytearray()
        self._closed = False
        self._turn: SimpleQueue[None] = SimpleQueue()
        """Holds one token: whoever has it may use the pipes."""
        self._turn.put(None)
        self._pipes = selectors.DefaultSelector()
        for pipe, events in ((self._stdout, selectors.EVENT_READ), (self._stderr, selectors.EVENT_READ)):
            os.set_blocking(pipe.fileno(), False)
            self._pipes.register(pipe, events)
        os.set_blocking(self._stdin.fileno(), False)
        _running.add(self)

    # ---- what a client calls ----------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return not self._closed and not self._ended()

    def speak(self, version: str) -> None:
        """The revision makes no difference here."""

    def request(self, message: Json, seconds: float, heard: Callable[[Json], Json | None]) -> Json:
        with _Taken(self):
            self._queue(message)
            until = SYSTEM_CLOCK.now() + seconds
            while True:
                for found in self._messages():
                    if "method" not in found and found.get("id") == message["id"]:
                        return found
                    if (answer := heard(found)) is not None:
                        self._queue(answer)
                self._serve(until)

    def notify(self, message: Json, seconds: float) -> None:
        with _Taken(self), suppress(Late):
            self._queue(message)
            until = SYSTEM_CLOCK.now() + seconds
            while self._outbox:
                self._serve(until)

    def close(self) -> None:
        """End the server, and everything that it started. May be called from another thread, and more than once."""
        first, self._closed = not self._closed, True
        if first and not self._use(0.0):
            self._kill()  # a request is under way: it ends with the server, and clears up
            return
        if first or self._use(0.0):
            self._end()

    # ---- pipes --------------------------------------------------------------------------------------------------------

    @property
    def _stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def _stderr(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr

    def _use(self, seconds: float) -> bool:
        try:
            self._turn.get(timeout=seconds) if seconds else self._turn.get_nowait()
        except Empty:
            return False
        return True

    def _release(self) -> None:
        self._turn.put(None)
        if self._closed and self._use(0.0):
            self._end()

    def _queue(self, message: Json) -> None:
        self._outbox += json.dumps(message).encode() + b"\n"

    def _serve(self, until: float) -> None:
        """Read and write what can be; waits for something to happen.

        Raises:
            Late: nothing did before ``until``, or it is past.
            EnvError: the server has closed its output, or says more than anyone can hear.
        """
        left = until - SYSTEM_CLOCK.now()
        self._want_to_write()
        ready = self._pipes.select(left) if left > 0 else []
        if not ready:
            raise Late
        for key, _ in ready:
            pipe: Any = key.fileobj
            if pipe is self._stdin:
                self._write()
            elif (data := _read(pipe.fileno())) is None:
                continue
            elif data:
                self._take(pipe, data)
            else:
                self._pipes.unregister(pipe)
                if pipe is self._stdout:
                    raise EnvError(self.explain("has ended" if self._ends_soon() else "has closed its output"))
        if len(self._inbox) > LONGEST:
            raise EnvError(self.explain(f"sent more than {LONGEST} bytes without an end of line"))

    def _want_to_write(self) -> None:
        wanted, registered = bool(self._outbox), self._stdin in self._pipes.get_map()
        if wanted and not registered:
            self._pipes.register(self._stdin, selectors.EVENT_WRITE)
        elif registered and not wanted:
            self._pipes.unregister(self._stdin)

    def _write(self) -> None:
        try:
            del self._outbox[: os.write(self._stdin.fileno(), self._outbox[: 1 << 16])]
        except BlockingIOError:
            return
        except OSError:  # it reads no more; that its output ends will say so
            self._outbox.clear()

    def _take(self, pipe: IO[bytes], data: bytes) -> None:
        if pipe is self._stderr:
            self._errors = (self._errors + data.decode("utf-8", "replace"))[-_TAIL:]
        else:
            self._inbox += data

    def _messages(self) -> list[Json]:
        """All whole messages that have come."""
        found: list[Json] = []
        while (end := self._inbox.find(b"\n", self._searched)) >= 0:
            line = bytes(self._inbox[:end]).strip()
            del self._inbox[: end + 1]
            self._searched = 0
            messages = parse(line)
            if not messages and line:
                self._stray = line[:200].decode("utf-8", "replace")
            found += messages
        self._searched = len(self._inbox)
        return found

    def explain(self, what: str) -> str:
        """``what``, with the server's name and last words."""
        status = f" with exit status {self._status}" if self._ended() and self._status is not None else ""
        words = f"; its last words: {self._errors.strip()[-800:]!r}" if self._errors.strip() else ""
        stray = f"; it wrote to its output what is no message: {self._stray!r}" if self._stray else ""
        return f"the MCP server {self.command!r} {what}{status}{words}{stray}"

    # ---- the end --------------------------------------------------------------------------------------------------------

    def _ended(self) -> bool:
        """Whether it is over, without clearing it away: its number must stay its own until its children are gone too."""
        if self.process.returncode is None:
            found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if found is None:
                return False
            self._status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return True

    def _ends_soon(self) -> bool:
        return self._wait(_GRACE)

    def _wait(self, seconds: float) -> bool:
        until = SYSTEM_CLOCK.now() + seconds
        pause = 0.002
        while not self._ended():
            if SYSTEM_CLOCK.now() >= until:
                return False
            SYSTEM_CLOCK.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        return True

    def _kill(self, number: int = signal.SIGKILL) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def _end(self) -> None:
        """Close its input, which is how a server is asked to go; then ask louder; then do not ask. The caller has the token."""
        with suppress(OSError):
            self._stdin.close()
        if not self._wait(_GRACE):
            self._kill(signal.SIGTERM)
            self._wait(_GRACE)
        self._kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5 * _GRACE)
        self._pipes.close()
        for pipe in (self._stdout, self._stderr):
            pipe.close()
        _running.discard(self)


class _Taken:
    """The pipes, for one request."""

    def __init__(self, transport: StdioTransport) -> None:
        self.transport = transport

    def __enter__(self) -> None:
        if self.transport._closed or not self.transport._use(60.0):
            raise EnvError(f"the MCP server {self.transport.command!r} was closed")

    def __exit__(self, *_: object) -> None:
        self.transport._release()


def parse(line: bytes | str) -> list[Json]:
    """The messages of a line: one, or those of a batch; none where it is no JSON-RPC."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict) and each.get("jsonrpc") == "2.0"]


def _read(number: int) -> bytes | None:
    """What is there; nothing at the end; ``None`` where there is nothing yet."""
    try:
        return os.read(number, 1 << 16)
    except BlockingIOError:
        return None


@atexit.register
def _end_all() -> None:
    for transport in list(_running):
        transport._kill()
