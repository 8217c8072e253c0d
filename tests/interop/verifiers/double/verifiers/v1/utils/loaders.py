from __future__ import annotations

import importlib
from typing import Any, get_args

from verifiers.v1.taskset import Taskset, TasksetConfig


def taskset_class(id: str) -> Any:
    name = id.rsplit("/", 1)[-1].split("@", 1)[0].replace("-", "_").lower()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"taskset {id!r} not found (tried to import {name!r}).") from error
    names = getattr(module, "__all__", None)
    if names is None:
        raise AttributeError(f"taskset module {name!r} defines no `__all__`")
    found = [each for each in (getattr(module, name, None) for name in names) if isinstance(each, type) and issubclass(each, Taskset)]
    if not found:
        raise TypeError(f"taskset module {name!r} exports no Taskset subclass via `__all__`")
    return found[0]


def taskset_config_type(id: str) -> Any:
    kind = taskset_class(id)
    options = [each for base in getattr(kind, "__orig_bases__", ()) for each in get_args(base)]
    return next((each for each in options if isinstance(each, type) and issubclass(each, TasksetConfig)), TasksetConfig)


def load_taskset(config: Any) -> Any:
    return taskset_class(config.id)(config)
