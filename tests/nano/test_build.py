"""``agentdistill nano build``: every part of it in seconds, and every mistake before the first minute of training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentdistill_envs.math import MathEnv
from transformers import PreTrainedTokenizerFast

from agentdistill import registry
from agentdistill.cli.main import main
from agentdistill.errors import ConfigError, UsageError
from agentdistill.nano import build
from agentdistill.nano.demonstrations import _told
from agentdistill.nano.recipe import RECIPES
from agentdistill.resources import nano_dir
from agentdistill.types import Message, Task
from tests.env.toys import Shop

QUICK = ("--steps", "2", "--demonstrations", "8", "--tasks", "2")


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["nano", "build", *argv])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


@pytest.mark.ci
def test_a_quick_build_makes_a_pair_that_can_be_trained_with(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "nano"
    code, said, err = run(capsys, "env=math4", "env.calls=[2,2]", "--out", str(out), "--seed", "3", *QUICK)
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


@pytest.mark.ci
def test_a_student_that_forks_shares_the_teachers_first_training_and_goes_its_own_way(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, said, err = run(capsys, "env=tools", "--out", str(tmp_path), *QUICK)
    assert code == 0, err
    losses = {
        role: [line.split()[-1] for line in said.splitlines() if line.startswith(f"{role} step 2/2 ")] for role in ("teacher", "student")
    }
    assert len(losses["teacher"]) == len(losses["student"]) == 2
    assert losses["teacher"][0] == losses["student"][0]
    assert losses["teacher"][1] != losses["student"][1]
    assert json.loads((tmp_path / "student" / "scorecard.json").read_text())["recipe"]["then"]["steps"] == 2


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
    habits = {"stop_early": 0.9, "wrong_operator": 0.9, "miscopy": 0.05}
    assert build.recipe_for(MathEnv, "math", 0) == RECIPES["math"].model_copy(update={"flaws": habits})
    smaller = build.recipe_for(MathEnv, "math", 0, steps=5)
    assert (smaller.teacher.steps, smaller.student.steps, smaller.demonstrations) == (5, 5, RECIPES["math"].demonstrations)


class Lost(Shop):
    bad_habits = {"lost": 1.0}  # noqa: RUF012

    @classmethod
    def expert(cls, config: Any, *, flaws: Any = None) -> Any:
        class Clerk:
            def act(self, task: Task, messages: tuple[Message, ...], rng: Any) -> Message:
                return Message.assistant("no idea" if flaws else str(task.answer))

        return Clerk()


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[type], None]:
    monkeypatch.chdir(tmp_path)

    def install(kind: type) -> None:
        monkeypatch.setitem(registry._registered, ("envs", "shop"), kind)

    return install


def test_a_strangers_environment_gets_a_student_with_its_bad_habits_or_one_that_is_under_trained() -> None:
    habits = build.recipe_for(Lost, "shop", 4)
    assert (habits.seed, habits.flaws, habits.student.expert) == (4, {"lost": 1.0}, 0.5)
    short = build.recipe_for(Shop, "shop", 0)
    assert (short.flaws, short.student.expert) == ({}, 1.0)
    assert short.student.steps * 8 == short.teacher.steps
    assert build.recipe_for(Shop, "shop", 0, steps=5).student.steps == 1

    class Odd(Shop):
        bad_habits = {"late": "often"}  # type: ignore[dict-item, assignment]  # noqa: RUF012  the mistake under test

    with pytest.raises(ConfigError, match=r"bad_habits=.*'often'.* must be numbers by name"):
        build.recipe_for(Odd, "shop", 0)


def test_bad_habits_that_the_expert_does_not_know_are_told_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str], shop: Callable[[type], None]
) -> None:
    class Strict(Shop):
        bad_habits = {"lost": 1.0}  # noqa: RUF012

        @classmethod
        def expert(cls, config: Any, *, flaws: Any = None) -> Any:
            return {"late": 1}[next(iter(flaws))] if flaws else super().expert(config)

    shop(Strict)
    code, said, err = run(capsys, "env=shop", *QUICK)
    assert (code, said) == (2, "")
    assert "environment 'shop': expert(config, flaws={'lost': 1.0}), which its bad_habits ask for: KeyError: 'lost'" in err


def test_an_expert_that_can_play_nothing_is_told_of_with_its_reason(
    capsys: pytest.CaptureFixture[str], shop: Callable[[type], None]
) -> None:
    class Down(Shop):
        def begin(self, task: Task) -> Any:
            raise OSError("the shop is closed")

    shop(Down)
    code, _, err = run(capsys, "env=shop", "--only", "teacher", "--out", "made", *QUICK)
    assert code == 2
    assert "there is no tokenizer" in err
    renderer = build.Renderer(build.train_tokenizer(["plain"], vocab_size=300))
    maker = build.Builder(Down, Shop.Config(name="shop"), build.recipe_for(Down, "shop", 0), Path("made"), say=print)
    with pytest.raises(
        UsageError,
        match=r"of 6 expert demonstrations none could be played to its end: .*the shop is closed; see what `agentdistill env check shop`",
    ):
        maker.demonstrations(renderer, ["expert"])


@pytest.mark.ci
@pytest.mark.parametrize("kind", [Shop, Lost])
def test_any_environment_with_an_expert_gets_a_pair_in_the_current_folder_and_the_command_to_go_on(
    capsys: pytest.CaptureFixture[str], shop: Callable[[type], None], kind: type, tmp_path: Path
) -> None:
    shop(kind)
    code, said, err = run(capsys, "env=shop", *QUICK)
    assert code == 0, err
    assert ("flawed demonstrations" in said) == (kind is Lost)
    command = said.splitlines()[-1].removeprefix("train with them: ").split()
    assert command == ["agentdistill", "train", "env=shop", "student.path=models/shop/student", "teacher.path=models/shop/teacher"]
    assert main([*command[1:], "--dry-run"]) == 0
    assert not nano_dir("shop", "teacher").exists()
    assert {path.name for path in (tmp_path / "models" / "shop").iterdir()} == {"student", "teacher"}


def test_a_task_without_an_answer_or_a_question_is_demonstrated_as_it_is() -> None:
    task = Shop.make_task(1)
    assert _told(task).prompt[-1].content.endswith("Hint: 7")
    assert _told(task.model_copy(update={"answer": None})).prompt == task.prompt
    silent = task.model_copy(update={"prompt": (Message.system("Go."),)})
    assert _told(silent) == silent
