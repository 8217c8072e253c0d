"""Our environments for TRL's trainers, as an ``environment_factory``.

    Math = make_trl_environment("math")
    trainer = GRPOTrainer(
        model, environment_factory=Math, train_dataset=Dataset.from_list(trl_rows("math", 256)), reward_funcs=trl_hand_in, ...
    )

TRL asks such a class for ``reset(**row)``, and takes its other public methods for tools. Ours are made from the environment's tools, with
real signatures and docstrings, and one more: ``submit(answer)``, which says something without a call. The environments pay through
``get_reward``; :func:`trl_hand_in` hands a last message without calls in before that, so a model need not know ``submit``. Nothing of TRL
is imported here.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

from agentdistill.env import AgentEnv, EnvConfig
from agentdistill.env.check import environment_class
from agentdistill.errors import TaskError
from agentdistill.types import Message, Task, ToolCall, ToolSpec

_TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
_OVER = "The episode is over."
_RESERVED = ("reset", "get_reward", "submit")


def trl_rows(
    env: str | type[AgentEnv], count: int, config: EnvConfig | Mapping[str, Any] | None = None, *, split: str = "train"
) -> list[dict[str, Any]]:
    """Rows for TRL: ``prompt``, chat messages, and ``task``, the task as JSON, by which ``reset`` knows what is played.

    Raises:
        TaskError: no such split.
    """
    kind = environment_class(env)
    tasks = kind.load_tasks(_config(kind, config), split)
    rows = []
    for task in tasks.take(count):
        prompt = [{"role": message.role, "content": message.content} for message in task.prompt]
        rows.append({"prompt": prompt, "task": task.model_dump_json()})
    return rows


def make_trl_environment(env: str | type[AgentEnv], config: EnvConfig | Mapping[str, Any] | None = None) -> type[Any]:
    """A class without arguments whose instances play one environment as TRL wants it.

    Args:
        env: name of an installed environment, or a class.

    Raises:
        ConfigError: no such environment, or a bad configuration.
    """
    kind = environment_class(env)
    settled = _config(kind, config)
    tools = kind(settled).tools
    methods: dict[str, Any] = {tool_method_name(tool.name): _method(tool) for tool in tools}
    about = f"Environment {kind.name!r} of AgentDistill, for TRL."
    return type(f"{kind.__name__}ForTRL", (_Playing,), {**methods, "_kind": kind, "_config": settled, "__doc__": about})


def trl_hand_in(environments: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
    """A reward function for TRL that pays nothing: it hands a last message without calls in as the answer.

    TRL asks it before the environments' own ``get_reward``, which then pays for the answer too.

    Returns:
        0 for each.
    """
    for environment, completion in zip(environments, completions, strict=True):
        last = completion[-1] if isinstance(completion, Sequence) and not isinstance(completion, str) and completion else completion
        if isinstance(last, str):
            environment._finish(last)
        elif isinstance(last, Mapping) and last.get("role") == "assistant" and not last.get("tool_calls"):
            environment._finish(_text(last.get("content")))
    return [0.0 for _ in environments]


def tool_method_name(name: str) -> str:
    """A tool's name as a method's: what is no identifier, or is taken, gets underscores."""
    plain = re.sub(r"\W", "_", name)
    usable = plain.isidentifier() and not plain.startswith("_") and not keyword.iskeyword(plain)
    plain = plain if usable else f"tool_{plain.lstrip('_')}"
    return f"{plain}_" if plain in _RESERVED else plain


class _Playing:
    """One environment and its episode."""

    _kind: type[AgentEnv]
    _config: EnvConfig

    def __init__(self) -> None:
        self._env = self._kind(self._config)
        self._return = 0.0
        self._calls = 0

    def reset(self, *, task: str | Mapping[str, Any] | Task | None = None, **row: Any) -> str | None:
        """Begin the row's task; one that the environment draws, where the row has none.

        Returns:
            What the environment says beyond the task's prompt. ``None``: nothing.

        Raises:
            TaskError: the row's task is none of this environment's.
        """
        self._return, self._calls = 0.0, 0
        try:
            chosen = task if task is None or isinstance(task, Task) else _task(task)
            observation, info = self._env.reset(options=None if chosen is None else {"task": chosen})
        except ValueError as error:
            raise TaskError(f"the row's 'task' cannot be played by {self._kind.name!r}: {error}; make rows with trl_rows") from error
        told = info["task"].prompt
        return None if chosen is not None and observation == told else _joined(observation)

    def get_reward(self) -> float:
        """The sum of the episode's rewards so far."""
        return self._return

    def submit(self, answer: str) -> str:
        """Give the final answer, or say something to the environment.

        Args:
            answer: the text

        Returns:
            What the environment replies.
        """
        return self._say(Message.assistant(answer))

    def _finish(self, text: str) -> None:
        if not self._env.over:
            self._say(Message.assistant(text))

    def _use(self, name: str, arguments: Mapping[str, Any]) -> str:
        self._calls += 1
        return self._say(Message.assistant("", ToolCall(id=f"call_{self._calls}", name=name, arguments=dict(arguments))))

    def _say(self, message: Message) -> str:
        if self._env.over:
            return _OVER
        observation, reward, _, _, _ = self._env.step(message)
        self._return += reward
        text = _joined(observation)
        return f"{text}\n{_OVER}".strip() if self._env.over else text


