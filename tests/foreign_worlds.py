"""Playing a foreign world as a run does: many episodes with a script, and two steps of training."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agentdistill.clock import InlineExecutor, ThreadExecutor
from agentdistill.config import compose_train
from agentdistill.env import AgentEnv, EnvConfig
from agentdistill.policy.loading import load_tokenizer
from agentdistill.policy.protocol import Request
from agentdistill.policy.scripted import ScriptedPolicy
from agentdistill.render import Renderer
from agentdistill.resources import nano_dir
from agentdistill.rollout import Players, plan, play
from agentdistill.store import Run
from agentdistill.train.loop import train
from agentdistill.train.progress import PlainProgress
from agentdistill.train.session import open_session
from agentdistill.types import Episode, Message, Sampling


def play_twenty(kind: type[AgentEnv], config: EnvConfig, act: Callable[[Request], Message | str], *, workers: int = 0) -> list[Episode]:
    """Twenty episodes of twenty training tasks (of as many as there are, again and again), several at once."""
    renderer = Renderer(load_tokenizer("nano", env="math", role="student"))

    def say(request: Request, rng: np.random.Generator) -> Message | str:
        return act(request)

    executor: Any = ThreadExecutor(workers) if workers else InlineExecutor()
    players = Players(
        make_env=lambda: kind(config),
        policies={"student": ScriptedPolicy(say, renderer, author="student")},
        renderer=renderer,
        sampling=Sampling(max_new_tokens=256),
        max_tokens=4096,
        in_flight=8,
        retries=0,
        executor=executor,
    )
    tasks = kind.load_tasks(config, "train")
    few = min(20, len(tasks))
    plays = plan([tasks[index] for index in range(few)], seed=0, kind="train", step=0, group_size=-(-20 // few))[:20]
    try:
        return play(plays, players)
    finally:
        executor.close()


def train_two_steps(folder: Path, *overrides: str) -> Run:
    """With the nano student of env=math, whose tokens are anybody's."""
    small = ["rollout.batch=4", "rollout.max_new_tokens=16", "rollout.max_tokens=768", "steps=2"]
    small += ["eval.tasks=1", "eval.progress_tasks=1", "eval.every=0", f"student.path={nano_dir('math', 'student')}"]
    composed = compose_train(["run=two", f"runs_dir={folder}", *small, *overrides])
    with open_session(composed, PlainProgress(io.StringIO())) as (parts, recorder):
        train(parts, recorder)
    return Run.open(folder, "two", readonly=True)


def trained(run: Run) -> int:
    """Steps whose episodes were all played to an end that trains."""
    statuses = [episode.status.trainable for episode in run.episodes.stream()]
    assert statuses
    assert all(statuses)
    return len({row["step"] for row in run.metrics() if row["kind"] == "train"})
