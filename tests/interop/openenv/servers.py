"""OpenEnv servers for tests: one that plays recorded frames of a real one, and a small game that can misbehave."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

FRAMES: dict[str, Any] = json.loads((Path(__file__).parent / "frames.json").read_text())

Serve = Callable[[ServerConnection], None]


class Server:
    """A WebSocket at ``/ws`` and a schema at ``/schema``, on this machine."""

    def __init__(self, session: Serve, schema: Any = None, status: int = 200) -> None:
        self.open = 0
        """Sessions that have not ended."""
        self.most = 0
        self.begun = 0
        self.heard: list[Any] = []
        self._lock = threading.Lock()

        def handle(socket: ServerConnection) -> None:
            with self._lock:
                self.open += 1
                self.begun += 1
                self.most = max(self.most, self.open)
            try:
                session(socket)
            except ConnectionClosed:
                pass
            finally:
                with self._lock:
                    self.open -= 1

        def answer(socket: ServerConnection, request: Any) -> Any:
            if request.path == "/ws":
                return None
            body = schema if isinstance(schema, str) else json.dumps(schema)
            return socket.respond(HTTPStatus(status) if request.path == "/schema" and schema is not None else HTTPStatus.NOT_FOUND, body)

        self._server = serve(handle, "127.0.0.1", 0, process_request=answer)
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def idle(self) -> bool:
        """Whether every session ends."""
        for _ in range(200):
            if self.open == 0:
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        self._server.shutdown()


def messages(socket: ServerConnection) -> Iterator[Any]:
    for text in socket:
        message = json.loads(text)
        if message["type"] == "close":
            return
        yield message


def say(socket: ServerConnection, kind: str, **data: Any) -> None:
    socket.send(json.dumps({"type": kind, "data": data}))


def recorded(name: str) -> Serve:
    """Answers each message as the real server answered its like; a message that was not recorded is an error of the test's."""
    frames = {json.dumps(sent): answer for sent, answer in FRAMES[name]}

    def session(socket: ServerConnection) -> None:
        for message in messages(socket):
            socket.send(json.dumps(frames[json.dumps(message)]))

    return session


GUESS_SCHEMA = {
    "action": {"type": "object", "properties": {"message": {"type": "string"}, "metadata": {"type": "object"}}, "required": ["message"]}
}


def guessing(mode: str = "good", places: int = 99) -> Callable[[Callable[[], int]], Serve]:
    """A game: say the number that was shown, within three steps."""

    def with_count(open_sessions: Callable[[], int]) -> Serve:
        def session(socket: ServerConnection) -> None:
            if open_sessions() > places:
                say(socket, "error", code="CAPACITY_REACHED", message=f"Server at capacity: {places}/{places} sessions active.")
                return
            number = steps = 0
            for message in messages(socket):
                if message["type"] == "reset":
                    number, steps = random.Random(message["data"]["seed"]).randrange(10), 0
                    if misbehaves(socket, mode, "reset"):
                        continue
                    say(socket, "observation", observation={"message": f"Say {number}"}, reward=None, done=mode == "done at once")
                else:
                    steps += 1
                    if misbehaves(socket, mode, "step"):
                        continue
                    right = message["data"].get("message", "").strip() == str(number)
                    text = "" if right else "No."
                    say(socket, "observation", observation={"message": text}, reward=float(right), done=right or steps == 3)

        return session

    return with_count


def misbehaves(socket: ServerConnection, mode: str, kind: str) -> bool:
    """Does what ``mode`` (``hang step``, ``garbage reset``) asks for at this kind of message."""
    what, _, when = mode.rpartition(" ")
    if when != kind:
        return False
    if what == "hang":
        time.sleep(1.0)
    elif what == "garbage":
        socket.send("{not json")
    elif what == "list":
        socket.send("[1]")
    elif what == "odd":
        say(socket, "telegram", text="stop")
    elif what == "drop":
        socket.close()
    elif what == "nan":
        socket.send('{"type": "observation", "data": {"observation": {}, "reward": NaN, "done": false}}')
    elif what == "session":
        say(socket, "error", code="SESSION_ERROR", message="lost")
    elif what == "raise":
        say(socket, "error", code="EXECUTION_ERROR", message="list index out of range")
    elif what == "full":
        say(socket, "error", code="CAPACITY_REACHED", message="no room")
    elif what == "text":
        socket.send('{"type": "observation", "data": {"observation": "bare text", "reward": true, "done": false}}')
    elif what == "bare":
        socket.send('{"type": "error", "data": "just words"}')
    return True
