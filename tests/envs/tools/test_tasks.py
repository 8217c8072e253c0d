"""Tasks: sampled on the graph, committed, or the user's own."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from agentdistill_envs.tools import ToolsConfig, ToolsEnv, nano
from agentdistill_envs.tools.catalogue import TOOLS
from agentdistill_envs.tools.progress import Progress, goal_of
from agentdistill_envs.tools.rows import ToolsRow
from tools_shop import REFUND, SHOP

from agentdistill.errors import TaskError
from agentdistill.resources import data_dir

NANO = data_dir("tasks") / "tools" / "nano"


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, Any]]]:
    return {split: [json.loads(line) for line in (NANO / f"{split}.jsonl").read_text().splitlines()] for split in nano.SIZES}


def test_the_committed_rows_are_those_that_the_script_draws(rows) -> None:
    assert [row for _, row in islice(nano.rows(), 40)] == rows["test"][:40]


@pytest.mark.ci
def test_the_committed_files_are_those_that_the_script_writes(tmp_path: Path) -> None:
    nano.write(tmp_path)
    for file in ("train.jsonl", "val.jsonl", "test.jsonl", "schema.json"):
        assert (tmp_path / file).read_text() == (NANO / file).read_text()


def test_the_schema_is_that_of_the_rows() -> None:
    assert json.loads((NANO / "schema.json").read_text()) == ToolsRow.model_json_schema()


def test_the_mixture_is_as_the_card_says(rows) -> None:
    card = (NANO / "card.md").read_text()
    for split, tasks in rows.items():
        counts = [sum(row["data"]["turns"] == turns for row in tasks) for turns in range(2, 9)]
        questions = sum("asks" in row["data"] for row in tasks)
        assert f"| {split} | {len(tasks)} | {' | '.join(map(str, counts))} | {questions} |" in card


def test_every_tool_is_needed_by_some_task_and_no_two_tasks_are_one(rows) -> None:
    needed = {call.tool for task in ToolsEnv.load_tasks(ToolsConfig(), "test") for call in Progress(goal_of(task)).plan()}
    assert needed == set(TOOLS)
    everything = [row for split in rows.values() for row in split]
    assert len({row["id"] for row in everything}) == len(everything)
    assert len({json.dumps(row["data"]["shop"]) for row in everything}) == len(everything)


def test_a_question_tells_what_is_known_and_no_id_besides(rows) -> None:
    for row in rows["val"]:
        ids = {id for records in row["data"]["shop"].values() for id in records}
        told = {value for value in ids if value in row["question"].replace(".", " ").replace("?", " ").replace(",", " ").split()}
        assert told == {value for value in row["data"]["known"] if value in ids}
        assert all(value in row["question"] for value in row["data"]["known"])


@pytest.mark.parametrize("turns", range(2, 9))
def test_any_horizon_can_be_sampled(turns: int) -> None:
    tasks = ToolsEnv.load_tasks(ToolsConfig(tasks="sampled", horizon=(turns, turns), count=3), "val")
    assert [task.data["turns"] for task in tasks] == [turns] * 3
    assert len({task.hash for task in tasks}) == 3
    again = ToolsEnv.load_tasks(ToolsConfig(tasks="sampled", horizon=(turns, turns), count=3), "val")
    assert tasks.hash == again.hash


def test_a_horizon_chooses_among_the_committed_tasks() -> None:
    tasks = ToolsEnv.load_tasks(ToolsConfig(horizon=(3, 4)), "val")
    assert {task.data["turns"] for task in tasks} == {3, 4}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"tasks": "sampled", "horizon": (2, 9)}, "take 2 to 8 turns"),
        ({"horizon": (9, 9)}, "widen env.horizon"),
        ({"tasks": "nanno"}, "did you mean 'nano'"),
        ({"tasks": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_what_is_not_there_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        ToolsEnv.load_tasks(ToolsConfig(**config), "train")


def test_own_tasks_come_from_files(tmp_path: Path) -> None:
    row = {"id": "mine", "question": "Give Ann her money back.", "data": {"shop": SHOP, "changes": [REFUND], "known": ["Ann"], "turns": 5}}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    tasks = ToolsEnv.load_tasks(ToolsConfig(tasks=str(tmp_path)), "train")
    assert [task.id for task in tasks] == ["mine"]
    assert tasks[0].answer == "refund_payment(payment=y20)"
    assert "shop" in tasks[0].data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"changes": [{"tool": "fly", "arguments": {}}]}, "no tool 'fly'"),
        ({"changes": [{"tool": "cancel_order", "arguments": {"order": "o30"}}]}, "o30 is shipped"),
        ({"shop": {**SHOP, "order": {"o1": {"user": "u99", "product": "p10", "status": "open"}}}}, "names the user 'u99'"),
        ({"turns": 1}, "greater than or equal to 2"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    data = {"shop": SHOP, "changes": [REFUND], "known": ["Ann"], "turns": 5} | change
    (tmp_path / "train.jsonl").write_text("\n" + json.dumps({"id": "mine", "question": "Please.", "data": data}) + "\n")
    with pytest.raises(TaskError, match=rf"train.jsonl:2: .*{words}"):
        ToolsEnv.load_tasks(ToolsConfig(tasks=str(tmp_path)), "train")
