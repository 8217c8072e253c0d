"""One session with an OpenEnv server, as its version 0.10 speaks.

    {"type": "reset", "data": {"seed": 3}}       ──> {"type": "observation", "data": {"observation", "reward", "done"}}
    {"type": "step", "data": {action}}           ──> the same
    {"type": "close"}                            ──> the socket closes, and the server's slot is free
    anything that went wrong                     ──> {"type": "error", "data": {"code", "message", "errors"}}

    GET /schema                                  ──> {"action": JSON schema, …}

A connection has an environment of its own on the server, and the server has room for so many; a session that is not closed keeps its place.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from agentdistill.clock import SYSTEM_CLOCK
from agentdistill.errors import EnvError
from agentdistill.interop.foreign import need

LARGEST = 64 << 20
"""Bytes of one message."""
_PAUSE = 0.25
"""Seconds between two tries for a place on a full server."""


class BadAction(Exception):
    """The server says that the action is not right; the text is for the model."""


@dataclass(frozen=True)
class Seen:
    """What a reset or a step came back with."""

    observation: dict[str, Any]
    reward: float
    done: bool


def addresses(url: str) -> tuple[str, str]:
    """(address for HTTP, of the WebSocket) of ``host:port``, ``http://…`` or ``ws://…``, with or without ``/ws``.

    Raises:
        ValueError: it is none of these.
    """
    place = urlsplit(url if "://" in url else f"http://{url}")
    schemes = {"http": ("http", "ws"), "ws": ("http", "ws"), "https": ("https", "wss"), "wss": ("https", "wss")}
    if place.scheme not in schemes or not place.hostname:
        raise ValueError(f"url={url!r} is no address of a server; give http://host:port or ws://host:port")
    path = place.path.rstrip("/").removesuffix("/ws")
    http, ws = schemes[place.scheme]
    return urlunsplit((http, place.netloc, path, "", "")), urlunsplit((ws, place.netloc, f"{path}/ws", place.query, ""))


def schema_of(url: str, seconds: float) -> dict[str, Any]:
    """What ``GET /schema`` says.

    Raises:
        EnvError: the server does not answer, or not with schemas.
    """
    base, _ = addresses(url)
    try:
        with urllib.request.urlopen(f"{base}/schema", timeout=seconds) as response:
            found = json.loads(response.read(LARGEST))
    except urllib.error.HTTPError as error:
        raise EnvError(f"{base}/schema answers with HTTP status {error.code}; is an OpenEnv server there?") from error
    except OSError as error:
        raise EnvError(_unreachable(base, error)) from error
    except ValueError as error:
        raise EnvError(f"{base}/schema is no JSON: {error}; is an OpenEnv server there?") from error
    if not isinstance(found, dict) or not isinstance(found.get("action"), dict):
        raise EnvError(f"{base}/schema has no schema of actions: {str(found)[:200]}")
    return found


def require_listener(url: str, seconds: float) -> None:
    """Raise :class:`EnvError` where nobody listens at the address."""
    base, _ = addresses(url)
    place = urlsplit(base)
    try:
        socket.create_connection((place.hostname or "", place.port or (443 if place.scheme == "https" else 80)), timeout=seconds).close()
    except OSError as error:
        raise EnvError(_unreachable(base, error)) from error


def _unreachable(where: str, error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"no OpenEnv server answers at {where} ({str(reason) or type(error).__name__}); start it, or set env.url to where it runs"


class Session:
    """One WebSocket."""

    def __init__(self, url: str, *, connect_seconds: float, seconds: float, place_seconds: float, headers: Mapping[str, str]) -> None:
        """
        Args:
            url: of the server.
            connect_seconds: for connecting.
            seconds: for each answer.
            place_seconds: how long a full server is asked again, when a message is the first.
            headers: of the handshake.

        Raises:
            EnvError: nobody answers there.
            ConfigError: the package websockets is not installed.
        """
        self._connect = need("websockets.sync.client", env="openenv", extra="openenv").connect
        self.base, self._url = addresses(url)
        self._connect_seconds, self._seconds, self._place_seconds, self._headers = connect_seconds, seconds, place_seconds, dict(headers)
        self._closed = False
        self._socket: Any = None
        self._open()

    def _open(self) -> None:
        self._connection = ExitStack()
        try:
            connecting = self._connect(
                self._url,
                open_timeout=self._connect_seconds,
                close_timeout=1,
                ping_interval=None,  # a server that is busy with a step need not answer pings; each wait has a deadline of its own
                max_size=LARGEST,
                additional_headers=self._headers,
            )
            self._socket = self._connection.enter_context(connecting)
            patience = struct.pack("ll", int(self._seconds), int(self._seconds % 1 * 1e6))
            self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)  # of a server that does not read
        except Exception as error:  # the client raises errors of its own and those of sockets
            raise EnvError(_unreachable(self._url, error)) from error

    def reset(self, **options: Any) -> Seen:
        """Begin an episode; waits for a place where the server is full.

        Raises:
            EnvError: the server does not answer in time, or has no place, or broke.
        """
        until = SYSTEM_CLOCK.now() + self._place_seconds
        while True:
            try:
                return self._seen("reset", options)
            except _Full as error:
                self._hang_up()
                if SYSTEM_CLOCK.now() >= until:
                    raise EnvError(
                        f"{self.base}: {error}; play fewer episodes at once (rollout.in_flight), or give it more places"
                    ) from error
            except _Refused as error:
                raise EnvError(f"{self.base} refuses the reset: {error}") from error
            SYSTEM_CLOCK.sleep(_PAUSE)
            self._open()

    def step(self, action: dict[str, Any]) -> Seen:
        """Hand one action in.

        Raises:
            BadAction: the server says that it is not right.
            EnvError: the server does not answer in time, or broke.
        """
        try:
            return self._seen("step", action)
        except _Full as error:
            raise EnvError(f"{self.base}: {error}") from error
        except _Refused as error:
            raise BadAction(str(error)) from error

    def _seen(self, kind: str, data: dict[str, Any]) -> Seen:
        answer = self._ask({"type": kind, "data": data})
        found = answer.get("data")
        if answer.get("type") == "error":
            self._failed(kind, found if isinstance(found, dict) else {"message": found})
        if answer.get("type") != "observation" or not isinstance(found, dict):
            raise EnvError(f"{self.base} answered a {kind} with {str(answer)[:200]}")
        observation = found.get("observation")
        shown = observation if isinstance(observation, dict) else {} if observation is None else {"text": observation}
        return Seen({**shown, **_metadata(found)}, self._number(found.get("reward")), found.get("done") is True)

    def _failed(self, kind: str, told: dict[str, Any]) -> None:
        code, message = told.get("code"), str(told.get("message") or "no reason given")
        if code == "CAPACITY_REACHED":
            raise _Full(message)
        if code in ("VALIDATION_ERROR", "EXECUTION_ERROR"):
            raise _Refused("; ".join([message, *_details(told.get("errors"))]))
        raise EnvError(f"{self.base} failed in a {kind}: {code}: {message}")

    def _number(self, reward: Any) -> float:
        value = 0.0 if reward is None else float(reward) if isinstance(reward, int | float) else math.nan
        if not math.isfinite(value):
            raise EnvError(f"{self.base} gave the reward {reward!r}; it must be a finite number")
        return value

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._closed or self._socket is None:
            raise EnvError(f"the session with {self.base} was closed")
        try:
            with suppress(Exception):  # it may be closed already, and what it said before is why
                self._socket.send(json.dumps(message))
            answer = json.loads(self._socket.recv(timeout=self._seconds))
        except TimeoutError as error:
            self.close()
            raise EnvError(f"{self.base} did not answer a {message['type']} within {self._seconds:g} s") from error
        except ValueError as error:
            self.close()
            raise EnvError(f"{self.base} sent what is no JSON: {error}") from error
        except Exception as error:  # the client's own: the connection is gone
            self.close()
            raise EnvError(f"the session with {self.base} broke in a {message['type']}: {error}") from error
        if not isinstance(answer, dict):
            raise EnvError(f"{self.base} sent {str(answer)[:200]}, which is no message")
        return answer

    def _hang_up(self) -> None:
        open_one, self._socket = self._socket, None
        if open_one is not None:
            with suppress(Exception):
                open_one.send('{"type": "close"}')
            with suppress(Exception):
                self._connection.close()

    def close(self) -> None:
        """Give the place on the server back; more than once is no harm."""
        self._closed = True
        self._hang_up()


class _Full(Exception):
    """No place on the server."""


class _Refused(Exception):
    """The server raised at what it was sent."""


def _metadata(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"metadata": data["metadata"]} if isinstance(data.get("metadata"), dict) else {}


def _details(errors: Any) -> list[str]:
    """Of a failed validation, in words."""
    found = []
    for each in errors if isinstance(errors, list) else ():
        if isinstance(each, dict):
            place = ".".join(str(part) for part in each.get("loc") or ())
            found.append(f"{place!r}: {each.get('msg')}" if place else str(each.get("msg")))
    return found
