"""What is said to a server of the Model Context Protocol: handshake, list of tools, calls.

    initialize ──> notifications/initialized ──> tools/list (page by page) ──> tools/call …

*See* the protocol's revisions 2024-11-05 to 2025-11-25, which begin with that handshake, and 2026-07-28, which has none and sends who we
are with every request; a server that knows only the latter is spoken to so. Of what a server may ask in return only ``ping`` is answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentdistill import __version__
from agentdistill.errors import EnvError

OFFERED = "2025-11-25"
KNOWN = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
STATELESS = "2026-07-28"

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
UNSUPPORTED_VERSION = -32022

_PAGES = 100
_CLIENT = {"name": "agentdistill", "version": __version__}
_META = "io.modelcontextprotocol"

Json = dict[str, Any]


class Late(Exception):
    """No answer within the deadline."""


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Transport(Protocol):
    """How messages get to a server and back. Raises :class:`EnvError` where the server is gone or does not speak JSON-RPC."""

    def request(self, message: Json, seconds: float, heard: Callable[[Json], Json | None]) -> Json:
        """Send a request, and return the response with its id.

        Args:
            heard: is given what else the server says meanwhile; what it returns is sent back.

        Raises:
            Late: there was none within ``seconds``.
        """
        ...

    def notify(self, message: Json, seconds: float) -> None: ...

    def speak(self, version: str) -> None:
        """From now on the protocol is of this revision."""
        ...

    @property
    def alive(self) -> bool: ...

    def explain(self, what: str) -> str:
        """``what``, with the server's name and, where it has any, last words."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A tool as the server lists it."""

    name: str
    description: str
    schema: Any


@dataclass
class Client:
    """One connection to one server."""

    transport: Transport
    start_seconds: float
    """That the handshake, and each page of tools, may take."""
    changed: bool = False
    """The server said that its tools are others now."""
    stateless: bool = False
    used: bool = False
    """A tool was called: the server's state may be another than at its start."""
    _tools: tuple[Listed, ...] | None = None
    _id: int = field(default=0)

    def start(self) -> None:
        """Shake hands.

        Raises:
            EnvError: it does not answer, or speaks no revision that is known here.
        """
        offer = {"protocolVersion": OFFERED, "capabilities": {}, "clientInfo": _CLIENT}
        try:
            version = str(self._ask("initialize", offer, self.start_seconds).get("protocolVersion"))
        except Refused as error:
            if error.code not in (METHOD_NOT_FOUND, UNSUPPORTED_VERSION):
                raise EnvError(f"the server refuses the handshake: {error}") from error
            self.stateless = True
            self.transport.speak(STATELESS)
            return
        except Late as error:
            raise EnvError(f"the server did not answer the handshake within {self.start_seconds:g} s") from error
        if version not in KNOWN:
            raise EnvError(f"the server speaks MCP {version!r}, and known here are {', '.join((*KNOWN, STATELESS))}")
        self.transport.speak(version)
        self.transport.notify({"jsonrpc": "2.0", "method": "notifications/initialized"}, self.start_seconds)

    def tools(self) -> tuple[Listed, ...]:
        """The tools that the server has now.

        Raises:
            EnvError: it does not say, or says it in a way that is not the protocol's.
        """
        if self._tools is None or self.changed:
            self.changed = False
            try:
                self._tools = tuple(self._list())
            except Refused as error:
                if error.code != METHOD_NOT_FOUND:
                    raise EnvError(f"the server does not list its tools: {error}") from error
                self._tools = ()
            except Late as error:
                raise EnvError(f"the server did not list its tools within {self.start_seconds:g} s") from error
        return self._tools

    def _list(self) -> list[Listed]:
        found: list[Listed] = []
        cursor: Any = None
        for _ in range(_PAGES):
            page = self._ask("tools/list", {} if cursor is None else {"cursor": cursor}, self.start_seconds)
            tools = page.get("tools")
            for each in tools if isinstance(tools, list) else ():
                if isinstance(each, dict) and isinstance(each.get("name"), str):
                    found.append(Listed(name=each["name"], description=_description(each), schema=each.get("inputSchema")))
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or not cursor:
                return found
        raise EnvError(f"the server's list of tools has no end: more than {_PAGES} pages")

    def call(self, name: str, arguments: Json, seconds: float) -> Json:
        """Call a tool, and return its result.

        Raises:
            Late: it takes longer than ``seconds``; the server was told that nobody waits any more.
            Refused: there is no such tool, or its arguments are not right.
            EnvError: the server is gone.
        """
        self.used = True
        try:
            return self._ask("tools/call", {"name": name, "arguments": arguments}, seconds)
        except Late:
            cancelled = {"requestId": self._id, "reason": f"no answer within {seconds:g} s"}
            if not self.stateless:
                self.transport.notify({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}, self.start_seconds)
            raise

    def answers(self, seconds: float) -> bool:
        """Whether the server still talks at all."""
        try:
            self._ask("ping", {}, seconds)
        except Refused:
            return True
        except (Late, EnvError):
            return False
        return True

    def _ask(self, method: str, params: Json, seconds: float) -> Json:
        self._id += 1
        if self.stateless:
            who = {f"{_META}/protocolVersion": STATELESS, f"{_META}/clientInfo": _CLIENT, f"{_META}/clientCapabilities": {}}
            params = {**params, "_meta": who}
        response = self.transport.request({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}, seconds, self._heard)
        error = response.get("error")
        if error is not None:
            told = error if isinstance(error, dict) else {"message": error}
            code = told.get("code")
            raise Refused(code if isinstance(code, int) else 0, str(told.get("message") or "no reason given"))
        result = response.get("result")
        if not isinstance(result, dict):
            raise EnvError(f"the server's answer to {method} has no result: {str(response)[:200]}")
        return result

    def _heard(self, message: Json) -> Json | None:
        """Something that is no answer to us."""
        method, id = message.get("method"), message.get("id")
        if method == "notifications/tools/list_changed":
            self.changed = True
        if not isinstance(method, str) or id is None:
            return None
        if method == "ping":
            return {"jsonrpc": "2.0", "id": id, "result": {}}
        refusal = {"code": METHOD_NOT_FOUND, "message": f"this client has no {method[:80]}"}
        return {"jsonrpc": "2.0", "id": id, "error": refusal}


def _description(tool: Json) -> str:
    found = [tool.get("description"), tool.get("title")]
    return next((text for text in found if isinstance(text, str) and text.strip()), "")


def shown(result: Json) -> tuple[str, bool]:
    """(what a result says, whether it is an error), in words: texts as they are, structure as JSON, all else as a note."""
    content = result.get("content")
    parts = [_part(part) for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    structured = result.get("structuredContent")
    if not any(parts) and structured is not None:
        parts = [json.dumps(structured, ensure_ascii=False)]
    return "\n".join(part for part in parts if part), result.get("isError") is True


def _part(part: Json) -> str:
    kind = part.get("type")
    if kind == "text":
        return str(part.get("text") or "")
    if kind in ("image", "audio"):
        size = len(str(part.get("data") or "")) * 3 // 4
        return f"[{kind}, {part.get('mimeType') or 'unknown type'}, {size} bytes, not shown]"
    if kind == "resource_link":
        return f"[resource {part.get('uri')}: {part.get('description') or part.get('name') or 'no description'}]"
    resource = part.get("resource")
    if kind == "resource" and isinstance(resource, dict):
        text, kind = resource.get("text"), resource.get("mimeType") or "unknown type"
        return text if isinstance(text, str) else f"[resource {resource.get('uri')}, {kind}, not shown]"
    return f"[{str(kind)[:40]}, not shown]"
