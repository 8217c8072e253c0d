"""OpenEnv servers.

wire.py     one session with a server: a WebSocket, and every wait with a deadline
acting.py   from the server's schema to how a model acts, and from an observation to what it reads
env.py      the environment
"""

from agentdistill.interop.openenv.env import OpenEnvConfig, OpenEnvEnv

__all__ = ["OpenEnvConfig", "OpenEnvEnv"]
