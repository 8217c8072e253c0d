"""A server of the standard library alone, which can misbehave: ``python tiny.py MODE``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
count = 0


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def tool(name: str, schema: Any, description: str = "A tool.") -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": schema}


TOOLS = [
    tool("add", {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}),
    tool("count", {"type": "object"}, "Counts its calls."),
    tool("do", {"type": "object", "properties": {"what": {"type": "string"}}}, "Misbehaves."),
]


def text(value: object, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": str(value)}], **more}


def call(id: Any, name: str, arguments: dict[str, Any]) -> None:
    global count
    if name == "add":
        say({"id": id, "result": text(arguments["a"] + arguments["b"])})
    elif name == "count":
        count += 1
        say({"id": id, "result": text(count)})
    elif name == "do":
        do(id, arguments.get("what", ""))
    else:
        say({"id": id, "error": {"code": -32602, "message": f"unknown tool {name}"}})


def do(id: Any, what: str) -> None:
    if what == "hang":
        time.sleep(600)
    elif what == "crash":
        sys.stderr.write("a last word\n")
        sys.stderr.flush()
        os._exit(3)
    elif what == "leave child":
        child = subprocess.Popen(["sleep", "600"])
        say({"id": id, "result": text(child.pid)})
    elif what == "flood":
        while True:
            say({"method": "notifications/message", "params": {"data": "x" * 1000}})
    elif what == "one line":
        while True:
            sys.stdout.write("x" * 1_000_000)
    elif what == "whisper":
        for _ in range(2000):
            sys.stderr.write("y" * 1000 + "\n")
        say({"id": id, "result": text("said")})
    elif what == "garbage":
        sys.stdout.write('{"jsonrpc": \nnot json at all\n[1, 2]\n"text"\n\n{"id": 1, "result": {}}\n')
        say({"id": id, "result": text("after garbage")})
    elif what == "no result":
        say({"id": id, "result": "text"})
    elif what == "quit":
        say({"id": id, "result": text("bye")})
        sys.exit(0)
    elif what == "change":
        TOOLS.insert(0, tool("fresh", {}))
        say({"method": "notifications/tools/list_changed"})
        say({"id": id, "result": text("changed")})
    elif what == "ask":
        say({"id": "mine", "method": "ping"})
        say({"id": 77, "method": "sampling/createMessage", "params": {}})
        answers = [json.loads(sys.stdin.readline()) for _ in range(2)]
        say({"id": id, "result": text(json.dumps(answers))})
    elif what == "structured":
        say({"id": id, "result": {"content": [], "structuredContent": {"a": [1]}}})
    elif what == "deafen":
        sys.stdin.close()
        os.close(0)
        say({"id": id, "result": text("deaf now")})
        time.sleep(600)
    elif what == "empty":
        say({"id": id, "result": {"content": None}})
    elif what == "error":
        say({"id": id, "result": text("that is wrong", isError=True)})
    elif what == "strange error":
        say({"id": id, "error": "just text"})
    elif what == "batch":
        sys.stdout.write(json.dumps([{"jsonrpc": "2.0", "id": id, "result": text("in a batch")}]) + "\n")
        sys.stdout.flush()
    elif what == "variables":
        say({"id": id, "result": text(json.dumps([os.environ.get("SECRET"), os.environ.get("GIVEN"), str(Path.cwd())]))})
    else:
        say({"id": id, "result": text("nothing done")})


def handle(message: dict[str, Any]) -> None:
    method, id = message.get("method"), message.get("id")
    if method == "initialize":
        if MODE == "refuse":
            say({"id": id, "error": {"code": -32603, "message": "not today"}})
        elif MODE == "stateless":
            say({"id": id, "error": {"code": -32022, "message": "unsupported", "data": {"supported": ["2026-07-28"]}}})
        else:
            version = "1999-01-01" if MODE == "old" else message["params"]["protocolVersion"]
            say(
                {
                    "id": id,
                    "result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "t", "version": "1"}},
                }
            )
    elif method == "tools/list":
        listing(id, message.get("params", {}))
    elif method == "tools/call":
        if MODE == "stateless":
            assert message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        call(id, message["params"]["name"], message["params"]["arguments"])
    elif method == "ping":
        say({"id": id, "result": {}})


def listing(id: Any, params: dict[str, Any]) -> None:
    if MODE == "pages":
        page = int(params.get("cursor", 0))
        more = {"nextCursor": str(page + 1)} if page < 2 else {}
        say({"id": id, "result": {"tools": [TOOLS[page]], **more}})
    elif MODE == "endless":
        say({"id": id, "result": {"tools": [], "nextCursor": "again"}})
    elif MODE == "odd":
        odd = [{"name": "a/b c"}, {"name": "a b/c"}, {"name": "9"}, {"name": "数"}, {"name": 7}, "text", tool("s", {"type": "string"}, "")]
        say({"id": id, "result": {"tools": odd}})
    elif MODE == "none":
        say({"id": id, "error": {"code": -32601, "message": "no tools here"}})
    elif MODE == "no list":
        say({"id": id, "error": {"code": -32603, "message": "lost it"}})
    elif MODE == "silent list":
        return
    else:
        say({"id": id, "result": {"tools": TOOLS}})


if MODE == "dies at once":
    sys.stderr.write("cannot find my configuration\n")
    sys.exit(2)
if MODE == "silent":
    time.sleep(600)
if MODE == "stubborn":
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    handle(json.loads(line))
if MODE == "stubborn":
    while True:
        time.sleep(60)
