"""A server somewhere else, over streamable HTTP.

    POST message ──> 202                                    a notification
                 ──> application/json                       the answer
                 ──> text/event-stream: data: message …     the answer among other things the server says
    DELETE       ──> the session is over

Each request is a connection of its own, so that one which broke or is late spoils no other.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urljoin, urlsplit

from agentdistill.clock import SYSTEM_CLOCK
from agentdistill.errors import EnvError
from agentdistill.interop.mcp.client import STATELESS, Json, Late
from agentdistill.interop.mcp.stdio import LONGEST, parse

_REDIRECTS = 3
_GOODBYE = 2.0
"""Seconds for the end of a session."""


class HttpTransport:
    """A session with a server."""

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None) -> None:
        """
        Args:
            url: of the endpoint, with ``http://`` or ``https://``.
            headers: of every request, for instance an authorization.
        """
        self.url = url
        self.headers = dict(headers or {})
        self.session: str | None = None
        self.version: str | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        return not self._closed

    def speak(self, version: str) -> None:
        self.version = version

    def explain(self, what: str) -> str:
        """``what``, with the server's address."""
        return f"the MCP server {self.url} {what}"

    def request(self, message: Json, seconds: float, heard: Callable[[Json], Json | None]) -> Json:
        until = SYSTEM_CLOCK.now() + seconds
        with self._sent("POST", message, until) as exchange:
            for found in exchange.messages():
                if "method" not in found and found.get("id") in (message["id"], None):
                    return found
                if (answer := heard(found)) is not None:
                    self.notify(answer, until - SYSTEM_CLOCK.now())
            status = exchange.response.status
        if status == 404 and self.session is not None:
            raise EnvError(self.explain("has forgotten the session"))
        raise EnvError(self.explain(f"answered {message['method']} with HTTP status {status} and no message{exchange.quoted()}"))

    def notify(self, message: Json, seconds: float) -> None:
        with suppress(Late, EnvError), self._sent("POST", message, SYSTEM_CLOCK.now() + seconds):
            pass

    def close(self) -> None:
        """Say that the session is over; a server that does not hear it is not waited for."""
        if not self._closed and self.session is not None:
            with suppress(Late, EnvError), self._sent("DELETE", None, SYSTEM_CLOCK.now() + _GOODBYE):
                pass
        self._closed = True

    def _sent(self, method: str, message: Json | None, until: float) -> closing[_Exchange]:
        if self._closed:
            raise EnvError(self.explain("was closed"))
        for _ in range(_REDIRECTS + 1):
            exchange = _Exchange(self.url, until, self.explain)
            exchange.send(method, self._headers(message), None if message is None else json.dumps(message).encode())
            onward = exchange.response.getheader("Location") if exchange.response.status in (307, 308) else None
            if onward is None:
                self.session = exchange.response.getheader("Mcp-Session-Id") or self.session
                return closing(exchange)
            exchange.close()
            target = urljoin(self.url, onward)
            if urlsplit(target)[:2] != urlsplit(self.url)[:2]:
                raise EnvError(self.explain(f"sends us on to another host: {target}; set env.url to it if that is meant"))
            self.url = target
        raise EnvError(self.explain(f"sends us on more than {_REDIRECTS} times"))

    def _headers(self, message: Json | None) -> dict[str, str]:
        found = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **self.headers}
        if self.session is not None:
            found["Mcp-Session-Id"] = self.session
        if self.version is not None:
            found["Mcp-Protocol-Version"] = self.version
        if self.version == STATELESS and message is not None and "method" in message:
            found["Mcp-Method"] = message["method"]
            if message["method"] == "tools/call":
                found["Mcp-Name"] = _header(message["params"]["name"])
        return found


class _Exchange:
    """One request and what comes back."""

    def __init__(self, url: str, until: float, explain: Callable[[str], str]) -> None:
        place = urlsplit(url)
        kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
        self._target = place._replace(scheme="", netloc="", fragment="").geturl() or "/"
        self._until, self._explain = until, explain
        self._read = bytearray()
        self._connection = kind(place.hostname or "", place.port, timeout=self._left())

    def send(self, method: str, headers: Mapping[str, str], body: bytes | None) -> None:
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            self._socket.settimeout(self._left())
            self._connection.request(method, self._target, body, dict(headers))
            self._socket.settimeout(self._left())
            self.response: HTTPResponse = self._connection.getresponse()
        except TimeoutError as error:
            self.close()
            raise Late from error
        except (OSError, HTTPException, ValueError) as error:
            self.close()
            raise EnvError(self._explain(f"cannot be reached: {type(error).__name__}: {error}; is it running?")) from error

    def messages(self) -> Iterator[Json]:
        """What the server says, as it comes."""
        if self.response.getheader("Content-Type", "").partition(";")[0].strip().lower() == "text/event-stream":
            yield from self._events()
            return
        for _ in self._chunks():
            pass
        yield from parse(bytes(self._read))

    def _events(self) -> Iterator[Json]:
        data: list[bytes] = []
        pending = b""
        for chunk in self._chunks():
            *lines, pending = (pending + chunk).replace(b"\r\n", b"\n").split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    data.append(line[5:].strip())
                elif not line and data:
                    yield from parse(b"\n".join(data))
                    data = []
            if len(pending) + sum(map(len, data)) > LONGEST:
                raise EnvError(self._explain(f"sent more than {LONGEST} bytes in one message"))
            self._read.clear()

    def _chunks(self) -> Iterator[bytes]:
        try:
            while chunk := self._next():
                self._read += chunk
                if len(self._read) > LONGEST:
                    raise EnvError(self._explain(f"sent more than {LONGEST} bytes in one message"))
                yield chunk
        except TimeoutError as error:
            raise Late from error
        except (OSError, HTTPException, ValueError) as error:
            raise EnvError(self._explain(f"broke off its answer: {type(error).__name__}: {error}")) from error

    def _next(self) -> bytes:
        if self.response.isclosed():
            return b""
        self._socket.settimeout(self._left())
        return self.response.read1(1 << 16)

    def _left(self) -> float:
        left = self._until - SYSTEM_CLOCK.now()
        if left <= 0:
            raise Late
        return left

    def quoted(self) -> str:
        """The beginning of what came."""
        return f": {bytes(self._read[:200]).decode('utf-8', 'replace')!r}" if self._read else ""

    def close(self) -> None:
        self._connection.close()


def _header(value: str) -> str:
    """As the protocol writes text into a header: plain where it is, else in base64."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return value
    return f"=?base64?{b64encode(value.encode()).decode()}?="
