"""env=tools: a shop behind fifteen tools."""

from agentdistill_envs.tools.env import ToolsConfig, ToolsEnv
from agentdistill_envs.tools.expert import BAD_HABITS, Flaws, ToolsExpert

__all__ = ["BAD_HABITS", "Flaws", "ToolsConfig", "ToolsEnv", "ToolsExpert"]
