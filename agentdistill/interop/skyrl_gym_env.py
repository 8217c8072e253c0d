"""env=skyrl_gym: environments in the style of skyrl-gym, on rows of a file.

    env.id=gsm8k env.tasks=rows.jsonl               one that the package knows
    env.cls=my.module:Maze env.tasks=rows.jsonl     any class of the same shape; the package is not needed

A row has ``prompt``, a text or a list of chat messages, and whatever else the environment wants, which it gets as ``extras``
(``{"prompt": "2+3?", "reward_spec": {"ground_truth": "5"}}``). The shape: ``__init__(env_config, extras)``, ``init(prompt)`` which returns
``(messages, info)``, ``step(text)`` which returns a mapping with ``observations``, ``reward``, ``done``, ``metadata``, and ``close()``.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import Field, JsonValue

from agentdistill.env import SPLITS, Observation, Reply
from agentdistill.errors import ConfigError, EnvError, TaskError, unknown
from agentdistill.interop.chance import Chance
from agentdistill.interop.foreign import imported, need
from agentdistill.interop.texts import readable
from agentdistill.interop.world import WorldConfig, WorldEnv, number
from agentdistill.taskset import TaskSet
from agentdistill.types import Message, NameOrPath, Task

HELD_OUT = 0.1
"""Share of a single file's rows that is ``test``, and again that is ``val``."""
_ROLES = ("system", "user", "assistant", "tool")


class SkyRLGymConfig(WorldConfig):
    """What env=skyrl_gym can be told."""

    id: str = "gsm8k"
    """Of an environment that the package knows."""
    cls: str = ""
    """``module:Class`` of one that follows its shape; ``id`` is then not looked at."""
    tasks: NameOrPath = "example"
    """A JSONL file of rows, split by a hash of each; a directory with train.jsonl, val.jsonl and test.jsonl; or ``example``: sums."""
    env_config: dict[str, JsonValue] = Field(default_factory=dict)
    """Given to the environment when it is made, over the defaults of its type where that is a dataclass."""
    extras: dict[str, JsonValue] = Field(default_factory=dict)
    """Given with each row; the row's own come first."""


