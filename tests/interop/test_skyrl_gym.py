"""The environments of the package skyrl-gym: each plays twenty scripted episodes to their end."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentdistill.env import check_env
from agentdistill.errors import ConfigError, TaskError
from agentdistill.interop.skyrl_gym_env import SkyRLGymConfig, SkyRLGymEnv

skyrl_gym = pytest.importorskip("skyrl_gym")

EPISODES = 20


@pytest.fixture(scope="module")
def search_url() -> Iterator[str]:
    """A search engine that knows one thing."""

    class Engine(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = {"result": [[{"document": {"contents": f"of {query}: seven"}, "score": 1.0}] for query in asked.get("queries", [""])]}
            said = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/retrieve"
    server.shutdown()
    server.server_close()


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    file = tmp_path / "spider" / "database" / "shop" / "shop.sqlite"
    file.parent.mkdir(parents=True)
    with sqlite3.connect(file) as connection:
        connection.execute("create table sold (item text, count int)")
        connection.execute("insert into sold values ('lamp', 7), ('book', 2)")
    connection.close()
    return tmp_path


Row = dict[str, Any]


def right(truth: Any, **more: Any) -> Row:
    return {"reward_spec": {"method": "rule", "ground_truth": truth}, **more}


CODE = "```python\nprint(int(input()) + 1)\n```"
QUERY = "select count from sold where item = 'lamp'"
WORLDS: dict[str, tuple[Callable[[int], Row], list[str]]] = {
    "gsm8k": (lambda n: right(str(n)), ["#### {n}"]),
    "gsm8k_multi_turn": (lambda n: right(str(n), max_turns=3), ["#### -1", "no idea", "#### {n}"]),
    "aime": (lambda n: {"reward_model": {"ground_truth": str(n)}}, ["Answer: {n}"]),
    "lcb": (lambda n: right(json.dumps([{"input": f"{n}", "output": f"{n + 1}", "testtype": "stdin"}])), [CODE]),
    "search": (lambda n: right({"target": ["seven"]}), ["<search>lamps</search>", "<answer>seven</answer>"]),
    "searchcode": (lambda n: right(str(n)), ["<tool><python>print({n})</python></tool>", "<solution>#### {n}</solution>"]),
    "text2sql": (
        lambda n: right(QUERY, db_id="shop", data="spider"),
        [f"<think>Look.</think><sql>{QUERY}</sql>", f"<think>So.</think><solution>{QUERY}</solution>"],
    ),
}


def test_each_environment_of_the_package_is_played_here() -> None:
    assert set(WORLDS) == set(skyrl_gym.envs.registration.registry)


@pytest.mark.ci
@pytest.mark.parametrize("id", WORLDS)
def test_twenty_episodes_are_played_and_won(id: str, tmp_path: Path, search_url: str, databases: Path) -> None:
    row, script = WORLDS[id]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": f"Task {n}.", "n": n, **row(n)}) for n in range(2 * EPISODES)))
    env_config = {"search": {"search_url": search_url}, "text2sql": {"db_path": str(databases)}}.get(id, {})
    config = SkyRLGymConfig(id=id, tasks=str(file), env_config=env_config, max_turns=4)
    check_env(SkyRLGymEnv, config=config)
    env = SkyRLGymEnv(config)
    tasks = list(SkyRLGymEnv.load_tasks(config, "train").take(EPISODES))
    assert len(tasks) == EPISODES
    for task in tasks:
        env.reset(options={"task": task})
        for line in script:
            observation, _, over, _, info = env.step(line.replace("{n}", str(task.data["n"])))
            assert over or observation
        assert (over, info["success"]) == (True, True)
    env.close()


def test_sums_are_there_without_a_file_and_an_unknown_id_is_named() -> None:
    check_env(SkyRLGymEnv)
    with pytest.raises(ConfigError, match="did you mean 'gsm8k'"):
        SkyRLGymEnv.load_tasks(SkyRLGymConfig(id="gsm8"), "train")


def test_a_row_that_an_environment_cannot_take_is_told_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "x"}')
    config = SkyRLGymConfig(id="search", tasks=str(tmp_path))
    env = SkyRLGymEnv(config)
    with pytest.raises(TaskError, match=r"env.id='search' cannot be made of this row.*reward_spec"):
        env.reset(options={"task": SkyRLGymEnv.load_tasks(config, "train")[0]})