def _config(kind: type[AgentEnv], config: EnvConfig | Mapping[str, Any] | None) -> EnvConfig:
    return config if isinstance(config, EnvConfig) else kind.Config(**(config or {}))


def _task(given: str | Mapping[str, Any]) -> Task:
    return Task.model_validate_json(given) if isinstance(given, str) else Task.model_validate(dict(given))


def _joined(observation: Sequence[Message]) -> str:
    return "\n".join(message.content for message in observation if message.role != "system")


def _text(content: Any) -> str:
    """A message's content, which may come in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) if isinstance(part, Mapping) else str(part) for part in content)
    return "" if content is None else str(content)


def _method(tool: ToolSpec) -> Callable[..., str]:
    """A method with the tool's own signature, annotations and docstring."""
    schema: Any = tool.parameters
    properties, required = schema.get("properties", {}), set(schema.get("required", ()))
    names = {name: tool_method_name(name) for name in properties}

    back = {plain: name for name, plain in names.items()}

    def take(self: _Playing, *args: Any, **kwargs: Any) -> str:
        given = dict(list(signature.bind(self, *args, **kwargs).arguments.items())[1:])
        optional = {plain for plain, name in back.items() if name not in required}
        return self._use(tool.name, {back[key]: value for key, value in given.items() if not (value is None and key in optional)})

    ordered = sorted(properties, key=lambda name: name not in required)  # Python wants parameters with defaults last
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    annotations: dict[str, Any] = {}
    for name in ordered:
        annotations[names[name]] = _annotation(properties[name])
        default = inspect.Parameter.empty if name in required else properties[name].get("default", None)
        if name not in required and default is None:
            annotations[names[name]] = annotations[names[name]] | None
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(names[name], kind, default=default, annotation=annotations[names[name]]))
    signature = inspect.Signature(parameters, return_annotation=str)
    take.__name__ = take.__qualname__ = tool_method_name(tool.name)
    take.__signature__ = signature  # type: ignore[attr-defined]  # inspect.signature reads it, as transformers does
    take.__annotations__ = {**annotations, "return": str}
    take.__doc__ = _docstring(tool, [(names[name], properties[name]) for name in ordered])
    return take


def _docstring(tool: ToolSpec, parameters: Sequence[tuple[str, Any]]) -> str:
    about = tool.description.strip() or f"Call {tool.name}."
    told = [f"    {name}: {' '.join(str(schema.get('description') or name).split())}" for name, schema in parameters]
    arguments = ["", "Args:", *told] if told else []
    return "\n".join([about, *arguments, "", "Returns:", "    What the environment replies."])


def _annotation(schema: Any) -> Any:
    """A JSON schema as the nearest type hint that transformers can turn back."""
    if not isinstance(schema, Mapping):
        return str
    if schema.get("enum"):
        return Literal[tuple(schema["enum"])]
    if "const" in schema:
        return Literal[(schema["const"],)]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        null = {"type": "null"}
        hints = [_annotation(each) for each in options if each != null]
        return Union[tuple(hints + [None] * (null in options))]  # noqa: UP007  made at run time
    kind = schema.get("type")
    if kind == "array" and isinstance(schema.get("items"), Mapping) and schema["items"]:
        return list[_annotation(schema["items"])]  # type: ignore[misc]  # a type that is known when this runs
    return _TYPES.get(str(kind), str)
