"""Before anything heavy is loaded: does the combination fit together, and what would happen?

Task sets are there and not empty; the method's terms can train; the device is there; the run's name is free and its checkpoints fit on
the disk; teacher and student have the same vocabulary, special tokens, end-of-turn token and chat template. A mismatch is refused, naming
both sides: a teacher that scores other tokens than the student sampled gives numbers, and they are wrong.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace

from agentdistill.config.schema import TrainConfig
from agentdistill.env import AgentEnv
from agentdistill.errors import ConfigError, IncompatibleError, UsageError
from agentdistill.methods.protocol import Method
from agentdistill.policy.loading import ModelFacts, load_tokenizer, model_facts, resolve_device
from agentdistill.render import Renderer, TokenizerFingerprint, compare, padding_note
from agentdistill.store import Run
from agentdistill.train.session import SELF, env_class_of, expert_of, method_of, plugin_of, tasks_of
from agentdistill.train.track import check_tracker


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    lines: tuple[tuple[str, str], ...]

    def text(self) -> str:
        width = max(len(name) for name, _ in self.lines)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.lines)


def preflight(config: TrainConfig) -> Plan:
    """Check the combination and describe it.

    Raises:
        TaskError: a task set is missing, empty, or has a bad row.
        ConfigError: parts that do not go together.
        IncompatibleError: teacher and student do not speak the same tokens.
        PluginError: a plug-in failed to load.
        UsageError: the run's name is taken, or its folder cannot hold it.
    """
    if not config.resume:
        Run.require_new(config.runs_dir, config.run)
    check_tracker(config.track)
    resolve_device(config.learner.device)
    env_class = env_class_of(config.env)
    lines = [("environment", config.env.name), *_tasks(config, env_class)]
    method = method_of(config)
    lines += _method(config, method)
    if method.needs.expert_plays:
        expert_of(env_class, config)
    if method.needs.anchors and env_class.anchor is AgentEnv.anchor:
        raise ConfigError(
            f"method {config.method.name!r} compares turns that begin in the same state, and environment {config.env.name!r} gives its "
            "states no keys; choose one that does, give it an `anchor`, or set the critic's coefficient to 0"
        )
    lines.append(("student", config.student.path))
    student = Renderer(load_tokenizer(config.student.path, env=config.env.entry_point, role="student"))
    lines.append(("teacher", _teacher(config, method, student) if method.needs.teacher else "none: the method needs none"))
    batch, tokens = config.rollout.batch, config.rollout.max_tokens
    lines.append(("rollout", f"{config.steps} steps of {batch} episodes, at most {tokens} tokens each, {config.rollout.in_flight} at once"))
    lines.append(("learner", f"lr {config.learner.lr:g}, device {config.learner.device}, LoRA {'yes' if config.learner.lora else 'no'}"))
    facts = model_facts(config.student.path, env=config.env.entry_point, role="student")
    if facts.vocab is not None and facts.vocab < student.vocab_size:
        raise ConfigError(
            f"student {config.student.path!r} has {facts.vocab} output rows for the {student.vocab_size} tokens of its tokenizer; "
            "resize its embeddings, or give it the tokenizer that it was trained with"
        )
    lines.append(("disk", _disk(config, facts)))
    return Plan(tuple(lines))


def _tasks(config: TrainConfig, env_class: type[AgentEnv]) -> list[tuple[str, str]]:
    lines = []
    for purpose, split, most in (
        ("train", "train", None),
        ("held out", config.eval.split, config.eval.tasks),
        ("curve", config.eval.progress_split, config.eval.progress_tasks),
    ):
        tasks = tasks_of(env_class, config.env, split)
        used = f"{len(tasks)}" if most is None or most >= len(tasks) else f"the first {most} of {len(tasks)}"
        lines.append((f"tasks, {purpose}", f"{used} of split {split!r}, hash {tasks.hash}"))
    return lines


def _disk(config: TrainConfig, student: ModelFacts) -> str:
    """Room for the checkpoints: weights and the optimizer's two moments of each in float32, and one more that is being written.

    Raises:
        UsageError: the runs cannot be written there, or will not fit.
    """
    place = config.runs_dir.absolute()
    while not place.exists():
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise UsageError(f"runs_dir={config.runs_dir} cannot be written: {place} is {'read-only' if place.is_dir() else 'no directory'}")
    count = config.keep_checkpoints + 1
    there = config.runs_dir / (config.run or "") / "checkpoints" if config.resume else None
    held = sum(file.stat().st_size for file in there.rglob("*.safetensors")) if there is not None else 0
    needed = 0 if config.learner.lora is not None else max(0, count * 3 * 4 * student.parameters - held)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UsageError(
            f"{count} checkpoints need {_size(needed)} and {config.runs_dir} has {_size(free)} left; "
            "free some, choose another runs_dir, or set keep_checkpoints=1"
        )
    return f"{config.runs_dir}: {_size(free)} free, {_size(needed)} of checkpoints to come"


def _size(bytes: int) -> str:
    return f"{bytes / 1e9:.1f} GB" if bytes >= 1e9 else f"{bytes / 1e6:.1f} MB"


def _method(config: TrainConfig, method: Method) -> list[tuple[str, str]]:
    shares = ", ".join(f"{author} {share:g}" for author, share in method.shares_at(0).items())
    terms = ", ".join(f"{name} ({term.kind})" for name, term in method.terms.items())
    return [("method", f"{config.method.name}: {config.method.title}"), ("who plays", shares), ("terms", terms)]


def _teacher(config: TrainConfig, method: Method, student: Renderer) -> str:
    plugin = plugin_of(config.teacher)
    if plugin == SELF:
        return _self_teacher(config, method)
    path = getattr(config.teacher, "path", None)
    if path is None:
        if method.needs.teacher_plays or method.needs.teacher_dense:
            raise ConfigError(
                f"method {config.method.name!r} needs a white-box teacher, and {plugin!r} is none; use teacher=nano or a path"
            )
        return config.teacher.name
    teacher = Renderer(load_tokenizer(path, env=config.env.entry_point, role="teacher"))
    names = (f"student {config.student.path!r}", f"teacher {path!r}")
    prints = student.fingerprint(), teacher.fingerprint()
    _require_same_tokens(*prints, names)  # before weights are looked for: it is the likelier mistake
    ours = model_facts(config.student.path, env=config.env.entry_point, role="student")
    theirs = model_facts(path, env=config.env.entry_point, role="teacher")
    prints = replace(prints[0], model_vocab=ours.vocab), replace(prints[1], model_vocab=theirs.vocab)
    _require_same_tokens(*prints, names)
    longest = min(config.rollout.max_tokens, ours.window or config.rollout.max_tokens)
    if theirs.window is not None and theirs.window < longest:
        raise IncompatibleError(
            f"{names[1]} reads at most {theirs.window} tokens and episodes of {names[0]} have up to {longest}; "
            f"set rollout.max_tokens={theirs.window}, or choose a teacher with a longer context"
        )
    note = padding_note(*prints, names)
    return f"{path} ({plugin}); vocabulary, special tokens, end of turn and chat template equal the student's{f'; {note}' if note else ''}"


def _self_teacher(config: TrainConfig, method: Method) -> str:
    if method.needs.teacher_plays:
        raise ConfigError(
            f"method {config.method.name!r} plays the teacher's episodes, and teacher=self only reads the student's; "
            "set method.sampler.teacher=0 method.sampler.student=1, or choose a teacher that can play, such as teacher=nano"
        )
    view = getattr(config.teacher, "view", "none")
    told = "told nothing more than it" if view == "none" else f"told the {view} of each turn that has one"
    how = "the base under disabled adapters" if config.learner.lora is not None else "a frozen copy"
    return f"the student itself as it began ({how}), {told}"


def _require_same_tokens(student: TokenizerFingerprint, teacher: TokenizerFingerprint, names: tuple[str, str]) -> None:
    if differences := compare(student, teacher, names):
        raise IncompatibleError(
            f"{names[0]} and {names[1]} do not speak the same tokens: {'; '.join(differences)}. "
            "Choose a teacher of the student's model family"
        )
