"""A run goes on as what it was begun as, and what cannot be built or resumed leaves everything as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agentdistill.cli.train import _plans as train_plans
from agentdistill.config import compose_train
from agentdistill.errors import ConfigError, StoreError, UsageError
from agentdistill.train.resume import differences


def content(run: Path) -> dict[str, str]:
    """Hash of every file but the lock."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_only_what_counts_is_a_difference():
    saved = {"seed": 0, "steps": 4, "eval": {"every": 8}, "learner": {"lr": 1e-3, "lora": None, "threads": None}}
    wanted = {"seed": 0, "steps": 9, "eval": {"every": 9}, "learner": {"lr": 1e-3, "lora": {"rank": 4}, "threads": 2}}
    assert set(differences(saved, wanted)) == {"learner.lora.rank"}
    assert differences(saved, {**saved, "seed": 1}) == {"seed": (0, 1)}
    assert differences(saved, saved) == {}


@pytest.mark.ci
def test_a_run_stays_what_it_was_begun_as_and_a_refusal_changes_nothing(small):
    run = small.train("a", "steps=2")
    before = content(run.path)
    for overrides, told in [
        (("method=grpo",), r"run 'a' goes on as it was begun: method.name was opd, not grpo.*student=.*checkpoints/2"),
        (("seed=5",), "seed was 0, not 5"),
        (("learner=lora",), r"learner.lora.*was None, not"),
        (("learner.lr=1e-5",), r"learner.lr was 0.0006, not 1e-05"),
        (("rollout.batch=16",), "rollout.batch was 8, not 16"),
        (("env.tries=1",), "env.tries was 2, not 1"),
        (("eval.tasks=4",), "eval.tasks was 8, not 4"),
        (("steps=1",), r"has taken 2 steps already and steps=1 asks for fewer"),
    ]:
        with pytest.raises(UsageError, match=told):
            small.train("a", "resume=true", *overrides)
        assert content(run.path) == before, overrides
        with pytest.raises(UsageError, match=told):  # a dry run, and the first of a sweep, already say so
            train_plans([compose_train(["run=a", f"runs_dir={small.runs}", "resume=true", *overrides], resume_base=True)])
    longer = small.train("a", "resume=true", "steps=3", "eval.every=0", "learner.micro_batch_tokens=4096", "checkpoint_every=5")
    assert (longer.summary() or {})["steps"] == 3


@pytest.mark.ci
def test_a_run_that_cannot_be_built_claims_no_name(small, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for overrides in (("learner.device=cuda",), ("learner=lora", "learner.lora.target_modules=nothing_like_it")):
        with pytest.raises((ConfigError, UsageError)):
            small.train("a", "steps=1", *overrides)
        assert not (small.runs / "a").exists()
    assert (small.train("a", "steps=1").summary() or {})["steps"] == 1


@pytest.mark.ci
def test_a_damaged_checkpoint_is_passed_over_with_a_note_and_without_a_whole_one_nothing_is_touched(small, capsys):
    from agentdistill.cli.main import main

    run = small.train("a", "steps=3")
    weights = run.checkpoints / "3" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert main(["train", "run=a", f"runs_dir={small.runs}", "resume=true"]) == 0
    assert "a newer checkpoint was passed over" in capsys.readouterr().out
    for path in run.checkpoints.glob("*/model.safetensors"):
        path.write_bytes(b"")
    before = content(run.path)
    with pytest.raises(StoreError):
        small.train("a", "resume=true", "steps=5")
    assert content(run.path) == before
