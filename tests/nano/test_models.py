"""The shipped nano models: small, scored, and telling the truth about themselves."""

from __future__ import annotations

import json

import pytest

from agentdistill.nano.corpus import python_texts, tool_texts
from agentdistill.nano.recipe import RECIPES, Training
from agentdistill.resources import nano_dir, nano_envs

FLOOR = {"math": 0.95, "tools": 0.88}
"""Greedy success of each teacher; docs/measurements.md says what the shop's still gets wrong."""


def test_both_environments_of_ours_have_a_pair():
    assert set(nano_envs()) == set(FLOOR)


@pytest.mark.parametrize("env", nano_envs())
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_each_is_under_four_megabytes_with_recipe_and_seed(env, role):
    directory = nano_dir(env, role)
    assert sum(path.stat().st_size for path in directory.iterdir()) < 4_000_000
    card = json.loads((directory / "scorecard.json").read_text())
    assert Training.model_validate(card["recipe"]) == getattr(RECIPES[env], role)
    assert isinstance(card["seed"], int)


@pytest.mark.parametrize("env", nano_envs())
def test_the_teacher_solves_the_tasks_and_the_student_does_not(env):
    teacher, student = (json.loads((nano_dir(env, role) / "scorecard.json").read_text()) for role in ("teacher", "student"))
    assert teacher["greedy"]["test"] >= FLOOR[env]
    assert student["greedy"]["test"] <= 0.30


@pytest.mark.ci
@pytest.mark.parametrize("env", nano_envs())
def test_the_score_card_is_what_the_weights_do(env, capsys):
    from agentdistill.cli.main import main

    assert main(["eval", "student=nano", f"env={env}", "tasks=128", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["greedy"] <= 0.2
    assert main(["eval", f"student={nano_dir(env, 'teacher')}", f"env={env}", "tasks=128", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["greedy"] >= FLOOR[env]


def test_the_corpus_is_a_function_of_its_seed():
    for texts in (python_texts, tool_texts):
        assert list(texts(20, 3)) == list(texts(20, 3))
        assert list(texts(20, 3)) != list(texts(20, 4))
