"""``agentdistill env``: a broken plug-in is shown and harms no other; the check says what is wrong in a sentence."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentdistill import registry
from agentdistill.env import Reply
from agentdistill.types import Message
from tests.env.toys import Shop

from .conftest import Command

BROKEN = Path(__file__).resolve().parent.parent / "plugin_package" / "broken"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The distribution ``agentdistill-broken``, as if it were installed."""
    shutil.copytree(BROKEN / "agentdistill_broken", tmp_path / "agentdistill_broken")
    info = tmp_path / "agentdistill_broken-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: agentdistill-broken\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[agentdistill.envs]\nbroken = agentdistill_broken:BrokenEnv\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.refresh()
    yield
    sys.modules.pop("agentdistill_broken", None)
    registry.refresh()


@pytest.fixture
def shop() -> Iterator[None]:
    registry.register("envs", "shop", Shop)
    yield
    registry.unregister("envs", "shop")


def register(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    monkeypatch.setitem(registry._registered, ("envs", "shop"), kind)


@pytest.mark.usefixtures("broken", "shop")
def test_the_list_shows_the_broken_one_with_its_error_and_the_others_without(command: Command) -> None:
    code, out, _ = command("env", "list")
    assert code == 0
    lines = out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("broken "))
    assert "agentdistill-broken 0.1.0" in lines[place]
    assert lines[place + 1].strip().startswith("broken: ")
    assert "RuntimeError: this plug-in is broken on purpose" in lines[place + 1]
    assert {"broken", "math", "shop"} <= {line.split()[0] for line in lines if not line.startswith(" ")}
    assert out.count("broken: ") == 1
    found = {each["name"]: each["error"] for each in json.loads(command("env", "list", "--json").out)}
    assert {"broken", "math", "shop"} <= found.keys()
    assert [name for name, error in found.items() if error] == ["broken"]


@pytest.mark.usefixtures("broken")
def test_a_broken_one_cannot_be_checked_and_says_why(command: Command) -> None:
    code, out, err = command("env", "check", "broken")
    assert (code, out) == (3, "")
    assert "agentdistill-broken 0.1.0" in err
    assert "RuntimeError: this plug-in is broken on purpose" in err


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("name", "sentence"), [("mth", "did you mean 'math'"), ("brocken", "did you mean 'broken'"), ("", "env= names nothing; options are")]
)
def test_an_unknown_one_is_refused_naming_the_nearest(command: Command, name: str, sentence: str) -> None:
    code, out, err = command("env", "check", name)
    assert (code, out) == (2, "")
    assert sentence in err


@pytest.mark.usefixtures("shop")
def test_a_good_one_keeps_the_contract(command: Command) -> None:
    assert command("env", "check", "shop") == (0, "shop: keeps the environment contract\n", "")
    assert json.loads(command("env", "check", "shop", "--json").out) == {"env": "shop", "ok": True}


def test_it_is_checked_with_the_settings_that_are_given(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Curious(Shop):
        def begin(self, task: Any) -> Any:
            seen.append(self.config.shelf)
            return super().begin(task)

    register(monkeypatch, Curious)
    assert command("env", "check", "shop", "env.shelf=7").code == 0
    assert set(seen) == {7}
    code, _, err = command("env", "check", "shop", "env.shelv=7")
    assert code == 2
    assert "did you mean 'env.shelf'" in err


class Unpacked(Shop):
    def __init__(self, config: Any = None, **options: Any) -> None:
        raise OSError("no shelf to put it on")


class Fickle(Shop):
    def begin(self, task: Any) -> Any:
        super().begin(task)
        return (*task.prompt, Message.user(f"It is {random.random()} o'clock."))


class Generous(Shop):
    def answer(self, message: Message) -> Reply:
        return Reply(parts={"answer": float("nan")}, done=True, success=True)


class Fragile(Shop):
    def answer(self, message: Message) -> Reply:
        raise KeyError(message.content)


class Taskless(Shop):
    @classmethod
    def load_tasks(cls, config: Any, split: str) -> Any:
        raise FileNotFoundError("shop.jsonl")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Unpacked, "OSError: no shelf to put it on"),
        (Fickle, "np_random"),
        (Generous, "the reward is nan"),
        (Fragile, "raised KeyError"),
        (Taskless, "FileNotFoundError: shop.jsonl"),
    ],
)
def test_a_bad_one_is_refused_in_a_sentence_with_a_remedy(
    command: Command, monkeypatch: pytest.MonkeyPatch, kind: type, sentence: str
) -> None:
    register(monkeypatch, kind)
    code, out, err = command("env", "check", "shop")
    assert (code, out) == (3, "")
    assert err.startswith("agentdistill: error: environment 'shop': ")
    assert sentence in err
    assert ";" in err
