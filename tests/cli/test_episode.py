"""``agentdistill episode``: whatever a run has stored can be listed and shown, failed episodes and missing numbers included."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from agentdistill.store import Run
from agentdistill.types import Failure, Status, StopReason
from tests.store.examples import an_episode

from .conftest import Command

NAN = float("nan")


def strict(text: str) -> Any:
    """JSON as its standard has it: no NaN, no Infinity, one document."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run ``r`` with a plain, a rewardless and a failed episode."""
    broke = Failure(
        stage="step", type="RuntimeError", message="step of turn 1: RuntimeError: the roof fell in", turn=1, attempts=("first",)
    )
    with Run.create(tmp_path, "r") as run:
        run.episodes.append_episodes([an_episode("before-greedy-0-0-0", success=False, reward=0.25)], step=0, kind="before-greedy")
        run.episodes.append_episodes(
            [
                an_episode("train-0-0-0"),
                an_episode("train-0-1-0", reward=NAN, reward_parts={"answer": NAN}, task="\x1b[2Jhidden"),
                an_episode("train-0-2-0", reward=float("inf"), token_ids=(7,), logprobs=(NAN,)),
                an_episode("train-0-3-0", status=Status.SANDBOX_ERROR, success=None, failure=broke).model_copy(
                    update={"stop": StopReason.ERROR}
                ),
            ],
            step=0,
            kind="train",
        )
    return tmp_path


@pytest.fixture
def episode(command: Command, runs: Path) -> Command:
    return lambda *argv: command("episode", *argv, "--runs-dir", str(runs))


def test_the_list_has_a_line_for_each_newest_first_and_a_dash_where_there_is_no_reward(episode: Command) -> None:
    code, out, _ = episode("list", "--run", "r")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [*(f"train-0-{number}-0" for number in (3, 2, 1, 0)), "before-greedy-0-0-0"]
    failed, infinite, missing, plain, before = lines
    assert "sandbox_error" in failed
    assert "reward inf" in infinite
    assert "reward –" in missing
    assert "reward 1.00" in plain
    assert "reward 0.25" in before
    assert "\x1b" not in out, "a task's name cannot move the cursor"
    assert len({line.index("reward") for line in lines}) == 1


def test_the_list_as_json_is_strict(episode: Command) -> None:
    rewards = {head["id"]: head["reward"] for head in strict(episode("list", "--run", "r", "--json").out)}
    assert rewards["train-0-0-0"] == 1.0
    assert rewards["train-0-1-0"] is None
    assert rewards["train-0-2-0"] is None


def test_filters_choose_and_limit(episode: Command) -> None:
    def ids(*filters: str) -> list[str]:
        return [head["id"] for head in strict(episode("list", *filters, "--run", "r", "--json").out)]

    assert ids("kind=train", "limit=2") == ["train-0-3-0", "train-0-2-0"]
    assert ids("status=sandbox_error") == ["train-0-3-0"]
    assert ids("success=false") == ["before-greedy-0-0-0"]
    assert ids("success=true", "step=0", "limit=1") == ["train-0-2-0"]
    assert ids("step=1") == []


def test_twenty_are_listed_unless_asked_otherwise(command: Command, tmp_path: Path) -> None:
    with Run.create(tmp_path, "many") as run:
        run.episodes.append_episodes([an_episode(f"e-{number:02d}") for number in range(25)], step=0, kind="train")
    listed = [line.split()[0] for line in command("episode", "list", "--run", "many", "--runs-dir", str(tmp_path)).out.splitlines()]
    assert listed == [f"e-{number:02d}" for number in range(24, 4, -1)]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("list", "colour=red"), "no filter 'colour=red'"),
        (("list", "success=yes"), "neither true nor false"),
        (("list", "step=first"), "not a whole number"),
        (("list", "limit=²"), "not a whole number"),
        (("list", "step=99999999999999999999"), "not a whole number that a run can reach"),
        (("show", "train-0-0-9"), "did you mean 'train-0-0-0'"),
        (("show", "train-0"), "the beginning of several episodes"),
        (("list", "--run", "rr"), "did you mean 'r'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(episode: Command, argv: tuple[str, ...], sentence: str) -> None:
    code, out, err = episode(*argv)
    assert (code, out) == (2, "")
    assert sentence in err


def test_a_failed_episode_is_shown_with_where_it_broke(episode: Command) -> None:
    code, out, _ = episode("show", "train-0-3-0", "--run", "r")
    assert code == 0
    assert "failed: RuntimeError: step of turn 1: RuntimeError: the roof fell in" in out
    assert out.rstrip().endswith("[sandbox_error, error: no verdict, reward 1, 1 turn]")


@pytest.mark.parametrize("id", ["train-0-0-0", "train-0-1-0", "train-0-2", "train-0-3-0"])
def test_shown_as_json_every_episode_is_one_strict_atif_document(episode: Command, id: str) -> None:
    code, out, _ = episode("show", id, "--json", "--run", "r")
    document = strict(out)
    assert code == 0
    assert document["schema_version"].startswith("ATIF-")
    assert document["trajectory_id"].startswith(id)
    record = document["extra"]["agentdistill"]
    spots = {".".join(map(str, path)): name for path, name in record.get("nonfinite", ())}
    if id == "train-0-1-0":
        assert spots["episode.reward"] == spots["episode.reward_parts.answer"] == "nan"
    if id == "train-0-3-0":
        assert record["episode"]["failure"]["attempts"] == ["first"]


def test_without_a_name_the_run_that_was_begun_or_resumed_last_is_meant(episode: Command, runs: Path) -> None:
    for number, name in enumerate(("a", "z")):
        with Run.create(runs, name) as run:
            run.episodes.append_episodes([an_episode(f"of-{name}")], step=0, kind="train")
        os.utime(runs / name / "config.yaml", (number + 1, number + 1))
    os.utime(runs / "r" / "config.yaml", (0, 0))
    assert episode("list").out.split()[0] == "of-z"
    os.utime(runs / "a" / "config.yaml", (9, 9))
    assert episode("list").out.split()[0] == "of-a"
    assert episode("show", "of-a").code == 0


def test_where_there_is_no_run_the_folder_is_named(command: Command, tmp_path: Path) -> None:
    code, _, err = command("episode", "list", "--runs-dir", str(tmp_path / "nothing"))
    assert code == 2
    assert f"no run in {tmp_path / 'nothing'}" in err


def test_a_status_that_is_none_is_refused_and_a_kind_without_episodes_names_those_that_have_some(episode: Command) -> None:
    code, _, err = episode("list", "status=env_eror", "--run", "r")
    assert code == 2
    assert "no status 'env_eror'" in err
    assert "did you mean 'env_error'?" in err
    code, out, err = episode("list", "kind=foo", "--run", "r")
    assert (code, out) == (0, "")
    assert "its kinds are before-greedy, train" in err


def test_run_and_folder_can_be_words_as_in_other_commands(command: Command, runs: Path) -> None:
    where = ["run=r", f"runs_dir={runs}"]
    assert command("episode", "show", "train-0-0-0", *where).code == 0
    assert len(command("episode", "list", "kind=train", *where).out.splitlines()) == 4
    code, _, err = command("episode", "show", "train-0-0-0", "kind=train", *where)
    assert (code, "valid are run=, runs_dir=" in err) == (2, True)
