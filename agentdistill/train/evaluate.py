"""How good is a student? Greedy success, and sampled success with pass@k, on a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentdistill.config import compose_train
from agentdistill.config.schema import EvaluateConfig
from agentdistill.env import EnvConfig
from agentdistill.errors import UsageError
from agentdistill.learner import Learner
from agentdistill.policy.hf import HFPolicy
from agentdistill.policy.loading import load_model, load_tokenizer, resolve_device
from agentdistill.render import Renderer
from agentdistill.rollout import Players, plan, play
from agentdistill.store import Run
from agentdistill.taskset import TaskSet
from agentdistill.train.parts import success_rate
from agentdistill.train.session import env_class_of, player_of, players_of, student_dtype, tasks_of
from agentdistill.train.state import load_checkpoint
from agentdistill.train.stats import pass_at
from agentdistill.types import Episode, Record, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class EvalReport(Record):
    """The figures of one evaluation. ``None``: no episode could be judged."""

    env: str
    student: str
    run: str | None
    step: int | None
    """Training steps of the checkpoint; ``None``: not a run's."""
    split: str
    tasks: int
    tasks_hash: str
    greedy: float | None
    sampled: float | None
    """Mean over tasks and samples at temperature 1."""
    pass_at: dict[int, float]
    """pass@k for k = 1, 2, 4 … up to the number of samples: unbiased, arXiv 2107.03374 §2.1."""
    failed_episodes: int
    """Not judged: the environment or its sandbox failed."""

    def text(self) -> str:
        who = f"run {self.run} after {self.step} steps" if self.run else f"student {self.student}"
        lines = [f"{who} on {self.tasks} tasks of {self.env}, split {self.split}"]
        lines.append(f"  greedy   {_figure(self.greedy)}")
        lines.append(f"  sampled  {_figure(self.sampled)}")
        lines += [f"  pass@{k:<4}{value:.3f}" for k, value in self.pass_at.items() if k > 1]
        if self.failed_episodes:
            lines.append(f"  {self.failed_episodes} episodes could not be judged: their environment failed")
        return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def evaluate(config: EvaluateConfig) -> EvalReport:
    """Play the split once greedily and ``samples`` times at temperature 1.

    Raises:
        TaskError: the split is empty.
        ConfigError: there is no such student.
        UsageError: there is no such run, or it has no checkpoint.
    """
    env_class, env_config = env_class_of(config.env), config.env
    assert isinstance(env_config, EnvConfig), "composing validated the section with the environment's own Config"
    tasks = tasks_of(env_class, env_config, config.split)
    if config.tasks is not None:
        tasks = tasks.take(config.tasks)
    policy, renderer, step = _student(config)
    players = players_of(config.rollout, lambda: env_class(env_config), {"student": policy}, renderer)
    try:
        greedy = _play(tasks, players, config, kind="eval-greedy", temperature=0.0, samples=1)
        sampled = _play(tasks, players, config, kind="eval-sampled", temperature=1.0, samples=config.samples)
    finally:
        players.executor.close()
    return EvalReport(
        env=config.env.name,
        student=config.student.path,
        run=config.run,
        step=step,
        split=config.split,
        tasks=len(tasks),
        tasks_hash=tasks.hash,
        greedy=success_rate(greedy),
        sampled=success_rate(sampled),
        pass_at=pass_at_k(sampled),
        failed_episodes=sum(not episode.status.trainable for episode in [*greedy, *sampled]),
    )


def _play(tasks: TaskSet, players: Players, config: EvaluateConfig, *, kind: str, temperature: float, samples: int) -> list[Episode]:
    players.sampling = Sampling(temperature=temperature, max_new_tokens=config.rollout.max_new_tokens)
    return play(plan(list(tasks), seed=config.seed, kind=kind, step=0, group_size=samples), players)


def _student(config: EvaluateConfig) -> tuple[HFPolicy, Renderer, int | None]:
    """The player, and the training steps of the checkpoint that it plays with."""
    device = resolve_device(config.device)
    renderer = Renderer(load_tokenizer(config.student.path, env=config.env.entry_point, role="student"))

    def load(in_full: bool) -> PreTrainedModel:
        dtype = student_dtype(config.student, device, in_full=in_full)
        return load_model(config.student.path, env=config.env.entry_point, role="student", dtype=dtype, device=device)

    if config.run is None:
        return player_of(load(False), renderer, config.rollout, name="student"), renderer, None
    with Run.open(config.runs_dir, config.run, readonly=True) as run:
        trained = compose_train([], base=run.path / "config.yaml").config
        learner = Learner(load(trained.learner.lora is None), trained.learner, device=device, vocab_size=renderer.vocab_size)
        restored = load_checkpoint(run, learner)
        if restored is None:
            raise UsageError(
                f"run {run.name!r} has no checkpoint yet; wait for it, or go on with it: agentdistill train run={run.name} resume=true"
            )
        player = player_of(learner.model, renderer, config.rollout, name="student", autocast=learner.precision.product_dtype)
        return player, renderer, restored.step


def pass_at_k(episodes: Sequence[Episode]) -> dict[int, float]:
    """Unbiased pass@k over groups of equally many judged plays: 1 − C(n−c, k)/C(n, k), averaged over tasks."""
    groups: dict[str, list[bool]] = {}
    for episode in episodes:
        if episode.status.trainable:
            groups.setdefault(episode.group, []).append(bool(episode.success))
    if not groups:
        return {}
    found, k = {}, 1
    while k <= min(len(verdicts) for verdicts in groups.values()):
        rates = [pass_at(len(verdicts), sum(verdicts), k) for verdicts in groups.values()]
        found[k] = sum(rates) / len(rates)
        k *= 2
    return found
