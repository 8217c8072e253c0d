"""``agentdistill nano build``: every part of it in seconds, and every mistake before the first minute of training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from agentdistill.cli.main import main
from agentdistill.nano import build
from agentdistill.nano.recipe import RECIPES
from agentdistill.resources import nano_dir

QUICK = ("--steps", "2", "--demonstrations", "8", "--tasks", "2")


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["nano", "build", *argv])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


@pytest.mark.ci
def test_a_quick_build_makes_a_pair_that_can_be_trained_with(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "nano"
    code, said, err = run(capsys, "env=math", "env.calls=[2,2]", "--out", str(out), "--seed", "3", *QUICK)
    assert code == 0, err
    assert "8 flawed demonstrations" in said
    for role in ("teacher", "student"):
        assert f"{role} step 2/2" in said
        card = json.loads((out / role / "scorecard.json").read_text())
        assert card["recipe"] == getattr(RECIPES["math"], role).model_dump() | {"steps": 2}
        assert (card["demonstrations"], card["tasks"]) == (8, {"val": 2, "test": 2})
        assert card["seed"] == 6 + (role == "student")
        assert set(card["greedy"]) == set(card["sampled"]) == {"val", "test"}
    pair = (f"student={out / 'student'}", f"teacher={out / 'teacher'}")
    assert main(["train", "--dry-run", *pair]) == 0


def files(out: Path, role: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / role).iterdir() if path.name != "scorecard.json"}


@pytest.mark.ci
def test_parts_built_alone_are_those_built_together_and_another_seed_gives_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(capsys, "--out", str(whole), *QUICK)[0] == 0
    assert run(capsys, "--out", str(parts), "--only", "tokenizer", *QUICK)[0] == 0
    assert run(capsys, "--out", str(parts), "--only", "student", *QUICK)[0] == 0
    assert not (parts / "teacher" / "model.safetensors").exists()
    assert run(capsys, "--out", str(parts), "--only", "teacher", *QUICK)[0] == 0
    for role in ("teacher", "student"):
        assert files(parts, role) == files(whole, role)
    assert run(capsys, "--out", str(parts), "--only", "student", "--seed", "1", *QUICK)[0] == 0
    differ = {name for name, data in files(parts, "student").items() if data != files(whole, "student")[name]}
    assert differ == {"model.safetensors"}


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("env=mth",), "did you mean 'math'"),
        (("--env", "mth"), "did you mean 'math'"),
        (("env=math", "env.call=[2,2]"), "did you mean 'env.calls'"),
        (("learner.lr=1e-3",), "takes env=NAME and env.key=value, not 'learner.lr=1e-3'"),
        (("--only", "critic"), "invalid choice: 'critic'"),
        (("math",), "takes env=NAME and env.key=value, not 'math'"),
        (
            ("--out", "/proc/foo", "--only", "tokenizer"),
            "cannot write to '/proc/foo': No such file or directory; name another folder with --out",
        ),
        (("--out", __file__), "File exists; name another folder with --out"),
        (("--steps", "2"), "would replace the shipped models; name a folder of your own with --out"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], sentence: str) -> None:
    code, said, err = run(capsys, *argv)
    assert (code, said) == (2, "")
    assert sentence in err


@pytest.mark.parametrize(("option", "value"), [("--seed", "-1"), ("--steps", "0"), ("--tasks", "many"), ("--demonstrations", "1.5")])
def test_options_are_whole_numbers(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    code, _, err = run(capsys, option, value)
    assert code == 2
    assert f"argument {option}: '{value}' is no whole number from {0 if option == '--seed' else 1}" in err


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_model_needs_its_tokenizer_first(capsys: pytest.CaptureFixture[str], tmp_path: Path, role: str) -> None:
    code, _, err = run(capsys, "--out", str(tmp_path / "new"), "--only", role)
    assert code == 2
    assert f"there is no tokenizer in {tmp_path / 'new' / role}; build it first: agentdistill nano build --only tokenizer" in err


def test_tasks_without_an_expert_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tasks = tmp_path / "own.jsonl"
    tasks.write_text(json.dumps({"question": "1+1?", "answer": "#### 2"}) + "\n")
    code, _, err = run(capsys, f"env.tasks={tasks}", "--out", str(tmp_path / "nano"))
    assert code == 2
    assert "nano models learn from the environment's expert, and there is none here: env 'math' has a scripted expert" in err


def test_a_full_disk_is_told_of_whatever_a_library_calls_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise Exception("No space left on device (os error 28)")  # as tokenizers does

    shipped = PreTrainedTokenizerFast.from_pretrained(nano_dir("math", "teacher"))
    monkeypatch.setattr(build.Builder, "tokenizer", lambda self: shipped)
    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", full)
    code, _, err = run(capsys, "--only", "tokenizer", "--out", str(tmp_path))
    assert code == 2
    assert f"cannot write to '{tmp_path / 'teacher'}'; free some space, or name another folder: Exception: No space left" in err


def test_the_shipped_models_are_what_the_recipe_without_options_describes() -> None:
    assert build.recipe_for("math", 0) == RECIPES["math"]
    smaller = build.recipe_for("math", 0, steps=5)
    assert (smaller.teacher.steps, smaller.student.steps, smaller.demonstrations) == (5, 5, RECIPES["math"].demonstrations)


def test_an_environment_without_a_recipe_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RECIPES, "math")
    code, _, err = run(capsys)
    assert code == 2
    assert "no nano recipe for env 'math'" in err
