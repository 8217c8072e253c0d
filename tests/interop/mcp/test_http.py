"""Servers over streamable HTTP: one made with the SDK, and one that misbehaves."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from foreign_worlds import play_twenty

from agentdistill.env import check_env
from agentdistill.errors import EnvError
from agentdistill.interop.mcp import MCPEnv
from agentdistill.interop.mcp import http as http_module
from agentdistill.interop.mcp.http import HttpTransport
from agentdistill.types import Message, ToolCall

from .conftest import HERE, Make, begin

TOOLS = [
    {
        "name": "add",
        "description": "Adds.",
        "inputSchema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    }
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode: str
    log: list[tuple[str, dict[str, str], Any]]

    def log_message(self, *_: Any) -> None:
        return

    def do_DELETE(self) -> None:
        self.log.append(("DELETE", dict(self.headers), None))
        self._empty(200)

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.log.append((str(message.get("method")), {key.lower(): value for key, value in self.headers.items()}, message))
        if self.mode == "moved" and self.path == "/mcp":
            self.send_response(307)
            self.send_header("Location", "/mcp/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.mode in ("elsewhere", "circle"):
            self.send_response(307)
            self.send_header("Location", "http://other.invalid/mcp" if self.mode == "elsewhere" else "/mcp")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "id" not in message or "method" not in message:
            self._empty(202)
            return
        getattr(self, f"_{message['method'].replace('/', '_')}")(message)

    def _initialize(self, message: Any) -> None:
        if self.mode == "no mcp":
            self._send(b"<html>hello</html>", "text/html", 404)
        elif self.mode == "hang up":
            self.close_connection = True
        elif self.mode == "stateless":
            self._json({"id": message["id"], "error": {"code": -32601, "message": "no initialize"}}, 404)
        else:
            self._json({"id": message["id"], "result": {"protocolVersion": "2025-06-18", "capabilities": {}}}, session="s-1")

    def _tools_list(self, message: Any) -> None:
        self._json({"id": message["id"], "result": {"tools": TOOLS}})

    def _ping(self, message: Any) -> None:
        self._json({"id": message["id"], "result": {}}) if self.mode != "deaf" else time.sleep(5)

    def _tools_call(self, message: Any) -> None:
        total = {"content": [{"type": "text", "text": str(sum(message["params"]["arguments"].values()))}]}
        answer = {"id": message["id"], "result": total}
        if self.mode == "forgotten":
            self._send(b"", "text/plain", 404)
        elif self.mode in ("slow", "deaf"):
            time.sleep(1.5)
            self._json(answer)
        elif self.mode == "drip":
            self._stream(b": still here\n\n" for _ in range(30))
        elif self.mode == "broken":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b'{"jsonrpc"')
            self.close_connection = True
        elif self.mode == "flood":
            self._stream(b"data: " + b"x" * 100_000 for _ in range(1000))
        elif self.mode == "stream":
            parts = [{"id": 5, "method": "ping"}, {"method": "notifications/tools/list_changed"}, answer]
            events = [f"event: message\r\nid: 1\r\ndata: {json.dumps({'jsonrpc': '2.0', **part})}\r\n\r\n".encode() for part in parts]
            whole = b"retry: 5\r\n\r\ndata:\r\n\r\ndata: not json\r\n\r\n" + b"".join(events)
            self._stream(whole[index : index + 7] for index in range(0, len(whole), 7))
        elif self.mode == "empty stream":
            self._stream(iter(()))
        else:
            self._json(answer)

    def _stream(self, chunks: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in chunks:
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                if self.mode == "drip":
                    time.sleep(0.1)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def _json(self, message: Any, status: int = 200, session: str | None = None) -> None:
        self._send(json.dumps({"jsonrpc": "2.0", **message}).encode(), "application/json", status, session)

    def _send(self, body: bytes, kind: str, status: int, session: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if session:
            self.send_header("Mcp-Session-Id", session)
        self.end_headers()
        self.wfile.write(body)

    def _empty(self, status: int) -> None:
        self._send(b"", "text/plain", status)


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Whoever was spoken to has hung up."""


