"""Our environments as one Gymnasium vector environment.

    vec = make_vec("math", 4)
    observations, infos = vec.reset(seed=0)                    # a tuple of 4 observations, each a tuple of messages
    observations, rewards, over, cut, infos = vec.step(texts)  # 4 messages, or 4 texts; arrays of 4
    infos["success"][2], infos["_success"][2]                  # of the third environment; whether it said so

Episodes are of different lengths. Under ``SAME_STEP``, the default here, an environment whose episode is over is reset at once: the
observation is the next episode's first, ``infos["final_obs"]`` and ``infos["final_info"]`` are the last ones of the old. ``NEXT_STEP``
spends a step, whose action is not looked at, on each reset. Under ``DISABLED`` the caller resets:
``vec.reset(options={"reset_mask": over | cut})``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agentdistill import registry
from agentdistill.env import AgentEnv, EnvConfig
from agentdistill.env.check import environment_class
from agentdistill.errors import ConfigError, unknown


class MessageVectorEnv(SyncVectorEnv):
    """Environments of messages, one after the other in this process."""

    def _add_info(self, vector_infos: dict[str, Any], env_info: Mapping[str, Any], env_num: int) -> dict[str, Any]:
        """Every value as it is, in an array of objects. Gymnasium takes the type from the first value, and makes ``False`` of the ``None``
        that comes after a verdict."""
        for key, value in env_info.items():
            vector_infos.setdefault(key, np.full(self.num_envs, None, dtype=object))[env_num] = value
            vector_infos.setdefault(f"_{key}", np.zeros(self.num_envs, dtype=bool))[env_num] = True
        return vector_infos


def make_vec(
    name: str | type[AgentEnv],
    num_envs: int,
    config: EnvConfig | Mapping[str, Any] | None = None,
    *,
    autoreset: str | AutoresetMode = AutoresetMode.SAME_STEP,
    render_mode: str | None = None,
) -> MessageVectorEnv:
    """``num_envs`` environments of one kind as a vector environment.

    Args:
        name: of an installed environment, or a class.
        config: of each of them, as the class takes it.
        autoreset: ``NEXT_STEP``, ``SAME_STEP`` or ``DISABLED``.

    Raises:
        ConfigError: no such environment or autoreset mode, or not one environment.
    """
    if num_envs < 1:
        raise ConfigError(f"make_vec needs at least one environment, got num_envs={num_envs}")
    if not isinstance(autoreset, AutoresetMode):
        modes = {mode.name: mode for mode in AutoresetMode} | {mode.value: mode for mode in AutoresetMode}
        if autoreset.upper() not in modes and autoreset not in modes:
            raise ConfigError(unknown("autoreset mode", autoreset, [mode.name for mode in AutoresetMode]))
        autoreset = modes.get(autoreset) or modes[autoreset.upper()]
    if isinstance(name, str) and name not in registry.names("envs"):
        raise ConfigError(unknown("env", name, registry.names("envs")))
    kind = environment_class(name)
    maker = partial(kind, config, render_mode=render_mode)
    return MessageVectorEnv([maker] * num_envs, autoreset_mode=autoreset, observation_mode="same")
