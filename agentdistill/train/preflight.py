"""Before anything heavy is loaded: does the combination fit together, and what would happen?

Task sets are there and not empty; the method's terms can train; teacher and student have the same vocabulary, special tokens,
end-of-turn token and chat template. A mismatch is refused, naming both sides: a teacher that scores other tokens than the student
sampled gives numbers, and they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentdistill.config.schema import TrainConfig
from agentdistill.env import AgentEnv
from agentdistill.errors import ConfigError, IncompatibleError, TaskError
from agentdistill.methods.protocol import Method
from agentdistill.policy.loading import load_tokenizer
from agentdistill.render import Renderer, compare
from agentdistill.train.session import env_class_of, method_of
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
    """
    check_tracker(config.track)
    env_class = env_class_of(config.env)
    lines = [("environment", config.env.name), *_tasks(config, env_class)]
    method = method_of(config)
    lines += _method(config, method)
    if method.needs.expert_plays:
        env_class.expert(config.env)
    lines.append(("student", config.student.path))
    student = Renderer(load_tokenizer(config.student.path, env=config.env.name, role="student"))
    if method.needs.teacher:
        lines.append(("teacher", _teacher(config, method, student)))
    else:
        lines.append(("teacher", "none: the method needs none"))
    batch, tokens = config.rollout.batch, config.rollout.max_tokens
    lines.append(("rollout", f"{config.steps} steps of {batch} episodes, at most {tokens} tokens each, {config.rollout.in_flight} at once"))
    lines.append(("learner", f"lr {config.learner.lr:g}, device {config.learner.device}, LoRA {'yes' if config.learner.lora else 'no'}"))
    return Plan(tuple(lines))


def _tasks(config: TrainConfig, env_class: type[AgentEnv]) -> list[tuple[str, str]]:
    lines = []
    for purpose, split in (("train", "train"), ("held out", config.eval.split), ("curve", config.eval.progress_split)):
        tasks = env_class.load_tasks(config.env, split)
        if len(tasks) == 0:
            raise TaskError(f"the {split!r} tasks of environment {config.env.name!r} are empty under this configuration; widen its filters")
        lines.append((f"tasks, {purpose}", f"{len(tasks)} of split {split!r}, hash {tasks.hash}"))
    return lines


def _method(config: TrainConfig, method: Method) -> list[tuple[str, str]]:
    shares = ", ".join(f"{author} {share:g}" for author, share in method.shares.items())
    terms = ", ".join(f"{name} ({term.kind})" for name, term in method.terms.items())
    return [("method", f"{config.method.name}: {config.method.title}"), ("who plays", shares), ("terms", terms)]


def _teacher(config: TrainConfig, method: Method, student: Renderer) -> str:
    plugin = config.teacher.plugin or config.teacher.name
    path = getattr(config.teacher, "path", None)
    if path is None:
        if method.needs.teacher_plays or method.needs.teacher_dense:
            raise ConfigError(
                f"method {config.method.name!r} needs a white-box teacher, and {plugin!r} is none; use teacher=nano or a path"
            )
        return config.teacher.name
    teacher = Renderer(load_tokenizer(path, env=config.env.name, role="teacher"))
    differences = compare(student.fingerprint(), teacher.fingerprint(), (f"student {config.student.path!r}", f"teacher {path!r}"))
    if differences:
        raise IncompatibleError(
            f"student {config.student.path!r} and teacher {path!r} do not speak the same tokens: {'; '.join(differences)}. "
            "Choose a teacher of the student's model family"
        )
    return f"{path} ({plugin}); vocabulary, special tokens, end of turn and chat template equal the student's"
