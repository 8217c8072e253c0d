"""What every adapter stands on."""

from __future__ import annotations

import sys

import pytest

from agentdistill.errors import ConfigError, EnvError, PluginError, TaskError
from agentdistill.interop.foreign import FIRST_SEED, need, require_answer, seeded
from agentdistill.types import Message, Task


def task(id: str, seed: int) -> Task:
    return Task(id=id, env="w", prompt=(Message.user(str(seed)),))


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(ConfigError, match=r"env 'w' needs the package 'no_such_package'.*agentdistill\[w\]"):
        need("no_such_package", env="w", extra="w")


@pytest.mark.parametrize("line", ["raise RuntimeError('boom')", "import no_such_dependency"])
def test_a_package_that_fails_to_import_is_told_apart_from_a_missing_one(tmp_path, monkeypatch, line: str) -> None:
    (tmp_path / "half_broken.py").write_text(line)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="'half_broken' does not import"):
        need("half_broken", env="w", extra="w")
    sys.modules.pop("half_broken", None)


def test_splits_share_no_seed() -> None:
    seeds = [{str(each.prompt[0].content) for each in seeded("w", split, 50, task)} for split in FIRST_SEED]
    assert sum(len(each) for each in seeds) == len(set.union(*seeds)) == 150


def test_an_unknown_split_names_the_valid_ones() -> None:
    with pytest.raises(TaskError, match="train"):
        seeded("w", "tset", 5, task)


def test_a_world_that_does_not_answer_is_the_users_to_mend_and_one_that_does_is_asked_once() -> None:
    asked = []

    def silent() -> None:
        raise EnvError("nobody there")

    with pytest.raises(ConfigError, match="nobody there"):
        require_answer("a key of this test", silent)
    for _ in range(2):
        require_answer("a key of this test", lambda: asked.append(1))
    assert asked == [1]
