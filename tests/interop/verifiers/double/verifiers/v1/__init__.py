"""What an author of a taskset imports."""

from verifiers.v1.task import Task, TaskConfig, TaskData, Toolset, metric, reward
from verifiers.v1.taskset import Taskset, TasksetConfig
from verifiers.v1.types import AssistantMessage, SystemMessage, UserMessage

__all__ = [
    "AssistantMessage",
    "SystemMessage",
    "Task",
    "TaskConfig",
    "TaskData",
    "Taskset",
    "TasksetConfig",
    "Toolset",
    "UserMessage",
    "metric",
    "reward",
]
