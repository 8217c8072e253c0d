from __future__ import annotations

import asyncio
import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from verifiers.v1.trace import Reward
from verifiers.v1.types import Messages


class TaskError(Exception):
    pass


class Toolset:
    def __init__(self, config: Any = None) -> None:
        self.config = config


class TaskConfig(BaseModel):
    judges: list[Any] = []


class TaskData(BaseModel):
    model_config = ConfigDict(frozen=True)

    idx: int | None = None
    id: str | None = None
    prompt: str | Messages | None = None
    system_prompt: str | None = None


DataT = TypeVar("DataT", bound=TaskData)


def reward(weight: float = 1.0) -> Callable[[Any], Any]:
    def mark(function: Any) -> Any:
        function.reward, function._vf_weight = True, weight
        return function

    return mark


def metric(function: Any) -> Any:
    function.metric = True
    return function


class Task(Generic[DataT]):
    NEEDS_CONTAINER: ClassVar[bool] = False

    def __init__(self, data: Any, config: TaskConfig | None = None) -> None:
        self.data, self.config = data, config or TaskConfig()

    @property
    def hash(self) -> str:
        wire = self.data.model_dump(mode="json", exclude_none=True)
        return hashlib.sha256(json.dumps(wire, sort_keys=True).encode()).hexdigest()

    @property
    def key(self) -> str:
        return self.hash

    def with_data(self, **update: Any) -> Any:
        clone = copy.copy(self)
        clone.data = self.data.model_copy(update=update)
        return clone

    async def setup(self, trace: Any, runtime: Any) -> None:
        return None

    async def finalize(self, trace: Any, runtime: Any) -> None:
        return None

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return []

    def plugged_judges(self) -> list[Any]:
        return list(self.config.judges)

    def hooks(self, kind: str) -> list[Callable[..., Any]]:
        names = sorted(
            {name for owner in type(self).__mro__ for name, member in vars(owner).items() if callable(member) and hasattr(member, kind)}
        )
        return [getattr(self, name) for name in names]

    async def score(self, trace: Any, runtime: Any = None) -> None:
        available = {"task": self.data, "trace": trace}

        def offline(function: Any) -> bool:
            parameter = inspect.signature(function).parameters.get("runtime")
            return parameter is None or parameter.default is not inspect.Parameter.empty

        async def invoke(function: Any) -> Any:
            return await function(**{name: available[name] for name in inspect.signature(function).parameters if name in available})

        try:
            for function in filter(offline, self.hooks("metric")):
                trace.metrics[function.__name__] = float(await invoke(function))
            rewards = [function for function in self.hooks("reward") if offline(function)]
            trace.rewards.update(dict.fromkeys((function.__name__ for function in rewards), None))
            for function, result in zip(rewards, await asyncio.gather(*map(invoke, rewards)), strict=True):
                if isinstance(result, Mapping):
                    trace.rewards.pop(function.__name__)
                for name, value in (result if isinstance(result, Mapping) else {function.__name__: result}).items():
                    trace.rewards[name] = Reward(score=float(value), weight=function._vf_weight)
        except Exception as error:
            raise TaskError(f"task {type(self).__name__} scoring") from error
