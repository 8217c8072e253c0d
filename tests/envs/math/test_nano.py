"""The committed nano tasks: reproducible, disjoint, within range."""

import json
from collections import Counter

import pytest
from agentdistill_envs.math import nano
from agentdistill_envs.math.expression import Node, normal_form, operations, parse, value
from agentdistill_envs.math.stories import tell

from agentdistill.resources import data_dir

NANO = data_dir("tasks") / "math" / "nano"


@pytest.fixture(scope="module")
def rows():
    return {split: [json.loads(line) for line in (NANO / f"{split}.jsonl").read_text().splitlines()] for split in nano.SIZES}


def test_the_committed_files_are_those_that_the_script_writes(tmp_path):
    nano.write(tmp_path / "again")
    for split in nano.SIZES:
        assert (tmp_path / "again" / f"{split}.jsonl").read_bytes() == (NANO / f"{split}.jsonl").read_bytes()
    assert json.loads((tmp_path / "again" / "schema.json").read_text()) == json.loads((NANO / "schema.json").read_text())


def test_another_seed_gives_other_tasks():
    assert next(nano.rows(1))[1]["question"] != next(nano.rows(2))[1]["question"]


def test_no_two_tasks_share_a_normal_form_story_or_not(rows):
    forms = Counter(normal_form(parse(row["data"]["expression"])) for split in rows.values() for row in split)
    assert max(forms.values()) == 1
    assert sum(forms.values()) == sum(nano.SIZES.values())


def test_no_two_tasks_share_a_question_or_an_id(rows):
    for field in ("question", "id"):
        assert len({row[field] for split in rows.values() for row in split}) == sum(nano.SIZES.values())


def test_every_value_is_in_range_and_every_answer_is_right(rows):
    for row in (row for split in rows.values() for row in split):
        tree = parse(row["data"]["expression"])
        assert row["answer"] == str(value(tree))
        assert row["data"]["calls"] == len(list(operations(tree)))
        assert all(1 <= value(node) <= 999 for node in operations(tree))
        assert (row["question"] == row["data"]["expression"]) == (row["data"]["kind"] == "expression")


def test_the_mixture_is_as_the_card_says(rows):
    card = (NANO / "card.md").read_text()
    for split, tasks in rows.items():
        calls = Counter(row["data"]["calls"] for row in tasks)
        stories = sum(row["data"]["kind"] == "story" for row in tasks)
        assert f"| {split} | {len(tasks)} | {calls[2]} | {calls[3]} | {calls[4]} | {stories} |" in card
    train = rows["train"]
    assert 0.17 < sum(row["data"]["kind"] == "story" for row in train) / len(train) < 0.23
    operators = Counter(char for row in train for char in row["data"]["expression"] if char in "+-*")
    assert max(operators.values()) < 1.3 * min(operators.values())


def test_stories_use_few_words(rows):
    words = {word.strip(".?") for row in rows["train"] if row["data"]["kind"] == "story" for word in row["question"].split()}
    assert len([word for word in words if not word.isdigit()]) <= 26


def test_files_are_small(rows):
    assert all((NANO / f"{split}.jsonl").stat().st_size < 1_000_000 for split in rows)


@pytest.mark.parametrize(
    ("expression", "story"),
    [
        ("(4+(3*12))-5", "Ann has 4 pens. Ann gets 3 bags of 12. Ann loses 5. How many pens?"),
        ("((3*12)*2)+1", "Ann has 3 bags of 12 pens. Then Ann has 2 times as many. Ann gets 1. How many pens?"),
        ("7", "Ann has 7 pens. How many pens?"),
    ],
)
def test_stories_read_like_this(expression, story):
    assert tell(parse(expression), "Ann", "pens") == story


@pytest.mark.parametrize(
    "tree", [Node("+", 1, Node("+", 2, 3)), Node("*", Node("+", 1, 2), Node("*", 3, 4)), Node("-", 1, Node("*", Node("+", 1, 2), 3))]
)
def test_a_tree_that_is_no_chain_of_events_has_no_story(tree):
    with pytest.raises(ValueError, match="a story"):
        tell(tree, "Ann", "pens")


def test_weights_that_do_not_reach_one_fall_to_the_last_option():
    assert nano.Dice(0).weighted([(1, 0.0), (2, 0.0)]) == 2
