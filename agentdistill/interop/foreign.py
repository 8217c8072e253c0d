"""What every adapter needs: the foreign package, or one sentence; and tasks that are seeds of a foreign world."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

from agentdistill.env import SPLITS
from agentdistill.errors import ConfigError, EnvError, PluginError, TaskError, unknown
from agentdistill.taskset import TaskSet
from agentdistill.types import Task

FIRST_SEED = {"train": 0, "val": 1_000_000, "test": 2_000_000}
"""Of each split: far apart, so that no split plays another's episodes."""


def need(module: str, *, env: str, extra: str) -> ModuleType:
    """The foreign ``module``.

    Args:
        env: the environment that wants it.
        extra: of this distribution, which installs it.

    Raises:
        ConfigError: it is not installed.
        PluginError: it is, and its import fails.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise PluginError(f"env {env!r}: the installed package {module!r} does not import: {error}") from error
        raise ConfigError(f"env {env!r} needs the package {module!r}; install it: pip install 'agentdistill[{extra}]'") from error
    except Exception as error:  # a stranger's import can raise anything
        raise PluginError(f"env {env!r}: the installed package {module!r} does not import: {type(error).__name__}: {error}") from error


_ANSWERED: set[str] = set()


def require_answer(key: str, ask: Callable[[], object]) -> None:
    """Have the other world say something before a run counts on it; once in a process for each ``key``.

    Raises:
        ConfigError: it does not answer, with the :class:`EnvError`'s reason.
    """
    if key in _ANSWERED:
        return
    try:
        ask()
    except EnvError as error:
        raise ConfigError(str(error)) from error
    _ANSWERED.add(key)


def imported(module: str, setting: str, missing: str) -> ModuleType:
    """The user's ``module``, which ``setting`` names.

    Args:
        missing: what to say where there is none, with ``{name}`` for the module that is not there.

    Raises:
        ConfigError: there is none.
        PluginError: its import fails.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ConfigError(f"{setting}: {missing.format(name=repr(error.name))}") from error
        raise PluginError(f"{setting}: the module {module!r} does not import: {error}") from error
    except Exception as error:  # a stranger's import can raise anything
        raise PluginError(f"{setting}: the module {module!r} does not import: {type(error).__name__}: {error}") from error


def seeded(name: str, split: str, count: int, make: Callable[[str, int], Task]) -> TaskSet:
    """``count`` tasks of a world whose tasks are seeds.

    Args:
        make: (task id, seed) to task; the same each time.

    Raises:
        TaskError: no such split.
    """
    if split not in FIRST_SEED:
        raise TaskError(unknown("split", split, SPLITS))
    first = FIRST_SEED[split]
    return TaskSet.from_source(name, lambda index: make(f"{name}-{split}-{index}", first + index), count, split=split)
