"""Servers that are programs: good ones, and all that a bad one can do."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentdistill.errors import ConfigError, EnvError
from agentdistill.interop.mcp import MCPEnv
from agentdistill.interop.mcp import stdio as stdio_module
from agentdistill.types import Message, ToolCall

from .conftest import HERE, Make, begin, command


def do(env: MCPEnv, what: str) -> Any:
    """The one result of ``do(what)``."""
    return env.step(Message.assistant("", ToolCall(id="a", name="do", arguments={"what": what})))[4]["tool_results"][0]


def pid(env: MCPEnv) -> int:
    assert env._own is not None
    found: Any = env._own.transport
    return int(found.process.pid)


def gone(number: int) -> bool:
    """Whether there is no such process, but for one that only waits to be counted."""
    for _ in range(200):
        try:
            if Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


# ---- what it says ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("structured", '{"a": [1]}'),
        ("empty", "(nothing)"),
        ("batch", "in a batch"),
        ("garbage", "after garbage"),
        ("whisper", "said"),
    ],
)
def test_an_answer_is_found_among_whatever_else_is_said(make: Make, what: str, shown: str) -> None:
    env = make()
    begin(env)
    result = do(env, what)
    assert (result.content, result.error) == (shown, None)


@pytest.mark.parametrize(("what", "shown"), [("error", "Error: that is wrong"), ("strange error", "Error: just text")])
def test_a_failed_call_is_told_to_the_model(make: Make, what: str, shown: str) -> None:
    env = make()
    begin(env)
    assert (do(env, what).content, do(env, what).error) == (shown, "tool_error")


def test_what_a_server_asks_in_return_is_answered(make: Make) -> None:
    env = make()
    begin(env)
    pong, refusal = json.loads(do(env, "ask").content)
    assert pong == {"jsonrpc": "2.0", "id": "mine", "result": {}}
    assert refusal["id"] == 77
    assert refusal["error"]["code"] == -32601


def test_a_server_gets_none_of_our_secrets_and_what_it_is_given(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    env = make(variables={"GIVEN": "yes"}, cwd=str(tmp_path))
    begin(env)
    assert json.loads(do(env, "variables").content) == [None, "yes", str(tmp_path.resolve())]


# ---- what it does ------------------------------------------------------------------------------------------------------------


def test_a_server_that_dies_in_a_call_costs_the_episode_and_says_its_last_words(make: Make) -> None:
    env = make()
    begin(env)
    first = pid(env)
    with pytest.raises(EnvError, match=r"env 'mcp': the MCP server '.*' has ended with exit status 3; its last words: 'a last word'"):
        do(env, "crash")
    begin(env)
    assert pid(env) != first
    assert do(env, "nothing").content == "nothing done"


def test_a_server_that_ends_between_two_calls_is_not_replaced_behind_the_episodes_back(make: Make) -> None:
    env = make()
    begin(env)
    assert do(env, "quit").content == "bye"
    assert gone(pid(env))
    with pytest.raises(EnvError, match="has ended between two calls"):
        do(env, "nothing")


def test_a_call_that_hangs_the_server_ends_it(make: Make) -> None:
    env = make(call_timeout=0.3)
    begin(env)
    number, began = pid(env), time.monotonic()
    with pytest.raises(EnvError, match="hangs in a call of 'do'"):
        do(env, "hang")
    assert time.monotonic() - began < 5
    assert gone(number)


@pytest.mark.parametrize("what", ["flood", "one line"])
def test_a_flood_is_cut_off(make: Make, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio_module, "LONGEST", 1 << 20)
    env = make(call_timeout=0.5)
    begin(env)
    number = pid(env)
    with pytest.raises(EnvError, match=r"hangs in a call|without an end of line"):
        do(env, what)
    assert gone(number)


def test_a_server_that_reads_no_more_is_given_up(make: Make) -> None:
    env = make(call_timeout=0.3)
    begin(env)
    assert do(env, "deafen").content == "deaf now"
    with pytest.raises(EnvError, match=r"hangs in a call of 'do'"):
        do(env, "x" * 1_000_000)


def test_a_long_argument_is_written_as_fast_as_it_is_read(make: Make) -> None:
    env = make()
    begin(env)
    assert do(env, "x" * 3_000_000).content == "nothing done"


def test_a_result_that_is_none_is_a_fault_of_the_server(make: Make) -> None:
    env = make()
    begin(env)
    with pytest.raises(EnvError, match="answer to tools/call has no result"):
        do(env, "no result")


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("dies at once", "has ended with exit status 2; its last words: 'cannot find my configuration'"),
        ("silent", "did not answer the handshake within 0.3 s"),
        ("refuse", "refuses the handshake: not today"),
        ("old", "speaks MCP '1999-01-01', and known here are 2024-11-05"),
        ("endless", "list of tools has no end"),
        ("no list", "does not list its tools: lost it"),
        ("silent list", "did not list its tools within 0.3 s"),
    ],
)
def test_a_server_that_does_not_start_is_told_in_one_sentence(make: Make, mode: str, told: str) -> None:
    env = make(mode, start_timeout=0.3 if "silent" in mode else 10.0)
    with pytest.raises(EnvError, match=told) as caught:
        begin(env)
    assert str(caught.value).startswith("env 'mcp': ")
    assert env._own is None
    assert not stdio_module._running


def test_a_program_that_is_not_there_is_the_users_to_mend(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"'/no/such/program x' cannot be started: .*mend env.command"):
        begin(make(command=("/no/such/program", "x")))


# ---- lists of tools ------------------------------------------------------------------------------------------------------------


def test_tools_come_page_by_page(make: Make) -> None:
    assert [tool.name for tool in make("pages").tools] == ["add", "count", "do"]


def test_odd_names_can_be_called(make: Make) -> None:
    env = make("odd")
    assert [tool.name for tool in env.tools] == ["a_b_c", "a_b_c_2", "t_9", "tool", "s"]
    begin(env)
    result = env.step(Message.assistant("", ToolCall(id="a", name="a_b_c_2")))[4]["tool_results"][0]
    assert result.content == "Error: unknown tool a b/c"


def test_a_server_without_tools_has_none(make: Make) -> None:
    assert make("none").tools == ()


def test_a_server_without_handshake_is_spoken_to_with_every_request(make: Make) -> None:
    env = make("stateless", call_timeout=0.3)
    begin(env)
    assert do(env, "nothing").content == "nothing done"


def test_the_tools_of_an_episode_are_those_of_its_beginning(make: Make) -> None:
    env = make(share=True)
    begin(env)
    before = env.tools
    assert do(env, "change").content == "changed"
    assert env.tools == before
    result = env.step(Message.assistant("", ToolCall(id="a", name="fresh")))[4]["tool_results"][0]
    assert result.error == "unknown_tool"
    begin(env)
    assert [tool.name for tool in env.tools] == ["fresh", "add", "count", "do"]


# ---- nothing is left behind -----------------------------------------------------------------------------------------------------


def test_closing_ends_the_server_and_what_it_started(make: Make) -> None:
    env = make()
    begin(env)
    child, number = int(do(env, "leave child").content), pid(env)
    env.close()
    env.close()
    assert gone(number)
    assert gone(child)
    assert not stdio_module._running


def test_a_server_that_does_not_want_to_end_is_made_to(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio_module, "_GRACE", 0.1)
    env = make("stubborn")
    begin(env)
    number = pid(env)
    env.close()
    assert gone(number)


def test_a_call_ends_when_another_thread_closes_the_environment(make: Make) -> None:
    env = make(call_timeout=60.0)
    begin(env)
    number = pid(env)
    failures: list[BaseException] = []

    def hang() -> None:
        try:
            do(env, "hang")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    time.sleep(0.2)
    env.close()
    thread.join(10)
    assert [type(error) for error in failures] == [EnvError]
    assert gone(number)
    assert not stdio_module._running


def test_a_closed_environment_begins_anew(make: Make) -> None:
    env = make()
    begin(env)
    env.close()
    with pytest.raises(EnvError, match="the server was closed"):
        do(env, "nothing")
    begin(env)
    assert do(env, "nothing").content == "nothing done"


def test_no_server_outlives_the_interpreter() -> None:
    script = (
        "from agentdistill.interop.mcp.stdio import StdioTransport\n"
        f"print(StdioTransport({command('stubborn')!r}).process.pid, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=HERE.parents[2])
    assert gone(int(done.stdout))


def test_episodes_have_servers_of_their_own_and_share_one_where_asked(make: Make) -> None:
    def counts(*envs: MCPEnv) -> list[str]:
        found = []
        for env in envs:
            begin(env)
            found.append(env.step(Message.assistant("", ToolCall(id="a", name="count")))[4]["tool_results"][0].content)
        return found

    own, other = make(), make()
    assert counts(own, other, own) == ["1", "1", "1"]
    shared, too = make(share=True), make(share=True)
    assert counts(shared, too, shared) == ["1", "2", "3"]
    shared.close()
    assert counts(too) == ["4"]


def test_a_shared_server_that_died_is_started_again(make: Make) -> None:
    env, other = make(share=True), make(share=True)
    begin(env)
    begin(other)
    with pytest.raises(EnvError, match="exit status 3"):
        do(env, "crash")
    assert do(other, "nothing").content == "nothing done"


def test_a_shared_server_is_used_by_one_thread_at_a_time(make: Make, config: Callable[..., Any]) -> None:
    envs = [make(share=True) for _ in range(6)]
    found: list[str] = []

    def count(env: MCPEnv) -> None:
        begin(env)
        for index in range(5):
            result = env.step(Message.assistant("", ToolCall(id=str(index), name="count")))[4]["tool_results"][0]
            found.append(result.content)

    threads = [threading.Thread(target=count, args=(env,)) for env in envs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(int, found)) == list(range(1, 31))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_twenty_servers_leave_no_file_open(make: Make) -> None:
    env = make()
    begin(env)
    env.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        begin(env)
        do(env, "nothing")
    env.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