class Fake:
    """A server on this machine."""

    def __init__(self, mode: str) -> None:
        self.log: list[tuple[str, dict[str, str], Any]] = []
        handler = type("Mode", (Handler,), {"mode": mode, "log": self.log})
        self.server = Quiet(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/mcp"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fake() -> Iterator[Any]:
    made: list[Fake] = []

    def make(mode: str = "good") -> Fake:
        made.append(Fake(mode))
        return made[-1]

    yield make
    for each in made:
        each.close()


def add(env: MCPEnv, **arguments: int) -> Any:
    return env.step(Message.assistant("", ToolCall(id="a", name="add", arguments=arguments or {"a": 1, "b": 2})))[4]["tool_results"][0]


@pytest.mark.parametrize("mode", ["good", "stream", "moved", "stateless"])
def test_an_answer_comes_as_json_or_among_events(fake: Any, make: Make, mode: str) -> None:
    server = fake(mode)
    env = make(command=(), url=server.url)
    begin(env)
    assert add(env, a=2, b=3).content == "5"


def test_session_version_and_headers_are_in_every_request_until_the_goodbye(fake: Any, make: Make) -> None:
    server = fake("stream")
    env = make(command=(), url=server.url, headers={"Authorization": "Bearer x"})
    begin(env)
    add(env)
    env.close()
    methods = [method for method, _, _ in server.log]
    assert methods == ["initialize", "notifications/initialized", "tools/list", "tools/call", "None", "DELETE"]
    later = [headers for method, headers, _ in server.log[1:-1]]
    assert {(each["mcp-session-id"], each["mcp-protocol-version"], each["authorization"]) for each in later} == {
        ("s-1", "2025-06-18", "Bearer x")
    }
    assert server.log[4][2] == {"jsonrpc": "2.0", "id": 5, "result": {}}


def test_a_request_without_handshake_says_what_it_is_in_its_headers(fake: Any) -> None:
    transport = HttpTransport(fake().url)
    transport.speak("2026-07-28")
    call = {"method": "tools/call", "params": {"name": "数 a"}}
    assert transport._headers(call)["Mcp-Name"] == "=?base64?5pWwIGE=?="
    assert transport._headers({"method": "tools/call", "params": {"name": "add"}})["Mcp-Name"] == "add"
    assert "Mcp-Name" not in transport._headers({"method": "tools/list", "params": {}})
    assert transport._headers({"method": "tools/list", "params": {}})["Mcp-Method"] == "tools/list"


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("no mcp", r"answered initialize with HTTP status 404 and no message: '<html>"),
        ("hang up", "cannot be reached: RemoteDisconnected.*is it running"),
        ("elsewhere", "sends us on to another host: http://other.invalid/mcp"),
        ("circle", "sends us on more than 3 times"),
    ],
)
def test_a_server_that_does_not_start_is_told_in_one_sentence(fake: Any, make: Make, mode: str, told: str) -> None:
    with pytest.raises(EnvError, match=f"env 'mcp': the MCP server http://127.*{told}"):
        begin(make(command=(), url=fake(mode).url))


def test_a_server_that_is_not_there_is_told_in_one_sentence(make: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EnvError, match=f"the MCP server http://127.0.0.1:{port} cannot be reached: ConnectionRefusedError.*is it running"):
        begin(make(command=(), url=f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("forgotten", "has forgotten the session"),
        ("broken", "broke off its answer: IncompleteRead|answered tools/call with HTTP status 200 and no message"),
        ("flood", "sent more than 1048576 bytes in one message"),
        ("empty stream", "answered tools/call with HTTP status 200 and no message"),
        ("deaf", "hangs in a call of 'add'"),
    ],
)
def test_a_server_that_breaks_in_a_call_costs_the_episode(
    fake: Any, make: Make, mode: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "LONGEST", 1 << 20)
    env = make(command=(), url=fake(mode).url, call_timeout=0.3)
    begin(env)
    with pytest.raises(EnvError, match=told):
        add(env)


@pytest.mark.parametrize("mode", ["slow", "drip"])
def test_a_call_that_takes_too_long_is_told_to_the_model(fake: Any, make: Make, mode: str) -> None:
    server = fake(mode)
    env = make(command=(), url=server.url, call_timeout=0.3)
    begin(env)
    began = time.monotonic()
    result = add(env)
    assert (result.content, result.error) == ("Error: add took longer than 0.3 s and was given up", "tool_error")
    assert time.monotonic() - began < 2
    assert [method for method, _, _ in server.log][-2:] == ["notifications/cancelled", "ping"]


def test_a_closed_transport_says_so() -> None:
    transport = HttpTransport("http://127.0.0.1:1")
    transport.close()
    assert not transport.alive
    with pytest.raises(EnvError, match="was closed"):
        transport.request({"jsonrpc": "2.0", "id": 1, "method": "ping"}, 1.0, lambda message: None)


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """A server made with the SDK."""
    pytest.importorskip("mcp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(HERE / "server.py"), str(port)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.nightly
def test_a_real_server_over_http_keeps_the_contract(shop: str, config: Any) -> None:
    check_env(MCPEnv, config=config(command=(), url=shop, deny=("raise_price", "slow")))


@pytest.mark.ci
def test_a_real_server_over_http_is_played(shop: str, config: Any) -> None:
    chosen = config(command=(), url=shop, allow=("price",))
    episodes = play_twenty(MCPEnv, chosen, lambda request: Message.assistant(str(request.task.answer if request.task else "")))
    assert [episode.reward for episode in episodes] == [1.0] * 20


@pytest.mark.ci
def test_a_real_server_over_stdio_says_all_that_a_result_can_hold(make: Make) -> None:
    pytest.importorskip("mcp")
    env = make(command=(sys.executable, str(HERE / "server.py")), start_timeout=60.0, call_timeout=30.0)
    begin(env)
    calls = [
        ToolCall(id="1", name="price", arguments={"item": "pen", "count": 2}),
        ToolCall(id="2", name="price", arguments={"item": "gold"}),
        ToolCall(id="3", name="odd_name_tool", arguments={"nested": {"a": [1]}}),
        ToolCall(id="4", name="odd_name_tool", arguments={"nested": {"a": "x"}}),
        ToolCall(id="5", name="picture"),
        ToolCall(id="6", name="raise_price", arguments={"item": "pen", "by": 1}),
    ]
    results = env.step(Message.assistant("", *calls))[4]["tool_results"]
    assert [result.error for result in results] == [None, "tool_error", None, "bad_arguments", None, None]
    assert results[0].content == "6"
    assert results[2].content == "{'a': [1]}"
    assert results[4].content == "[image, image/png, 6 bytes, not shown]\na word\n[resource file:///x: x]"
    assert json.loads(results[5].content) == {"pen": 4, "cup": 5}
