"""env=mcp: questions, answers and configurations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_worlds import play_twenty, train_two_steps, trained
from pydantic import ValidationError

from agentdistill.config import compose_train
from agentdistill.env import check_env
from agentdistill.errors import ConfigError, EnvError, TaskError
from agentdistill.interop.mcp import MCPConfig, MCPEnv
from agentdistill.interop.mcp import env as env_module
from agentdistill.interop.mcp.client import Client, Late, Refused, shown
from agentdistill.interop.mcp.env import _Holder
from agentdistill.interop.mcp.tasks import Check, right
from agentdistill.policy.protocol import Request
from agentdistill.types import Message, ToolCall

from .conftest import Make, command


def rows(path: Path, *given: Any) -> str:
    path.write_text("\n".join(json.dumps(row) for row in given))
    return str(path)


# ---- the contract, whole episodes, and training --------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [False, True])
def test_it_keeps_the_contract_of_environments(config: Callable[..., MCPConfig], share: bool) -> None:
    check_env(MCPEnv, config=config(share=share, allow=("add",) if share else ("add", "count"), tries=2))


def add_then_answer(request: Request) -> Message | str:
    if request.turn == 0:
        assert request.task is not None
        return Message.assistant("", ToolCall(id="a", name="add", arguments={"a": request.task.data["n"], "b": 2}))
    return request.messages[-1].content


@pytest.mark.parametrize("workers", [0, 4])
def test_twenty_episodes_are_played(config: Callable[..., MCPConfig], workers: int) -> None:
    episodes = play_twenty(MCPEnv, config(share=workers == 0), add_then_answer, workers=workers)
    assert [(episode.reward, episode.success, len(episode.turns)) for episode in episodes] == [(1.0, True, 2)] * 20
    assert all(episode.turns[0].tool_results[0].content == episode.task.answer for episode in episodes)


@pytest.mark.ci
@pytest.mark.parametrize("share", ["false", "true"])
def test_a_student_trains_on_it(tmp_path: Path, questions: Path, share: str) -> None:
    words = ", ".join(json.dumps(word) for word in command())
    run = train_two_steps(
        tmp_path, "env=mcp", f"env.command=[{words}]", f"env.tasks={questions}", f"env.share={share}", "method=grpo", "method.group_size=2"
    )
    assert trained(run) == 2


# ---- answers ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "said", "answer"),
    [
        ("exact", " 12\n", "12"),
        ("exact", "new  york", "new york"),
        ("exact", "12", 12),
        ("exact", "true", True),
        ("exact", "b", ["a", "b"]),
        ("value", "It is 1,234.50 dollars", "1234.5"),
        ("value", "first 3, then −7", -7),
        ("value", "1/4", 0.25),
        ("value", "1e3", 1000),
        ("value", ".5", "0.5"),
        ("value", "Paris", "paris"),
        ("contains", "The capital is Paris.", "paris"),
        ("contains", "so, C++ it is", "C++"),
        ("contains", "new\nyork city", "New York"),
        ("regex", "order #123 is late", r"#\d+ is (late|lost)"),
    ],
)
def test_a_right_answer(check: Check, said: str, answer: Any) -> None:
    assert right(check, said, answer)


@pytest.mark.parametrize(
    ("check", "said", "answer"),
    [
        ("exact", "It is 12", "12"),
        ("exact", "New york", "new york"),
        ("exact", "1", True),
        ("value", "12 or 13", "12"),
        ("value", "no number", "12"),
        ("value", "1/0", "1"),
        ("value", "London", "paris"),
        ("contains", "42", "4"),
        ("contains", "parish", "paris"),
        ("contains", "anything", ""),
        ("contains", "", "x"),
        ("regex", "order 123", r"#\d+"),
        ("exact", "c", ["a", "b"]),
        ("exact", "c", []),
    ],
)
def test_a_wrong_answer(check: Check, said: str, answer: Any) -> None:
    assert not right(check, said, answer)


def test_a_wrong_answer_may_be_mended_where_there_are_tries(make: Make) -> None:
    env = make(tries=2)
    env.reset(seed=0)
    observation, reward, done, _, info = env.step("no")
    assert (observation[0].content, reward, done, info["success"]) == ("Wrong. Try again.", 0.0, False, None)
    assert info["views"].feedback == "The last answer is wrong."
    assert info["views"].answer == env.task.answer
    _, reward, done, _, info = env.step(str(env.task.answer))
    assert (reward, done, info["success"]) == (1.0, True, True)
    env.reset(seed=0)
    env.step("no")
    assert env.step("no")[1:3] == (0.0, True)


def test_a_grader_of_the_users_judges(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    env = make(grader="graders:half")
    env.reset(seed=0)
    _, reward, done, _, info = env.step("a guess")
    assert (reward, done, info["success"]) == (0.5, True, False)
    env.reset(seed=0)
    env.step(Message.assistant("", ToolCall(id="a", name="count")))
    _, reward, _, _, info = env.step(str(env.task.data["n"]))
    assert (reward, info["success"]) == (1.0, True)
    for answer, told in (("raise", "failed: RuntimeError: no idea"), ("nan", "gave nan")):
        env.reset(seed=0)
        with pytest.raises(EnvError, match=f"the grader 'graders:half' {told}"):
            env.step(answer)
    env.reset(seed=0)
    with pytest.raises(TaskError, match="says nothing"):
        env.step("bad row")


# ---- tasks -------------------------------------------------------------------------------------------------------------------------


def test_rows_say_all_that_a_task_can(tmp_path: Path, config: Callable[..., MCPConfig]) -> None:
    row = {"id": 7, "question": "q", "answer": {"a": 1}, "limits": {"turns": 2}, "tags": ["t"], "more": [1]}
    for split in ("train", "val", "test"):
        rows(tmp_path / f"{split}.jsonl", {**row, "id": split})
    task = MCPEnv.load_tasks(config(tasks=str(tmp_path), system=""), "val")[0]
    assert (task.id, task.answer, task.limits.turns, task.tags, task.data) == ("val", {"a": 1}, 2, ("t",), {"more": [1]})
    assert task.prompt == (Message.user("q"),)


@pytest.mark.parametrize("count", [3, 5, 200])
def test_a_single_file_is_split_without_overlap_and_without_an_empty_part(
    tmp_path: Path, config: Callable[..., MCPConfig], count: int
) -> None:
    path = rows(tmp_path / "all.jsonl", *({"question": f"q{index}", "answer": index} for index in range(count)))
    parts = [{task.id for task in MCPEnv.load_tasks(config(tasks=path), split)} for split in ("train", "val", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == count


@pytest.mark.parametrize(
    ("row", "changes", "told"),
    [
        ({"answer": "1"}, {}, "lacks the field 'question'"),
        ({"question": " ", "answer": "1"}, {}, "'question' must be text"),
        ({"question": "q"}, {}, "lacks the field 'answer'; give one, or judge by a function"),
        ({"question": "q", "answer": "("}, {"check": "regex"}, r"the answer '\(' is no pattern"),
        ({"question": "q", "answer": "1", "limits": 3}, {}, "'limits' must be an object"),
        ({"question": "q", "answer": "1", "limits": {"turns": 0}}, {}, "turns"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, config: Callable[..., MCPConfig], row: Any, changes: dict[str, Any], told: str
) -> None:
    path = rows(tmp_path / "bad.jsonl", row)
    with pytest.raises(TaskError, match=rf"bad\.jsonl:1: .*{told}"):
        MCPEnv.load_tasks(config(tasks=path, **changes), "train")


def test_too_few_rows_and_no_file_are_told(tmp_path: Path, config: Callable[..., MCPConfig]) -> None:
    with pytest.raises(TaskError, match="2 rows are too few"):
        MCPEnv.load_tasks(config(tasks=rows(tmp_path / "x.jsonl", *({"question": f"{n}", "answer": n} for n in range(2)))), "train")
    with pytest.raises(TaskError, match=r"set env\.tasks to a \.jsonl file"):
        MCPEnv.load_tasks(config(tasks=""), "train")
    with pytest.raises(TaskError, match="no split 'dev'"):
        MCPEnv.load_tasks(config(), "dev")


# ---- configuration -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"command": "python x.py"}, r"command must be a list of words, for instance \[python, x.py\]"),
        ({"command": (), "url": "localhost:80"}, "must begin with http:// or https://"),
        ({"url": "http://x"}, "give one of the two"),
        ({"grader": "a:b", "check": "value"}, "grader= judges the answers, so check=value does nothing"),
    ],
)
def test_what_cannot_be_is_refused(config: Callable[..., MCPConfig], changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        config(**changes)


@pytest.mark.parametrize("grader", ["json", "json:nothing", "no_such_module_x:f", "json:__doc__"])
def test_a_grader_that_is_not_there_is_refused_before_anything_is_played(config: Callable[..., MCPConfig], grader: str) -> None:
    with pytest.raises(ConfigError, match=f"the grader '{grader}'"):
        MCPEnv.load_tasks(config(grader=grader), "train")


def test_without_a_server_it_says_what_it_needs() -> None:
    for act in (lambda: MCPEnv.load_tasks(MCPConfig(), "train"), lambda: MCPEnv().tools):
        with pytest.raises(ConfigError, match=r"env\.command=\[python, server\.py\] starts one, env\.url="):
            act()


@pytest.mark.parametrize("mode", ["dies at once", "refuse", "no list"])
def test_a_server_of_no_use_stops_a_run_before_it_begins(config: Callable[..., MCPConfig], mode: str) -> None:
    with pytest.raises(ConfigError, match=r"env 'mcp': the MCP server|the server does not list its tools"):
        MCPEnv.load_tasks(config(mode), "train")


def test_tools_are_chosen_by_name(make: Make) -> None:
    assert [tool.name for tool in make(allow=("do", "add"), deny=("do",)).tools] == ["add"]
    with pytest.raises(ConfigError, match="no tool of the MCP server 'ad'; available: add, count, do; did you mean 'add'"):
        assert make(deny=("ad",)).tools


def test_the_command_line_reaches_it(questions: Path) -> None:
    env: Any = compose_train(
        ["env=mcp", "env.command=[python, server.py]", f"env.tasks={questions}", "env.check=value", "env.allow=[a]"]
    ).config.env
    assert (type(env), env.command, env.check, env.allow) == (MCPConfig, ("python", "server.py"), "value", ("a",))


def test_a_shared_server_that_is_busy_for_too_long_is_told(config: Callable[..., MCPConfig]) -> None:
    holder = _Holder()
    chosen = config(share=True, start_timeout=0.05, call_timeout=0.005)
    assert holder.take(chosen) is None
    with pytest.raises(EnvError, match=r"the shared server was busy for 0\.1 s"):
        holder.take(chosen)


class Told:
    """A transport that answers every request with an error, or breaks."""

    alive = True

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure, self.closed = failure, False

    def request(self, message: Any, seconds: float, heard: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        return {"id": message["id"], "error": {"code": "x", "message": ""}}

    def explain(self, what: str) -> str:
        return what

    def close(self) -> None:
        self.closed = True


def test_a_server_that_refuses_to_be_pinged_still_talks() -> None:
    assert Client(Told(), 1.0).answers(1.0)  # type: ignore[arg-type]
    assert not Client(Told(Late()), 1.0).answers(1.0)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="no reason given"):
        Client(Told(), 1.0).call("t", {}, 1.0)  # type: ignore[arg-type]


def test_an_interrupted_start_closes_what_it_began(config: Callable[..., MCPConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    transport = Told(KeyboardInterrupt())
    monkeypatch.setattr(env_module, "StdioTransport", lambda *_, **__: transport)
    with pytest.raises(KeyboardInterrupt):
        assert MCPEnv(config()).tools
    assert transport.closed


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"type": "audio", "data": "AAAA"}, "[audio, unknown type, 3 bytes, not shown]"),
        ({"type": "resource", "resource": {"text": "inside"}}, "inside"),
        ({"type": "resource", "resource": {"uri": "u", "blob": "AA", "mimeType": "m"}}, "[resource u, m, not shown]"),
        ({"type": "resource_link", "uri": "u"}, "[resource u: no description]"),
        ({"type": "hologram"}, "[hologram, not shown]"),
        ({"type": "text"}, ""),
    ],
)
def test_every_kind_of_content_is_shown_or_noted(part: Any, text: str) -> None:
    assert shown({"content": [part, "stray"]}) == (text, False)
