"""Does an environment keep its contract? ``check_env(MyEnv)`` raises with what is broken and what to do about it.

    declared.py   its class, its tools, its task sets
    played.py     one episode ─> to the end ─> rendered ─> the same again ─> beside another ─> limits ─> hostile actions ─> expert
    hooks.py     what an author writes, each part by itself, and how long it takes
    promises.py   what holds at every reset and step, and how a foreign exception becomes a sentence
                  ... and Gymnasium's own checker

Run it in your own tests, or as ``agentdistill env check NAME``.
"""

from __future__ import annotations

import inspect
from typing import Any

from agentdistill import registry
from agentdistill.env.base import AgentEnv, EnvConfig
from agentdistill.env.check import declared, played
from agentdistill.env.check.promises import FOREIGN, Promises
from agentdistill.errors import PluginError

__all__ = ["check_env", "environment_class"]


def check_env(env: str | type[AgentEnv] | AgentEnv, *, config: EnvConfig | None = None, tasks: int = 20) -> None:
    """Check everything that the rest of the package relies on.

    Args:
        env: a class, an instance (its class is checked, with its configuration), or the name of an installed environment.
        config: the configuration to check with. ``None``: the instance's own, or the defaults.
        tasks: how many tasks to play with the expert, where there is one.

    Raises:
        PluginError: the first promise that is broken, and the remedy.
        TaskError: the configuration names task files that are missing or bad.
        ConfigError: there is no environment of that name.
    """
    kind = environment_class(env)
    if config is None:
        config = env.config if isinstance(env, AgentEnv) else _default_config(kind)
    check = Promises(kind, config)
    try:
        declared.declaration(check)
        declared.task_sets(check)
        played.one_episode(check)
        played.to_the_end(check)
        played.rendering(check)
        played.determinism(check)
        played.isolation(check)
        played.limits(check)
        played.hostility(check)
        played.expert(check, tasks)
        played.gymnasium_checker(check)
    finally:
        check.close()


def environment_class(env: str | type[AgentEnv] | AgentEnv) -> type[AgentEnv]:
    """The class of an environment, or of the installed one of that name.

    Raises:
        PluginError: it is no environment of ours, or failed to load.
        ConfigError: there is none of that name.
    """
    found: Any = registry.resolve("envs", env) if isinstance(env, str) else env
    kind = found if inspect.isclass(found) else type(found)
    if not issubclass(kind, AgentEnv):
        raise PluginError(f"{found!r} is no environment of AgentDistill; derive it from agentdistill.env.AgentEnv or ToolEnv")
    if not (inspect.isclass(kind.Config) and issubclass(kind.Config, EnvConfig)):
        raise PluginError(f"the Config of {kind.__name__} is no EnvConfig; derive it from agentdistill.env.EnvConfig")
    return kind


def _default_config(kind: type[AgentEnv]) -> EnvConfig:
    try:
        return kind.Config()
    except FOREIGN as error:
        reason = str(error).partition("\n")[0]
        raise PluginError(f"{kind.__name__}.Config cannot be built without arguments ({reason}); give every field a default") from error
