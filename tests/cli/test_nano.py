"""``agentdistill nano build``, end to end with a recipe a thousandth of the real one, which takes about ten minutes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agentdistill_envs.math import MathEnv

from agentdistill.nano import build
from agentdistill.nano.recipe import RECIPES, Recipe, Shape, Training

from .conftest import Command

TINY = Recipe(
    vocab_size=330,
    demonstrations=8,
    shape=Shape(hidden=16, layers=1, heads=2, intermediate=16),
    teacher=Training(steps=2, batch=4, warmup=1),
    student=Training(steps=2, batch=4, warmup=1, expert=0.5, flawed_tail=0.5),
    flaws={"stop_early": 0.9},
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe cannot be chosen on the command line, so it is put in place of the real one."""
    load = MathEnv.load_tasks
    monkeypatch.setitem(RECIPES, "math", TINY)
    monkeypatch.setattr(build, "TOKENIZER_SHARE", 8)
    monkeypatch.setattr(MathEnv, "load_tasks", classmethod(lambda cls, config, split: load(config, split).take(12)))


def files(out: Path, role: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / role).iterdir() if path.name != "scorecard.json"}


def card(out: Path, role: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / role / "scorecard.json").read_text())
    return {name: value for name, value in found.items() if name != "training_cpu_s"}


@pytest.mark.ci
def test_both_models_are_built_scored_and_can_be_trained_with(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "nano"
    code, said, _ = command("nano", "build", "--out", str(out), "--seed", "3")
    assert code == 0
    assert "tokenizer: 330 tokens" in said
    for role in ("teacher", "student"):
        assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "scorecard.json"} <= {
            path.name for path in (out / role).iterdir()
        }
        written = card(out, role)
        assert written["role"] == role
        assert written["recipe"] == getattr(TINY, role).model_dump()
        assert set(written["greedy"]) == set(written["sampled"]) == {"val", "test"}
        assert f"{role} step 2/2" in said
    assert (card(out, "teacher")["seed"], card(out, "student")["seed"]) == (6, 7)
    assert said.count("8 flawed demonstrations") == 1, "only the student learns bad habits"
    pair = (f"student={out / 'student'}", f"teacher={out / 'teacher'}")
    tiny = ("rollout.batch=2", "rollout.max_new_tokens=8", "eval.tasks=2", "eval.every=0", "eval.progress_tasks=2", "steps=1")
    assert command("train", "run=r", f"runs_dir={tmp_path}", *pair, *tiny).code == 0


@pytest.mark.ci
def test_parts_built_alone_are_those_built_together_and_another_seed_gives_others(command: Command, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert command("nano", "build", "--out", str(whole)).code == 0
    for part in ("tokenizer", "student", "teacher"):
        assert command("nano", "build", "--out", str(parts), "--only", part).code == 0
    for role in ("teacher", "student"):
        assert files(parts, role) == files(whole, role)
        assert card(parts, role) == card(whole, role)
    assert command("nano", "build", "--out", str(parts), "--only", "student", "--seed", "1").code == 0
    differ = {name for name, data in files(parts, "student").items() if data != files(whole, "student")[name]}
    assert differ == {"model.safetensors"}


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_model_without_a_tokenizer_is_refused_saying_what_to_build_first(command: Command, tmp_path: Path, role: str) -> None:
    code, _, err = command("nano", "build", "--out", str(tmp_path), "--only", role)
    assert code == 2
    assert f"there is no tokenizer in {tmp_path / role}" in err
    assert f"--only tokenizer --out {tmp_path}" in err


@pytest.mark.parametrize(
    ("argv", "sentence"), [(("--env", "mth"), "did you mean 'math'"), (("--only", "critic"), "invalid choice: 'critic'")]
)
def test_what_cannot_be_built_is_refused(command: Command, argv: tuple[str, ...], sentence: str) -> None:
    code, _, err = command("nano", "build", *argv)
    assert code == 2
    assert sentence in err


def test_an_environment_without_a_recipe_is_refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RECIPES, "math")
    code, _, err = command("nano", "build", "--env", "math")
    assert code == 2
    assert "no nano recipe for env 'math'" in err