class SkyRLGymEnv(WorldEnv):
    """An environment of skyrl-gym, or of its shape. An episode succeeded where its rewards sum to more than 0, or to ``success_at``."""

    Config = SkyRLGymConfig
    name = "skyrl_gym"
    config: SkyRLGymConfig

    _inner: Any = None

    @classmethod
    def load_tasks(cls, config: SkyRLGymConfig, split: str) -> TaskSet:
        if split not in SPLITS:
            raise TaskError(unknown("split", split, SPLITS))
        _maker(config)
        return _rows(config, split)

    def begin(self, task: Task) -> Observation:
        self.close()
        extras = {**self.config.extras, **task.data}
        self._total = 0.0
        self._chance = Chance(int(task.hash[:8], 16))
        prompt = [{"role": message.role, "content": message.content} for message in task.prompt]
        with self._chance.own():
            maker = _maker(self.config)
            settings = Settings(_defaults(self.config, maker) | self.config.env_config)
            self._inner = _build(maker, settings, extras, _label(self.config))
            if getattr(self._inner, "max_turns", None) is not None and isinstance(extras.get("max_turns"), int):
                self._inner.max_turns = extras["max_turns"]
            result = self._inner.init(prompt)
        first = result[0] if isinstance(result, tuple) and len(result) == 2 else result
        messages = self._messages(prompt if first is None else first)
        if self.config.system:
            messages = (Message.system(self.config.system), *(message for message in messages if message.role != "system"))
        if not messages or messages[-1].role == "assistant":
            raise EnvError(f"init of {_label(self.config)} leaves nothing to answer: it must return messages that end with the user's")
        return messages

    def answer(self, message: Message) -> Reply:
        with self._chance.own():
            result = self._inner.step(message.content)
        said, reward, done, info = _output(result, _label(self.config))
        self._total += reward
        decided = done or self.turns_left <= 0
        success = None
        if decided:
            told = info.get("success", info.get("is_correct"))
            success = bool(told) if told is not None else self.verdict(self._total)
        messages = self._messages(said)
        if not messages and not done:
            messages = self.said("")
        return Reply(messages=messages, parts={"env": reward}, done=done, success=success)

    def _messages(self, given: Any) -> tuple[Message, ...]:
        """Chat messages of a list of mappings, or of anything else that can be read. What comes from the environment is not the agent's."""
        if given is None or (isinstance(given, Sequence | str) and len(given) == 0):
            return ()
        items = given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else [given]
        found = []
        for item in items:
            role = str(item.get("role", "user")) if isinstance(item, Mapping) else "user"
            content = readable(item.get("content", item) if isinstance(item, Mapping) else item)
            found.append(Message(role="system" if role == "system" else "user", content=self._shown(content)[0]))
        return tuple(found)

    def close(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            getattr(inner, "close", lambda: None)()


def _label(config: SkyRLGymConfig) -> str:
    return f"env.cls={config.cls!r}" if config.cls else f"env.id={config.id!r}"


def _maker(config: SkyRLGymConfig) -> Any:
    """What builds the environment: a class, or the package's ``make`` with the id filled in.

    Raises:
        ConfigError: there is none of that name, or the package is missing.
        PluginError: its module does not import.
    """
    if not config.cls:
        package = need("skyrl_gym", env="skyrl_gym", extra="skyrl-gym")
        known = package.envs.registration.registry
        if config.id not in known:
            raise ConfigError(f"{unknown('environment of skyrl-gym', config.id, known)}; or set env.cls=module:Class")
        return lambda **kwargs: package.make(config.id, **kwargs)
    module, _, name = config.cls.partition(":")
    if not module or not name:
        raise ConfigError(f"env.cls={config.cls!r} must be module:Class, for instance env.cls=my_package.maze:MazeEnv")
    owner = imported(module, f"env.cls={config.cls!r}", "there is no module {name}")
    found = getattr(owner, name, None)
    if not callable(found):
        raise ConfigError(f"env.cls={config.cls!r}: {unknown(f'class in {module}', name, [key for key in vars(owner) if key[0] != '_'])}")
    for method in ("init", "step"):
        if inspect.isclass(found) and not callable(getattr(found, method, None)):
            raise ConfigError(f"env.cls={config.cls!r} has no method {method!r}; it needs init(prompt) and step(text), as in skyrl-gym")
    return found


def _defaults(config: SkyRLGymConfig, made: Any) -> dict[str, Any]:
    """Of the dataclass that the environment names as its ``env_config``'s type, if it does: skyrl-gym's search and SQL ones do."""
    if not config.cls:  # what the package makes hides its class
        registration = need("skyrl_gym", env="skyrl_gym", extra="skyrl-gym").envs.registration
        point = registration.registry[config.id].entry_point
        made = registration.load_env_creator(point) if isinstance(point, str) else point
    try:
        wanted = get_type_hints(made.__init__ if inspect.isclass(made) else made).get("env_config")
    except Exception:  # a stranger's annotation may name anything
        return {}
    kinds = [kind for kind in (wanted, *get_args(wanted)) if inspect.isclass(kind) and is_dataclass(kind)]
    return {field.name: field.default for kind in kinds for field in fields(kind) if field.default is not MISSING}


class Settings(dict[str, Any]):
    """``env_config``, whose keys are attributes too: skyrl-gym's own environments read them so."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"env.env_config lacks {name!r}") from None


def _build(maker: Any, env_config: Settings, extras: dict[str, Any], label: str) -> Any:
    """An instance; a class that takes neither ``env_config`` nor ``extras`` is built without."""
    given: dict[str, Any] = {"env_config": env_config, "extras": extras}
    if inspect.isclass(maker):
        parameters = inspect.signature(maker).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            given = {key: value for key, value in given.items() if key in parameters}
    try:
        return maker(**given)
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise TaskError(
            f"{label} cannot be made of this row and env.env_config: {error!r}; the row gave {', '.join(extras) or 'nothing'}"
        ) from error


def _output(result: Any, label: str) -> tuple[Any, float, bool, Mapping[str, Any]]:
    """(observations, reward, done, metadata) of a step: a mapping, an object with these attributes, or a tuple of them in this order."""
    if isinstance(result, tuple) and not hasattr(result, "_asdict"):
        if len(result) == 5:  # as Gymnasium has it
            result = (result[0], result[1], bool(result[2]) or bool(result[3]), result[4])
        result = dict(zip(("observations", "reward", "done", "metadata"), result, strict=False))
    elif not isinstance(result, Mapping) and hasattr(result, "reward"):
        names = ("observations", "reward", "done", "metadata")
        result = {name: getattr(result, name) for name in names if hasattr(result, name)}
    if not isinstance(result, Mapping) or not {"reward", "done"} <= set(result):
        found = ", ".join(map(repr, result)) if isinstance(result, Mapping) else type(result).__name__
        raise EnvError(f"step of {label} must return a mapping with observations, reward, done and metadata, got {found}")
    info = result.get("metadata")
    return (
        result.get("observations"),
        number(result["reward"], f"the reward of {label}"),
        bool(result["done"]),
        info if isinstance(info, Mapping) else {},
    )


# ---- rows --------------------------------------------------------------------------------------------------------------


def _rows(config: SkyRLGymConfig, split: str) -> TaskSet:
    tasks = config.tasks
    if tasks == "example":
        return TaskSet("example", [_task(row, f"example-{split}") for row in _sums(split)], split=split)
    path = Path(tasks).expanduser()
    if path.is_dir():
        return TaskSet.from_jsonl(path / f"{split}.jsonl", lambda row: _task(row, f"{path.name}-{split}"), env="skyrl_gym", split=split)
    if path.suffix != ".jsonl" and not path.is_file():
        message = unknown("task set of env 'skyrl_gym'", tasks, ("example",))
        raise TaskError(f"{message}; or the path of a .jsonl file, or of a directory with {', '.join(f'{name}.jsonl' for name in SPLITS)}")
    whole = TaskSet.from_jsonl(path, lambda row: _task(row, path.stem), env="skyrl_gym", split=split)
    kept = [task for task in whole if _split_of(task) == split]
    if not kept:
        raise TaskError(
            f"{path}: of its {len(whole)} rows none is in split {split!r}; give a directory with train.jsonl, val.jsonl, test.jsonl"
        )
    return TaskSet(path.stem, kept, split=split)


def _split_of(task: Task) -> str:
    share = int(hashlib.sha256(task.id.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if share < HELD_OUT else "val" if share < 2 * HELD_OUT else "train"


def _task(row: dict[str, Any], stem: str) -> Task:
    prompt = row["prompt"]
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if (
        not isinstance(given, list)
        or not given
        or not all(isinstance(each, dict) and isinstance(each.get("content"), str) for each in given)
    ):
        raise TaskError("the field 'prompt' must be a text, or a list of messages with role and content, and not be empty")
    for each in given:
        if each.get("role") not in _ROLES:
            raise TaskError(unknown("role in 'prompt'", str(each.get("role")), _ROLES))
    extras = {key: value for key, value in row.items() if key not in ("id", "prompt")}
    key = hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()[:10]
    spec = extras.get("reward_spec")
    answer = spec.get("ground_truth") if isinstance(spec, dict) else extras.get("ground_truth", extras.get("answer"))
    messages = tuple(Message(role=each["role"], content=each["content"]) for each in given)
    return Task(id=str(row.get("id", f"{stem}-{key}")), env="skyrl_gym", prompt=messages, answer=answer, data=extras)


def _sums(split: str) -> list[dict[str, Any]]:
    """A few sums in the form of skyrl-gym's gsm8k, so that there is something to try."""
    first = 10 * (SPLITS.index(split) + 1)
    ask = "Reply with the number after '####'."
    return [
        {"prompt": f"What is {number} + {number + 3}? {ask}", "reward_spec": {"method": "rule", "ground_truth": str(2 * number + 3)}}
        for number in range(first, first + 10)
    ]
