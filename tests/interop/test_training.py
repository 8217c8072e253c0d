"""Foreign worlds are trained on from the command line like our own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from agentdistill.config import compose_train
from agentdistill.resources import nano_dir
from agentdistill.store import Run
from agentdistill.train.loop import train
from agentdistill.train.progress import PlainProgress
from agentdistill.train.session import open_session

pytestmark = pytest.mark.ci

SMALL = ["steps=2", "rollout.batch=8", "eval.tasks=2", "eval.progress_tasks=2", "eval.every=2", "rollout.max_new_tokens=12", "env.count=8"]


@pytest.mark.parametrize(
    ("env", "method"),
    [
        (["env=gymnasium", "env.id=FrozenLake-v1", "env.max_turns=3"], "opd"),
        (["env=gymnasium", "env.id=interop.worlds:GlobalChance", "env.max_turns=2"], "grpo"),
        (["env=reasoning_gym", "env.dataset=chain_sum"], "opd"),
        (["env=textarena", "env.game=GuessTheNumber-v0", "env.max_turns=2"], "grpo"),
        (["env=skyrl_gym", "env.cls=interop.worlds:Attributes", "env.max_turns=2"], "opd"),
        (["env=skyrl_gym", "env.id=gsm8k", "env.max_turns=2"], "grpo"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_two_steps(env: list[str], method: str, tmp_path: Path) -> None:
    models = [f"student.path={nano_dir('math', 'student')}"]
    if method == "opd":
        models.append(f"teacher.path={nano_dir('math', 'teacher')}")
    composed = compose_train([*env, f"method={method}", *models, *SMALL, "run=a", f"runs_dir={tmp_path}"])
    with open_session(composed, PlainProgress(io.StringIO())) as (parts, recorder):
        train(parts, recorder)
    summary = Run.open(tmp_path, "a", readonly=True).summary() or {}
    assert summary["steps"] == 2
    assert summary["failed_episodes"] == 0
    assert summary["student_tokens"] > 0
