"""Tasksets of verifiers.

load.py    from a taskset's id to its tasks, and what of them can be played here
score.py   from a conversation to a trace, and to its rewards
env.py     the environment
"""

from agentdistill.interop.verifiers.env import VerifiersConfig, VerifiersEnv

__all__ = ["VerifiersConfig", "VerifiersEnv"]
