from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from verifiers.v1.task import TaskConfig

TaskT = TypeVar("TaskT")
ConfigT = TypeVar("ConfigT")


class TasksetConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str = ""
    task: TaskConfig = TaskConfig()


class Taskset(ABC, Generic[TaskT, ConfigT]):
    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def load(self) -> Iterable[Any]: ...

    def __iter__(self) -> Iterator[Any]:
        return (task.with_data(idx=index) for index, task in enumerate(self.load()))

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return []
