"""``agentdistill task``: what an environment asks, and what it hides."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from agentdistill import registry
from agentdistill.config import compose_train
from agentdistill.env import SPLITS, AgentEnv
from agentdistill.errors import EXIT_OK, AgentDistillError, PluginError, TaskError, UsageError, boundary, unknown
from agentdistill.store.transcript import visible
from agentdistill.types import PluginConfig, Task

if TYPE_CHECKING:
    import networkx

LISTED = 20


def run(arguments: argparse.Namespace) -> int:
    from agentdistill.train.session import env_class_of

    splits, limit, overrides = _words(arguments.overrides, listing=arguments.action == "list")
    config = compose_train(overrides).config.env
    env_class = env_class_of(config)
    if arguments.action == "list":
        return _list(env_class, config, splits[0], limit, arguments.json)
    if overrides:
        split, task = _find(env_class, config, splits, arguments.id)
    else:
        env_class, config, split, task = _find_anywhere(splits, arguments.id)
    graph = _graph(env_class, config, task) if arguments.graph else None
    if arguments.json:
        print(json.dumps(_document(split, task, graph), indent=2))
    else:
        print("\n".join(_shown(split, task, graph)))
    return EXIT_OK


def _words(words: Sequence[str], *, listing: bool) -> tuple[tuple[str, ...], int, list[str]]:
    """Splits to look in, how many to list, and what concerns the environment."""
    splits: tuple[str, ...] = ("train",) if listing else SPLITS
    limit = LISTED
    rest: list[str] = []
    for word in words:
        key, _, value = word.partition("=")
        if key == "split":
            if value not in SPLITS:
                raise UsageError(unknown("split", value, SPLITS))
            splits = (value,)
        elif key == "limit" and listing:
            if not value.isdecimal() or not int(value):
                raise UsageError(f"limit={value} is no whole number from 1")
            limit = int(value)
        elif key == "env" or key.startswith("env."):
            rest.append(word)
        else:
            valid = ("env=", "env.<key>=", "split=", *(("limit=",) if listing else ()))
            raise UsageError(f"no word {word!r} here; valid are {', '.join(valid)}")
    return splits, limit, rest


def _list(env_class: type[AgentEnv], config: PluginConfig, split: str, limit: int, as_json: bool) -> int:
    from agentdistill.train.session import tasks_of

    tasks = tasks_of(env_class, config, split)
    shown = list(tasks.take(limit))
    if as_json:
        print(json.dumps([_document(split, task, None) for task in shown], indent=2))
        return EXIT_OK
    for task in shown:
        print(f"{visible(task.id):<24} {visible(task.prompt[-1].content)}")
    if len(shown) < len(tasks):
        print(f"the first {len(shown)} of {len(tasks)} tasks of {split!r}; limit=N shows more")
    return EXIT_OK


def _find(env_class: type[AgentEnv], config: PluginConfig, splits: Sequence[str], id: str) -> tuple[str, Task]:
    from agentdistill.train.session import tasks_of

    ids: list[str] = []
    for split in splits:
        for task in tasks_of(env_class, config, split):
            if task.id == id:
                return split, task
            ids.append(task.id)
    where = f"task of env {config.name!r} in {', '.join(splits)}"
    few = ids if len(ids) <= 8 else ids[:3]
    raise TaskError(f"{unknown(where, id, few)}; agentdistill task list env={config.name} lists them")


def _find_anywhere(splits: Sequence[str], id: str) -> tuple[type[AgentEnv], PluginConfig, str, Task]:
    """The same where no environment was named: in the first installed one, by name, that has it under its defaults."""
    from agentdistill.train.session import env_class_of

    names = registry.names("envs")
    for name in names:
        try:
            config = compose_train([f"env={name}"]).config.env
            env_class = env_class_of(config)
            return env_class, config, *_find(env_class, config, splits, id)
        except AgentDistillError:  # not there, or an environment that has no tasks before it is told which
            continue
    raise TaskError(f"no task {id!r} in any environment ({', '.join(names)}); name one with its settings: env=NAME env.key=value")


def _graph(env_class: type[AgentEnv], config: PluginConfig, task: Task) -> networkx.DiGraph[str]:
    try:
        with boundary(PluginError, f"environment {config.name!r} cannot draw task {task.id!r}"):
            return env_class.task_graph(config, task)
    except PluginError as error:
        if isinstance(error.__cause__, NotImplementedError):
            raise UsageError(f"there is no graph of task {task.id!r}: {error.__cause__}") from error
        raise


def _document(split: str, task: Task, graph: networkx.DiGraph[str] | None) -> dict[str, Any]:
    document: dict[str, Any] = {"split": split, **task.model_dump(mode="json")}
    if graph is not None:
        import networkx

        document["graph"] = networkx.node_link_data(graph, edges="edges")
    return document


def _shown(split: str, task: Task, graph: networkx.DiGraph[str] | None) -> Iterator[str]:
    yield f"{visible(task.id)}  ({task.env}, {split}{''.join(f', {visible(tag)}' for tag in task.tags)})"
    for message in task.prompt:
        yield f"  {message.role}: {visible(message.content)}"
    yield f"  answer: {visible(str(task.answer))}"
    if graph is not None:
        yield ""
        yield from drawing(graph)
        return
    for key, value in task.data.items():
        yield f"  {visible(key)}: {visible(json.dumps(value, ensure_ascii=False))}"


def drawing(graph: networkx.DiGraph[str]) -> Iterator[str]:
    """The graph as lines of text: what follows from a node stands below it; calls carry their place in optimal play."""
    import networkx

    labelled = graph.copy()
    for node, facts in labelled.nodes(data=True):
        step = f"{facts['step']}. " if "step" in facts else ""
        facts["label"] = f"{step}{visible(str(facts.get('label', node)))}"
    yield from networkx.generate_network_text(labelled)
