"""The grammar of `agentdistill compare`: what becomes an arm, and what is refused and why."""

from __future__ import annotations

import json

import pytest

from agentdistill.errors import ConfigError, UsageError
from agentdistill.train.compare.protocol import load
from agentdistill.train.compare.words import read


def arms(*words):
    return {arm.name: arm for arm in read(words)[0].arms}


def test_every_combination_of_the_compared_options_is_an_arm():
    found = arms("method=opd,grpo", "env=math34,math4", "rollout.batch=64")
    assert list(found) == ["opd-math34", "opd-math4", "grpo-math34", "grpo-math4"]
    assert found["grpo-math4"].resolved["env"]["calls"] == [4, 4]
    assert found["opd-math34"].resolved["env"]["calls"] == [3, 4]
    assert all(arm.resolved["rollout"]["batch"] == 64 for arm in found.values())
    assert found["grpo-math34"].resolved["method"]["group_size"] == 8
    assert found["grpo-math34"].rates == (3e-4, 6e-4, 1e-3)


def test_without_anything_to_compare_there_is_one_arm_named_after_what_it_is():
    assert list(arms("method=grpo", "env=math34")) == ["grpo-math34"]


def test_an_option_can_have_a_grid_of_its_own():
    found = arms("method=opd,grpo", "lr=1e-3", "lr.grpo=1e-4,2e-4")
    assert (found["opd"].rates, found["grpo"].rates) == ((1e-3,), (1e-4, 2e-4))


def test_an_option_may_be_a_file(tmp_path):
    (tmp_path / "my own.yaml").write_text("sampler: {student: 0, teacher: 1, demonstrations: 16}\nterms: {a: {kind: supervised}}\n")
    found = arms(f"method=opd,{tmp_path}/my own.yaml")
    assert list(found) == ["opd", "my_own"]
    assert found["my_own"].resolved["method"]["sampler"]["demonstrations"] == 16


def test_the_runs_of_a_comparison_are_what_the_protocol_says():
    comparison, jobs = read(["method=opd,sft_64", "lr=1e-3,2e-3", "lr.sft_64=6e-4", "seeds=2", "budget=800", "tuning_budget=400", "jobs=3"])
    assert jobs == 3
    opd, sft = comparison.arms
    assert [job.name for job in comparison.tuning(opd)] == ["opd-lr0.001-tuning", "opd-lr0.002-tuning"]
    assert comparison.tuning(sft) == [], "one rate needs no tuning"
    assert [job.name for job in comparison.reported(sft, 6e-4)] == ["sft_64-lr0.0006-seed0", "sft_64-lr0.0006-seed1"]
    tuning = comparison.tuning(opd)[1].overrides(comparison.protocol)
    assert {"seed=1000", "learner.lr=0.002", "budget=400", "eval.split=val", "eval.progress_split=val", "eval.seed=0"} <= set(tuning)
    reported = comparison.reported(opd, 1e-3)[1].overrides(comparison.protocol)
    assert {"seed=1", "learner.lr=0.001", "budget=800", "eval.split=test", "eval.every_tokens=100", "eval.samples=8"} <= set(reported)
    assert comparison.tokens() == 2 * 400 + 4 * 800


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["method=opd,opdd"], "did you mean 'opd'"),
        (["method=opd,opd"], "names an option twice"),
        (["method=opd,"], "empty entry"),
        (["seeds=0"], "seeds=0: "),
        (["seeds=two"], "seeds=two: "),
        (["tuning_seed=2"], "one of the reported seeds 0 … 2"),
        (["lr="], "lr=: a grid is of positive numbers"),
        (["lr=1e-3,-1"], "positive numbers"),
        (["lr=1e-3,nan"], "positive numbers"),
        (["lr=1e-3,0.001"], "names a rate twice"),
        (["method=opd,grpo", "lr.gkd=1e-3"], "no compared option 'gkd'; available: grpo, opd"),
        (["method=opd,grpo", "env=math34,math4", "lr.opd=1e-3", "lr.math4=1e-4"], "'opd-math4' has two grids, lr.opd and lr.math4"),
        (["learner.betas=1,2"], "options of groups (env, student, teacher, method, learner, rollout)"),
        (["learner.lr=1e-3"], "it is tuned for each arm"),
        (["seed=3"], "seeds=N says how many"),
        (["eval.tasks=3"], "the protocol measures"),
        (["run=x"], "name=NAME"),
        (["resume=true"], "always goes on"),
        (["budget=0"], "budget=0: "),
        (["split=val"], "split and tuning_split are both 'val'"),
        (["criterion=best"], "criterion=best: "),
        (["jobs=0"], "a whole number from 1"),
        (["name=a/b"], "cannot name a run"),
        (["rollout.batch=12", "method=grpo"], "not a multiple of method.group_size=8"),
        (["opd"], "'opd' is not key=value"),
        (["rollout.bach=12"], "batch"),
    ],
)
def test_a_mistake_is_a_sentence(words, sentence):
    with pytest.raises(UsageError) as error:
        read(words)
    assert sentence in str(error.value)


def test_two_files_of_one_name_are_not_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.yaml").write_text("sampler: {student: 0, teacher: 1}\nterms: {a: {kind: supervised}}\n")
    with pytest.raises(ConfigError, match="two arms would be called 'm'"):
        read([f"method={tmp_path}/a/m.yaml,{tmp_path}/b/m.yaml"])


def test_a_comparison_comes_back_from_the_disk_as_it_was(tmp_path):
    comparison, _ = read([f"runs_dir={tmp_path}", "name=c", "method=opd,grpo", "budget=500"])
    comparison.hold()
    comparison.hold()
    again = load(tmp_path / "c")
    assert again == comparison
    with pytest.raises(UsageError, match=r"no comparison 'd' in .*; there are: c"):
        load(tmp_path / "d")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["budget=600"], "protocol.budget was 500, not 600"),
        (["lr=1e-3"], "opd.rates was [0.0003, 0.0006, 0.001], not [0.001]"),
        (["method=opd,gkd"], "the arms were opd, grpo, not opd, gkd"),
        (["rollout.batch=16"], "opd.settings.rollout.batch was 128, not 16"),
    ],
)
def test_another_protocol_under_the_same_name_is_refused(tmp_path, words, sentence):
    first = [f"runs_dir={tmp_path}", "name=c", "method=opd,grpo", "budget=500"]
    read(first)[0].hold()
    with pytest.raises(UsageError) as error:
        read([*first, *words])[0].hold()
    assert sentence in str(error.value)
    assert "name=NAME" in str(error.value)
    assert json.loads((tmp_path / "c" / "protocol.json").read_text())["protocol"]["budget"] == 500


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no comparison"):
        read([f"runs_dir={tmp_path}", "name=c"])[0].hold()
