"""What the commands say of a stranger's environment that cannot be used: one sentence, the right exit code, and nobody else harmed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentdistill import registry

from .conftest import Command

MODULE = """
from agentdistill.env import AgentEnv, EnvConfig, Reply

class Bare(AgentEnv):
    name = "bare"
    def respond(self, message):
        return Reply(done=True)

class Offline(Bare):
    name = "offline"
    @classmethod
    def load_tasks(cls, config, split):
        raise ConnectionError("no database")

class Quitting(Bare):
    name = "quitting"
    def __init__(self, *args, **kwargs):
        raise SystemExit(0)

class Settings(EnvConfig):
    def __init__(self, **values):
        raise OSError("no settings")

class Unset(Bare):
    name = "unset"
    Config = Settings

class Stranger:
    pass

thing = 3
"""
NAMES = {
    "bare": "Bare",
    "offline": "Offline",
    "quitting": "Quitting",
    "unset": "Unset",
    "stranger": "Stranger",
    "thing": "thing",
    "gone": "Gone",
}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with all of them, and one whose module ends the process when it is imported."""
    (tmp_path / "cli_plugins.py").write_text(MODULE)
    (tmp_path / "cli_quits.py").write_text("import sys\nsys.exit(0)\n")
    info = tmp_path / "cli_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cli-plugins\nVersion: 1.0\n")
    points = [f"{name} = cli_plugins:{value}" for name, value in NAMES.items()]
    (info / "entry_points.txt").write_text("\n".join(["[agentdistill.envs]", *points, "quits = cli_quits:Env", ""]))
    monkeypatch.syspath_prepend(tmp_path)
    registry.refresh()
    yield
    for name in ("cli_plugins", "cli_quits"):
        sys.modules.pop(name, None)
    registry.refresh()


def test_the_list_says_which_cannot_be_used_and_why(command: Command) -> None:
    code, out, _ = command("env", "list", "--json")
    assert code == 0
    found = {each["name"]: each["error"] for each in json.loads(out)}
    assert {*NAMES, "quits", "math"} <= found.keys()
    assert {name for name, error in found.items() if error} == {"stranger", "thing", "gone", "quits"}
    assert "is no environment of AgentDistill; derive it from agentdistill.env.AgentEnv" in found["stranger"]
    assert "has no attribute 'Gone'" in found["gone"]
    assert "SystemExit: 0" in found["quits"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bare", "Bare does not say where its tasks come from; override load_tasks(config, split); return a TaskSet for each of train"),
        ("offline", "load_tasks(config, 'train') raised ConnectionError: no database; return a TaskSet for each of train, val, test"),
        ("quitting", "building it raised SystemExit: 0; take (config, *, clock, render_mode) and hand them to super().__init__"),
        ("unset", "raised OSError: no settings"),
        ("stranger", "has no class Config that derives from"),
        ("thing", "has no class Config that derives from"),
        ("gone", "has no attribute 'Gone'"),
        ("quits", "failed to load: SystemExit: 0"),
    ],
)
def test_the_check_explains_each(command: Command, name: str, sentence: str) -> None:
    code, out, err = command("env", "check", name)
    assert (code, out) == (3, "")
    assert sentence in err
    assert err.startswith("agentdistill: error: ")
    assert err.count("\n") == 1


def test_a_bad_task_file_of_the_users_is_exit_code_2_with_its_own_message(command: Command) -> None:
    code, _, err = command("env", "check", "math", "env.tasks=/nope.jsonl")
    assert code == 2
    assert "no task file 'nope.jsonl'" in err
    assert "TaskSet" not in err


@pytest.mark.parametrize("name", ["stranger", "thing", "gone", "quits", "unset"])
def test_training_on_one_that_does_not_load_is_refused(command: Command, name: str) -> None:
    code, _, err = command("train", "--dry-run", f"env={name}")
    assert code == 3
    assert err.startswith("agentdistill: error: ")
