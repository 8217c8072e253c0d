"""Environments: real ``gymnasium.Env``\\ s over chat messages, with typed Python functions as tools.

Importing this package mirrors every installed environment into Gymnasium (see :mod:`agentdistill.mirror`).
"""

from agentdistill.env.base import SPLITS, AgentEnv, EnvConfig, Expert, Observation, Reply
from agentdistill.env.check import check_env
from agentdistill.env.space import MessageSpace
from agentdistill.env.tools import ToolEnv, ToolError, tool
from agentdistill.env.wrappers import AgentWrapper, TurnCost
from agentdistill.mirror import gymnasium_id, mirror_environments

__all__ = [
    "SPLITS",
    "AgentEnv",
    "AgentWrapper",
    "EnvConfig",
    "Expert",
    "MessageSpace",
    "Observation",
    "Reply",
    "ToolEnv",
    "ToolError",
    "TurnCost",
    "check_env",
    "gymnasium_id",
    "mirror_environments",
    "tool",
]

mirror_environments()
