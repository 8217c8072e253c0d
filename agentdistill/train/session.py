"""From a configuration to a run that can start: the run's directory, and every part built once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agentdistill import registry
from agentdistill.clock import SYSTEM_CLOCK, Clock, InlineExecutor, ThreadExecutor
from agentdistill.config import Composed, save_config
from agentdistill.config.schema import ModelConfig, RolloutConfig, TrainConfig
from agentdistill.config.terms import learned_values
from agentdistill.env import AgentEnv, EnvConfig, Expert
from agentdistill.errors import ConfigError, PluginError, TaskError, boundary
from agentdistill.learner import Learner
from agentdistill.methods.objective import Objective
from agentdistill.methods.protocol import Method
from agentdistill.policy.hf import HFPolicy
from agentdistill.policy.loading import load_model, load_tokenizer, resolve_device
from agentdistill.policy.protocol import Policy, Request
from agentdistill.policy.scripted import ScriptedPolicy
from agentdistill.render import Renderer
from agentdistill.rollout import Players
from agentdistill.store import Run
from agentdistill.taskset import TaskSet
from agentdistill.teacher.logprob import LogprobTeacher
from agentdistill.teacher.privileged import SelfTeacher
from agentdistill.teacher.protocol import DenseTeacher, Teacher
from agentdistill.train.parts import CountingDense, Parts
from agentdistill.train.progress import Progress
from agentdistill.train.record import Recorder
from agentdistill.train.resume import require_same_run
from agentdistill.train.state import load_checkpoint
from agentdistill.types import Author, Message, PluginConfig, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def open_session(composed: Composed, progress: Progress, *, clock: Clock = SYSTEM_CLOCK) -> Iterator[tuple[Parts, Recorder]]:
    """Build the parts, create or reopen the run's directory, and hold the run's lock meanwhile.

    Raises:
        UsageError: the run exists and was not asked to resume, it is in use, or it was begun with other settings.
        StoreError: its checkpoints are damaged.
    """
    config = composed.config
    if config.resume:
        require_same_run(composed)
    else:
        Run.require_new(config.runs_dir, config.run)
    parts = build(config, clock=clock)  # before the run has a folder, so that what cannot be built leaves none
    with _open(config) as run:
        restored = load_checkpoint(run, parts.learner) if config.resume else None
        save_config(run.path / "config.yaml", composed)
        recorder = Recorder(run, parts, progress, restored=restored, clock=clock)
        try:
            yield parts, recorder
        finally:
            recorder.close()
            parts.players.executor.close()


def _open(config: TrainConfig) -> Run:
    if config.resume:
        return Run.open(config.runs_dir, config.run)
    return Run.create(config.runs_dir, config.run, stem=f"{config.env.name}-{config.method.name}-{config.seed}")


def build(config: TrainConfig, *, clock: Clock = SYSTEM_CLOCK) -> Parts:
    """Every part of a run. Loads models; the combination was checked before (:mod:`agentdistill.train.preflight`)."""
    env_class, env_config = env_class_of(config.env), config.env
    assert isinstance(env_config, EnvConfig), "composing validated the section with the environment's own Config"
    method = method_of(config)
    device = resolve_device(config.learner.device)
    tokenizer = load_tokenizer(config.student.path, env=config.env.entry_point, role="student")
    model = load_model(
        config.student.path,
        env=config.env.entry_point,
        role="student",
        dtype=student_dtype(config.student, device, in_full=config.learner.lora is None),
        device=device,
    )
    renderer = Renderer(tokenizer)
    method.special_ids = frozenset(tokenizer.all_special_ids)
    own = method.needs.teacher and plugin_of(config.teacher) == SELF
    learner = Learner(
        model,
        config.learner,
        device=device,
        reference=method.needs.reference or own,
        vocab_size=renderer.vocab_size,
        values=learned_values(method.terms) if method.needs.values else None,
    )
    teacher = None
    if method.needs.teacher:
        teacher = self_teacher(config, learner, renderer) if own else teacher_of(config, device, vocab_size=renderer.vocab_size)
    student = player_of(learner.model, renderer, config.rollout, name="student", autocast=learner.precision.product_dtype)
    policies: dict[Author, Policy] = {"student": student}
    if method.needs.expert_plays:
        policies["expert"] = expert_policy(expert_of(env_class, config), renderer)
    if method.needs.teacher_plays:
        assert isinstance(teacher, LogprobTeacher), "preflight lets only a white-box teacher play"
        policies["teacher"] = player_of(teacher.model, renderer, config.rollout, name="teacher")
    players = players_of(config.rollout, lambda: env_class(env_config), policies, renderer, clock=clock)
    players.versions = versions(config)
    return Parts(
        config=config,
        tasks=tasks_of(env_class, config.env, "train"),
        held_out={
            "test": tasks_of(env_class, config.env, config.eval.split).take(config.eval.tasks),
            "progress": tasks_of(env_class, config.env, config.eval.progress_split).take(config.eval.progress_tasks),
        },
        players=players,
        sinks=[student],
        teacher=teacher,
        dense_teacher=dense_of(teacher) if method.needs.teacher_dense else None,
        method=method,
        learner=learner,
    )


def env_class_of(config: PluginConfig) -> type[AgentEnv]:
    """The class behind an environment's configuration."""
    found: Any = registry.resolve("envs", config.entry_point)
    return found  # type: ignore[no-any-return]  # check_env holds the contract


