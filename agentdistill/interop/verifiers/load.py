"""From a taskset's id to its tasks.

    id ──verifiers.v1.utils.loaders──> config class ──options──> taskset ──iterate──> tasks, of each ten: eight train, one val, one test

Played here are tasks that need nothing but words: a prompt, one answer, and rewards that are computed from it. A task that needs a
harness, a container, tools or a user who speaks first is refused, with the reason; its world is verifiers' own.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from types import ModuleType
from typing import Any

from agentdistill.env import SPLITS
from agentdistill.errors import AgentDistillError, ConfigError, PluginError, TaskError, unknown
from agentdistill.interop.foreign import need
from agentdistill.types import Message

_CYCLE = 10
"""Of so many tasks one is for ``val`` and one for ``test``."""


@dataclass(frozen=True)
class Loaded:
    """One taskset."""

    tasks: tuple[Any, ...]
    """Of verifiers, in its order."""
    skipped: tuple[str, ...]
    """Rewards and metrics that need a runtime, and are not computed here."""

    def indices(self, split: str) -> tuple[int, ...]:
        """Which of the tasks are a split's.

        Raises:
            TaskError: no such split.
        """
        if split not in SPLITS:
            raise TaskError(unknown("split", split, SPLITS))
        cycle = min(_CYCLE, len(self.tasks))
        places = {"val": (cycle - 2,), "test": (cycle - 1,), "train": tuple(range(cycle - 2))}[split]
        return tuple(index for index in range(len(self.tasks)) if index % cycle in places)


def part(name: str) -> ModuleType:
    """A module of verifiers' v1.

    Raises:
        ConfigError: verifiers is not installed, or is of before v1.
    """
    package = need("verifiers", env="verifiers", extra="verifiers")
    if hasattr(package, "load_environment"):
        version = getattr(package, "__version__", "unknown")
        raise ConfigError(
            f"env 'verifiers' plays tasksets of verifiers 0.4 and later; installed is {version}, whose environments (load_environment, "
            "SingleTurnEnv, ToolEnv) have another interface; install 'agentdistill[verifiers]' in an environment of its own, and port the "
            "environment to a Taskset"
        )
    return need(f"verifiers.v1.{name}", env="verifiers", extra="verifiers")


def load(taskset: str, options: Mapping[str, Any], count: int) -> Loaded:
    """A taskset, read once in a process.

    Args:
        taskset: id, or module, as verifiers resolves it.
        options: fields of its own config.
        count: tasks that are read at most.

    Raises:
        ConfigError: there is no such taskset, or its options are wrong, or it cannot be played without a harness.
        PluginError: it fails to load.
        TaskError: it has too few tasks.
    """
    return _load(taskset, json.dumps(dict(options), sort_keys=True), count)


@lru_cache(maxsize=8)
def _load(taskset: str, options: str, count: int) -> Loaded:
    loaders = part("utils.loaders")
    try:
        kind = loaders.taskset_config_type(taskset)
    except ModuleNotFoundError as error:
        raise ConfigError(f"env 'verifiers': {error}; set env.taskset to an installed taskset or to a module") from error
    except Exception as error:  # a stranger's import can raise anything
        raise PluginError(f"env 'verifiers': the taskset {taskset!r} does not load: {type(error).__name__}: {error}") from error
    try:
        config = kind.model_validate({**json.loads(options), "id": taskset})
    except ValueError as error:
        known = ", ".join(name for name in kind.model_fields if name != "id")
        raise ConfigError(f"env.options of taskset {taskset!r}: {_first_line(error)}; its options: {known}") from error
    try:
        found = loaders.load_taskset(config)
        _require_words(taskset, type(found).toolsets(config), "its taskset has tools")
        tasks = tuple(islice(iter(found), count))
    except AgentDistillError:
        raise
    except Exception as error:
        raise PluginError(f"env 'verifiers': the taskset {taskset!r} fails: {type(error).__name__}: {error}") from error
    if len(tasks) < len(SPLITS):
        raise TaskError(f"the taskset {taskset!r} has {len(tasks)} tasks; it takes three to have {', '.join(SPLITS)}")
    return Loaded(tasks, _playable(taskset, tasks))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3] if len(lines) > 1 else lines)


def _require_words(taskset: str, obstacle: Any, what: str) -> None:
    if obstacle:
        raise ConfigError(
            f"the taskset {taskset!r} cannot be played here: {what}; env=verifiers plays tasks of words alone, without harness and runtime"
        )


def _playable(taskset: str, tasks: tuple[Any, ...]) -> tuple[str, ...]:
    """Refuse what needs more than words; returns the names of signals that are left out."""
    base, first = part("task").Task, tasks[0]
    kind = type(first)
    its = f"its task {kind.__name__}"
    _require_words(taskset, kind.NEEDS_CONTAINER, f"{its} needs a container")
    for hook in ("setup", "finalize"):
        _require_words(taskset, getattr(kind, hook) is not getattr(base, hook), f"{its} has {hook}(), which needs a runtime")
    _require_words(taskset, kind.toolsets(first.config), f"{its} has tools")
    for task in tasks:
        prompt = prompt_of(task)
        _require_words(taskset, not prompt or prompt[-1].role == "system", f"task {task.data.idx} has no prompt, and its user speaks first")
        _require_words(taskset, prompt[-1].role == "assistant", f"task {task.data.idx} ends with a message of the assistant's")
    rewards = {hook.__name__: _needs_runtime(hook) for hook in first.hooks("reward")}
    rewards |= {judge.reward_name: _needs_runtime(judge.score) for judge in first.plugged_judges()}
    _require_words(taskset, all(rewards.values()), f"{its} has no reward that is computed without a runtime")
    signals = rewards | {hook.__name__: _needs_runtime(hook) for hook in first.hooks("metric")}
    return tuple(name for name, skipped in signals.items() if skipped)


def _needs_runtime(hook: Any) -> bool:
    parameter = inspect.signature(hook).parameters.get("runtime")
    return parameter is not None and parameter.default is parameter.empty


def prompt_of(task: Any) -> tuple[Message, ...]:
    """What a task of verifiers says first; images are noted, not shown.

    Raises:
        TaskError: it is no conversation that a model can continue.
    """
    return tuple(_prompt(task))


def _prompt(task: Any) -> Iterator[Message]:
    data = task.data
    if data.system_prompt:
        yield Message.system(data.system_prompt)
    if isinstance(data.prompt, str):
        yield Message.user(data.prompt)
        return
    for message in data.prompt or ():
        text = _text(message.content)
        if message.role not in ("system", "user", "assistant"):
            raise TaskError(f"task {data.idx} begins with a message of role {message.role!r}, which cannot be played without a harness")
        yield Message(role=message.role, content=text)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text if part.type == "text" else "[image, not shown]" for part in content)
