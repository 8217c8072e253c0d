"""``agentdistill env``: list and check environments."""

from __future__ import annotations

import argparse
import json

from agentdistill import registry
from agentdistill.errors import EXIT_OK, AgentDistillError, UsageError


def run(arguments: argparse.Namespace) -> int:
    return _list(arguments.json) if arguments.action == "list" else _check(arguments)


def _list(as_json: bool) -> int:
    found = [
        {"name": plugin.name, "from": f"{plugin.distribution} {plugin.version}", "class": plugin.value, "error": _trouble(plugin)}
        for plugin in registry.list_plugins("envs", load=True)
    ]
    if as_json:
        print(json.dumps(found, indent=2))
        return EXIT_OK
    for each in found:
        print(f"{each['name']:<16} {each['from']:<28} {each['class']}")
        if each["error"]:
            print(f"{'':<16} broken: {each['error']}")
    return EXIT_OK


def _trouble(plugin: registry.PluginInfo) -> str | None:
    """Why it cannot be used: it does not load, or what it loads is no environment."""
    from agentdistill.env.check import environment_class

    if plugin.error is not None:
        return plugin.error
    try:
        environment_class(plugin.name)
    except AgentDistillError as error:
        return str(error)
    return None


def _check(arguments: argparse.Namespace) -> int:
    from agentdistill.config import compose_train
    from agentdistill.env import check_env

    for word in arguments.overrides:
        if not word.startswith("env."):
            raise UsageError(f"env check takes settings of the environment, env.key=value, not {word!r}")
    composed = compose_train([f"env={arguments.name}", *arguments.overrides])
    env_class = registry.resolve("envs", composed.config.env.plugin or composed.config.env.name)
    check_env(env_class, config=composed.config.env)  # type: ignore[arg-type]  # composing validated it with the class's own Config
    if arguments.json:
        print(json.dumps({"env": arguments.name, "ok": True}))
    else:
        print(f"{arguments.name}: keeps the environment contract")
    return EXIT_OK