def tasks_of(env_class: type[AgentEnv], config: PluginConfig, split: str) -> TaskSet:
    """The tasks of a split.

    Raises:
        TaskError: the set is missing, empty, or has a bad row.
        PluginError: the environment failed to give them.
    """
    where = f"environment {config.name!r} cannot give its {split!r} tasks"
    with boundary(PluginError, where):
        tasks = env_class.load_tasks(config, split)
    if not isinstance(tasks, TaskSet):
        raise PluginError(f"{where}: load_tasks returned a {type(tasks).__name__}, not a TaskSet (agentdistill.taskset.TaskSet)")
    if len(tasks) == 0:
        raise TaskError(f"the {split!r} tasks of environment {config.name!r} are empty under this configuration; widen its filters")
    return tasks


def expert_of(env_class: type[AgentEnv], config: TrainConfig) -> Expert:
    """The environment's scripted expert, which the method needs.

    Raises:
        ConfigError: it has none under this configuration.
        PluginError: it failed.
    """
    try:
        with boundary(PluginError, f"environment {config.env.name!r} cannot give its expert"):
            return env_class.expert(config.env)
    except PluginError as error:
        if isinstance(error.__cause__, NotImplementedError):
            raise ConfigError(
                f"method {config.method.name!r} plays an expert's episodes, and there is none: {error.__cause__}; "
                "choose a method without one (agentdistill method list) or other tasks"
            ) from error
        raise


def method_of(config: TrainConfig) -> Method:
    """The chosen method, which refuses here what cannot work."""
    if config.method.plugin == "objective":
        return Objective(config.method)
    found: Any = registry.resolve("methods", config.method.plugin or config.method.name)
    return found(config.method)  # type: ignore[no-any-return]


def teacher_of(config: TrainConfig, device: torch.device, *, vocab_size: int) -> Teacher:
    """The chosen teacher, frozen.

    Args:
        vocab_size: of the tokenizer; heads are padded to different sizes within one family, and are cut there.

    Raises:
        IncompatibleError: the teacher's head is smaller.
    """
    if plugin_of(config.teacher) == "logprob":
        return LogprobTeacher.from_config(
            config.teacher, env=config.env.entry_point, device=device, chunk_tokens=config.learner.chunk_tokens, vocab_size=vocab_size
        )
    found: Any = registry.resolve("teachers", plugin_of(config.teacher))
    return found(config.teacher)  # type: ignore[no-any-return]


SELF = "self"
"""The teacher that is the student."""


def plugin_of(config: PluginConfig) -> str:
    """The plug-in that a section configures."""
    return config.plugin or config.name


def self_teacher(config: TrainConfig, learner: Learner, renderer: Renderer) -> Teacher:
    """The student as it began, told what the environment recorded; under the learner's own weights, of which there is no second copy
    with LoRA."""
    return SelfTeacher.of(
        config.teacher,
        renderer,
        learner.as_it_began,
        version=config.student.path,
        chunk_tokens=config.learner.chunk_tokens,
        batch_tokens=config.learner.micro_batch_tokens,
    )


def student_dtype(config: ModelConfig, device: torch.device, *, in_full: bool) -> str:
    """``auto``: float32 where the weights train in full; else bfloat16 on CUDA, which is fast in it."""
    return "bfloat16" if config.dtype == "auto" and device.type == "cuda" and not in_full else config.dtype


def dense_of(teacher: object) -> CountingDense:
    """The teacher's whole distributions, counted.

    Raises:
        ConfigError: it has none to offer.
    """
    if not isinstance(teacher, DenseTeacher):
        name = getattr(teacher, "name", "none")
        raise ConfigError(
            f"the method compares whole distributions, which teacher {name!r} cannot give; use a white-box teacher such as 'nano'"
        )
    return CountingDense(teacher)


def expert_policy(expert: Expert, renderer: Renderer) -> Policy:
    """The environment's scripted expert as a player."""

    def act(request: Request, rng: np.random.Generator) -> Message:
        assert request.task is not None, "the rollout always names the task"
        return expert.act(request.task, request.messages, rng)

    return ScriptedPolicy(act, renderer, name="expert")


def player_of(
    model: PreTrainedModel, renderer: Renderer, config: RolloutConfig, *, name: str, autocast: torch.dtype | None = None
) -> HFPolicy:
    """A model that plays, on the device where it is, with ids that mean something only."""
    return HFPolicy(model, renderer, name=name, max_batch=config.in_flight, vocab_size=renderer.vocab_size, autocast=autocast)


def players_of(
    config: RolloutConfig,
    make_env: Callable[[], AgentEnv],
    policies: Mapping[Author, Policy],
    renderer: Renderer,
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> Players:
    """Players as the configuration has them; close their executor when they are done."""
    return Players(
        make_env=make_env,
        policies=policies,
        renderer=renderer,
        sampling=Sampling(temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens),
        max_tokens=config.max_tokens,
        in_flight=config.in_flight,
        retries=config.env_retries,
        call_timeout=config.env_timeout,
        overlap=config.overlap,
        executor=ThreadExecutor(config.env_workers) if config.env_workers else InlineExecutor(),
        clock=clock,
    )


def versions(config: TrainConfig) -> dict[str, str]:
    """What an episode's record says about who played it."""
    found = {"student": config.student.path, "env": config.env.name}
    for package in ("agentdistill", "torch", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
