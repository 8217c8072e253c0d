"""env=openenv: recorded frames of a real server, a game of our own, and servers that misbehave."""

from __future__ import annotations

import socket as sockets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from foreign_worlds import play_twenty, train_two_steps, trained
from pydantic import ValidationError
from websockets.utils import accept_key

from agentdistill.config import compose_train
from agentdistill.env import check_env
from agentdistill.errors import ConfigError, EnvError
from agentdistill.interop.openenv import OpenEnvConfig, OpenEnvEnv
from agentdistill.interop.openenv.acting import acting, called, readable, tools_listed
from agentdistill.interop.openenv.wire import Session, addresses
from agentdistill.policy.protocol import Request
from agentdistill.types import Message, StopReason, Task, ToolCall

from .servers import FRAMES, GUESS_SCHEMA, Server, guessing, recorded

Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start("good")``: the game; ``start(frames="say")``: recorded frames."""
    made: list[Server] = []

    def start(mode: str = "good", *, frames: str = "", places: int = 99, schema: Any = GUESS_SCHEMA, status: int = 200) -> Server:
        session = recorded(frames) if frames else guessing(mode, places)(lambda: made[index].open)
        index = len(made)
        made.append(Server(session, FRAMES["schema"][frames] if frames else schema, status))
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.fixture
def make() -> Iterator[Callable[..., OpenEnvEnv]]:
    made: list[OpenEnvEnv] = []

    def make(server: Server | None = None, **changes: Any) -> OpenEnvEnv:
        made.append(OpenEnvEnv(OpenEnvConfig(**({"url": server.url} if server else {}), **{"count": 20, "place_timeout": 0.0, **changes})))
        return made[-1]

    yield make
    for env in made:
        env.close()


Make = Callable[..., OpenEnvEnv]


def task(seed: int = 3) -> dict[str, Any]:
    return {"task": Task(id="t", env="openenv", prompt=(Message.user("x"),), data={"seed": seed})}


def call(name: str, **arguments: Any) -> Message:
    return Message.assistant("", ToolCall(id="a", name=name, arguments=arguments))


# ---- as a real server speaks -----------------------------------------------------------------------------------------------------


def test_an_action_of_one_text_is_what_the_model_says(start: Start, make: Make) -> None:
    env = make(start(frames="say"), success_at=1.0)
    assert env.tools == ()
    observation, _ = env.reset(options=task())
    assert observation == (Message.user('{"text": "Say 3", "seen": 0}'),)
    assert env.step("x")[:4] == ((Message.user('{"text": "wrong", "seen": 1}'),), 0.0, False, False)
    assert env.step("boom")[0] == (Message.user("Error: boom happened"),)
    observation, reward, done, _, info = env.step("3")
    assert (observation[0].content, reward, done, info["success"], info["reward_parts"]) == (
        '{"text": "right", "seen": 3}',
        1.0,
        True,
        True,
        {"reward": 1.0},
    )


def test_an_action_of_several_fields_is_a_tool(start: Start, make: Make) -> None:
    env = make(start(frames="move"), success_at=None)
    (tool,) = env.tools
    assert tool.model_dump() == {
        "name": "act",
        "description": "Act in the environment.",
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"x": {"type": "integer", "description": "column"}, "label": {"type": "string", "default": "a"}},
            "required": ["x"],
        },
    }
    env.reset(options=task())
    assert env.step(call("act", x=1, label="b"))[:2] == (
        (Message(role="tool", content='{"text": "b1", "seen": 1}', tool_call_id="a", name="act"),),
        -0.1,
    )
    assert env.step(call("act", x="q"))[4]["tool_results"][0].content == "Error: bad arguments for act: 'x' must be integer, got \"q\""
    assert env.step("left")[0] == (Message.user("Call a tool to act; there are: act."),)
    both = Message.assistant("", *(ToolCall(id=id, name="act", arguments={"x": 3}) for id in "ab"))
    _, reward, done, _, info = env.step(both)
    assert (reward, done, info["success"]) == (1.0, True, None)
    assert [result.content for result in info["tool_results"]] == ['{"text": "a3", "seen": 2}', "Error: not run: the episode is over"]


def test_an_environment_of_mcp_brings_its_tools(start: Start, make: Make) -> None:
    server = start(frames="mcp")
    env = make(server)
    assert [tool.name for tool in env.tools] == ["add", "fail"]
    assert server.idle()
    observation, _ = env.reset(options=task())
    assert observation == (Message.user("ready"),)
    assert env.step(call("add", a=1))[4]["tool_results"][0].content == "2"
    failed = env.step(call("fail", why="because"))[4]["tool_results"][0]
    assert (failed.content, failed.error) == ("Error: Error calling tool 'fail': because", "tool_error")
    assert env.step(call("add", a="zz"))[4]["tool_results"][0].error == "bad_arguments"


def test_what_the_server_says_of_a_bad_action_is_told_to_the_model(start: Start, make: Make) -> None:
    env = make(start(frames="say"), actions="text", text_field="text")
    env.reset(options=task())
    assert env.step("y")[0] == (Message.user("Error: Invalid message; 'message': Field required; 'text': Extra inputs are not permitted"),)


# ---- the contract, whole episodes, and training --------------------------------------------------------------------------------------


def test_it_keeps_the_contract_of_environments(start: Start) -> None:
    server = start()
    check_env(OpenEnvEnv, config=OpenEnvConfig(url=server.url, count=20, success_at=1.0))
    assert server.idle()


def guess_well(request: Request) -> str:
    return request.messages[0].content.removeprefix("Say ") if request.turn else "first a wrong one"


@pytest.mark.parametrize("workers", [0, 4])
def test_twenty_episodes_are_played_and_every_place_is_given_back(start: Start, workers: int) -> None:
    server = start()
    episodes = play_twenty(OpenEnvEnv, OpenEnvConfig(url=server.url.replace("http", "ws"), success_at=1.0), guess_well, workers=workers)
    assert [(episode.reward, episode.success, len(episode.turns), episode.stop) for episode in episodes] == [
        (1.0, True, 2, StopReason.COMPLETED)
    ] * 20
    assert server.begun == 20
    assert server.most <= 8
    assert server.idle()


@pytest.mark.ci
def test_a_student_trains_on_it(start: Start, tmp_path: Path) -> None:
    server = start()
    run = train_two_steps(tmp_path, "env=openenv", f"env.url={server.url}", "method=grpo", "method.group_size=2")
    assert trained(run) == 2
    assert server.idle()


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["say", "move", "mcp"])
def test_a_real_server_keeps_the_contract(kind: str) -> None:
    """Where the package openenv is installed; the frames were recorded from this very server."""
    import subprocess

    pytest.importorskip("openenv")
    with sockets.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(Path(__file__).parent / "real_server.py"), kind, str(port)])
    try:
        for _ in range(600):
            with sockets.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        check_env(OpenEnvEnv, config=OpenEnvConfig(url=f"127.0.0.1:{port}", count=20))
    finally:
        process.terminate()
        process.wait(10)


# ---- servers that misbehave ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("hang", "did not answer a {} within 0.3 s"),
        ("garbage", "sent what is no JSON"),
        ("list", r"sent \[1\], which is no message"),
        ("odd", "answered a {} with .*telegram"),
        ("drop", "the session with .* broke in a {}"),
        ("nan", "gave the reward nan; it must be a finite number"),
        ("session", "failed in a {}: SESSION_ERROR: lost"),
        ("bare", "failed in a {}: None: just words"),
        ("full", "no room"),
    ],
)
@pytest.mark.parametrize("kind", ["reset", "step"])
def test_a_fault_of_the_server_costs_the_episode_and_no_place(start: Start, make: Make, mode: str, told: str, kind: str) -> None:
    server = start(f"{mode} {kind}")
    env = make(server, message_timeout=0.3)
    play = partial(env.reset, options=task()) if kind == "reset" else lambda: (env.reset(options=task()), env.step("1"))
    with pytest.raises(EnvError, match=told.format(kind)):
        play()
    assert server.idle()


def test_a_tool_whose_action_the_server_refuses_is_told(start: Start, make: Make) -> None:
    env = make(start("raise step"), actions="tool")
    env.reset(options=task())
    result = env.step(call("act", message="1"))[4]["tool_results"][0]
    assert (result.content, result.error) == ("Error: list index out of range", "tool_error")
    assert env.step(call("act", message="1", other=2))[4]["tool_results"][0].error == "bad_arguments"


def test_a_tool_that_says_nothing_is_shown_so(start: Start, make: Make) -> None:
    env = make(start(), actions="tool")
    env.reset(options=task())
    _, reward, done, _, info = env.step(call("act", message="3"))
    assert (info["tool_results"][0].content, reward, done) == ("(nothing)", 1.0, True)


@pytest.mark.parametrize(("success_at", "verdict"), [(1.0, False), (None, None)])
def test_an_episode_that_is_cut_has_failed_where_there_is_a_notion_of_success(
    start: Start, make: Make, success_at: Any, verdict: Any
) -> None:
    env = make(start(), success_at=success_at, max_turns=1)
    env.reset(options=task())
    assert env.step("no")[4]["success"] is verdict


def test_a_reset_that_raises_is_a_fault_and_a_step_that_raises_is_told(start: Start, make: Make) -> None:
    with pytest.raises(EnvError, match="refuses the reset: list index out of range"):
        make(start("raise reset")).reset(options=task())
    env = make(start("raise step"))
    env.reset(options=task())
    assert env.step("1")[0] == (Message.user("Error: list index out of range"),)


def test_an_episode_that_is_done_before_it_begins_is_a_fault(start: Start, make: Make) -> None:
    with pytest.raises(EnvError, match="is done before it has begun"):
        make(start("done at once")).reset(options=task())


def test_an_observation_that_is_bare_text_is_shown_as_it_is(start: Start, make: Make) -> None:
    env = make(start("text step"))
    env.reset(options=task())
    assert env.step("1")[:2] == ((Message.user("bare text"),), 1.0)


def test_a_full_server_is_asked_again_until_there_is_room(start: Start, make: Make) -> None:
    server = start(places=1)
    env, other = make(server), make(server, place_timeout=10.0)
    env.reset(options=task())
    with pytest.raises(EnvError, match=r"Server at capacity: 1/1.*play fewer episodes at once \(rollout.in_flight\)"):
        make(server).reset(options=task())
    threading.Timer(0.5, env.close).start()
    observation, _ = other.reset(options=task())
    assert observation[0].content.startswith("Say ")


def test_why_a_server_hung_up_at_once_is_heard(start: Start) -> None:
    server = start(places=0)
    session = Session(server.url, connect_seconds=5, seconds=5, place_seconds=0, headers={})
    assert server.idle()
    time.sleep(0.1)
    with pytest.raises(EnvError, match=r"Server at capacity: 0/0 .*play fewer episodes"):
        session.reset(seed=0)


def test_a_server_that_does_not_read_is_given_up() -> None:
    with sockets.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        accepted: list[Any] = []

        def greet() -> None:
            connection, _ = deaf.accept()
            accepted.append(connection)
            request = connection.recv(65536).decode()
            key = request.split("Sec-WebSocket-Key: ")[1].split()[0]
            head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            connection.sendall(f"{head}Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode())

        threading.Thread(target=greet, daemon=True).start()
        session = Session(f"127.0.0.1:{deaf.getsockname()[1]}", connect_seconds=5, seconds=0.3, place_seconds=0, headers={})
        began = time.monotonic()
        with pytest.raises(EnvError, match=r"did not answer a step within 0\.3 s|broke in a step"):
            session.step({"message": "x" * 50_000_000})
        assert time.monotonic() - began < 5
        accepted[0].close()


def test_nobody_there_is_told_in_one_sentence(make: Make) -> None:
    with sockets.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for actions, where in (("auto", f"http://127.0.0.1:{port}"), ("mcp", f"ws://127.0.0.1:{port}/ws")):
        with pytest.raises(EnvError, match=rf"^no OpenEnv server answers at {where} \(.*refused.*\); start it, or set env.url"):
            assert make(url=f"127.0.0.1:{port}", actions=actions).tools
    with pytest.raises(ConfigError, match="no OpenEnv server answers at http"):
        OpenEnvEnv.load_tasks(OpenEnvConfig(url=f"127.0.0.1:{port}", actions="text", text_field="x"), "train")


def test_an_episode_after_the_server_came_back_connects_anew(start: Start, make: Make) -> None:
    server = start("drop step")
    env = make(server)
    for _ in range(2):
        env.reset(options=task())
        with pytest.raises(EnvError, match="broke in a step"):
            env.step("1")
    assert server.begun == 2


def test_a_closed_environment_says_so_and_begins_anew(start: Start, make: Make) -> None:
    env = make(start())
    env.reset(options=task())
    env.close()
    with pytest.raises(EnvError, match="the session was closed"):
        env.step("1")
    env.reset(options=task())
    assert env.step("nope")[0] == (Message.user("No."),)


@pytest.mark.parametrize(
    ("schema", "status", "told"),
    [
        (None, 200, "/schema answers with HTTP status 404"),
        ("not json", 200, "/schema is no JSON"),
        ({"observation": {}}, 200, "/schema has no schema of actions"),
        ({"action": {}}, 500, "HTTP status 500"),
    ],
)
def test_a_schema_that_is_none_is_told(start: Start, make: Make, schema: Any, status: int, told: str) -> None:
    with pytest.raises(EnvError, match=told):
        assert make(start(schema=schema, status=status)).tools


def test_a_server_without_schema_can_be_played_where_the_field_is_named(start: Start, make: Make) -> None:
    env = make(start(schema=None), actions="text", text_field="message", system="Be brief.")
    observation, _ = env.reset(seed=0)
    assert observation[0] == Message.system("Be brief.")
    assert env.step("nope")[0] == (Message.user("No."),)


def test_tools_that_cannot_be_listed_are_told(start: Start, make: Make) -> None:
    with pytest.raises(EnvError, match=r"does not list its tools: list index out of range; set env.actions=text"):
        assert make(start("raise step"), actions="mcp").tools


# ---- schemas and observations ------------------------------------------------------------------------------------------------------------


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("fields", "wanted", "text_field", "kind"),
    [
        ({"a": TEXT}, "auto", "", "text"),
        ({"a": {"anyOf": [TEXT, {"type": "null"}]}}, "auto", "", "text"),
        ({"a": TEXT, "metadata": {"type": "object"}}, "auto", "", "text"),
        ({"a": {"enum": ["x"], "type": "string"}}, "auto", "", "tool"),
        ({"a": NUMBER}, "auto", "", "tool"),
        ({"a": TEXT, "b": NUMBER}, "auto", "", "tool"),
        ({"a": TEXT, "b": NUMBER}, "auto", "a", "text"),
        ({"a": TEXT, "b": NUMBER}, "text", "", "text"),
        ({"a": TEXT}, "tool", "", "tool"),
        ({}, "auto", "", "mcp"),
        ({"tool_name": TEXT, "arguments": {"type": "object"}, "type": {"const": "call_tool"}}, "auto", "", "mcp"),
        ({"a": TEXT}, "mcp", "", "mcp"),
    ],
)
def test_how_a_model_acts_follows_from_the_schema(fields: Any, wanted: Any, text_field: str, kind: str) -> None:
    how = acting({"type": "object", "properties": fields}, wanted=wanted, text_field=text_field)
    assert how.kind == kind
    assert how.text_field == ("a" if kind == "text" else "")
    assert list(how.tools) == (["act"] if kind == "tool" else [])


@pytest.mark.parametrize(
    ("fields", "text_field", "told"),
    [
        ({"a": TEXT, "b": TEXT}, "", r"has 2 fields of text; set env.text_field to one of its fields \(a, b\)"),
        ({"a": TEXT}, "c", "has no field 'c'"),
    ],
)
def test_a_text_that_could_be_any_field_is_asked_about(fields: Any, text_field: str, told: str) -> None:
    with pytest.raises(EnvError, match=told):
        acting({"properties": fields}, wanted="text", text_field=text_field)


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        ({"message": "hello", "done": True, "reward": 1, "metadata": {"id": 1}}, "hello"),
        ({"board": [1, 2], "none": None}, '{"board": [1, 2]}'),
        ({"zero": 0, "no": False}, '{"zero": 0, "no": false}'),
        ({"metadata": {"status": "ready"}}, "ready"),
        ({"metadata": {"a": 1, "b": ""}}, '{"a": 1}'),
        ({"metadata": None}, ""),
        ({}, ""),
    ],
)
def test_an_observation_is_readable(observation: Any, text: str) -> None:
    assert readable(observation) == text


@pytest.mark.parametrize(
    ("observation", "text", "failed"),
    [
        ({"result": "plain"}, "plain", False),
        ({"result": {"a": 1}}, '{"a": 1}', False),
        ({"result": 0}, "0", False),
        ({"result": None, "metadata": {"note": "n"}}, "n", False),
        ({"result": {"content": [], "structuredContent": {"a": 1}, "isError": True}}, '{"a": 1}', True),
        ({"error": "text"}, "text", True),
        ({"error": {}}, "the tool failed and says nothing", True),
    ],
)
def test_a_call_of_a_tool_comes_back_in_words(observation: Any, text: str, failed: bool) -> None:
    assert called(observation) == (text, failed)


@pytest.mark.parametrize("tools", [None, [], [{"title": "no name"}]])
def test_an_environment_of_mcp_without_tools_is_told(tools: Any) -> None:
    with pytest.raises(EnvError, match="takes calls of tools and lists none"):
        tools_listed({"tools": tools})


# ---- configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "http", "socket"),
    [
        ("localhost:80", "http://localhost:80", "ws://localhost:80/ws"),
        ("http://h/base/", "http://h/base", "ws://h/base/ws"),
        ("wss://h/ws?token=1", "https://h", "wss://h/ws?token=1"),
        ("ws://h:1", "http://h:1", "ws://h:1/ws"),
    ],
)
def test_an_address_may_be_written_in_many_ways(url: str, http: str, socket: str) -> None:
    assert addresses(url) == (http, socket)


@pytest.mark.parametrize("url", ["ftp://h", "http://", "://x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="is no address of a server; give http://host:port"):
        OpenEnvConfig(url=url)


def test_without_a_server_it_says_what_it_needs() -> None:
    for act in (lambda: OpenEnvEnv.load_tasks(OpenEnvConfig(), "train"), lambda: OpenEnvEnv().reset(options=task())):
        with pytest.raises(ConfigError, match=r"env 'openenv' needs a server: set env.url"):
            act()


def test_the_command_line_reaches_it() -> None:
    env: Any = compose_train(["env=openenv", "env.url=localhost:8000", "env.reset.level=2", "env.actions=text"]).config.env
    assert (type(env), env.url, env.reset, env.actions) == (OpenEnvConfig, "localhost:8000", {"level": 2}, "text")


def test_what_reset_is_told_reaches_the_server(start: Start, make: Make) -> None:
    heard: list[Any] = []

    def session(socket: Any) -> None:
        heard.append(socket.recv())
        socket.send('{"type": "observation", "data": {"observation": {"message": "hi"}}}')

    server = Server(session, GUESS_SCHEMA)
    env = make(server, reset={"level": 2})
    env.reset(options=task(seed=9))
    assert heard == ['{"type": "reset", "data": {"seed": 9, "level": 2}}']
    env.close()
    server.close()
