"""Whether an episode did all it could."""

from __future__ import annotations

from agentdistill.types import Episode

FULL_RETURN = 1.0
"""Return of an episode that did all it could, where the environment gives no verdict."""


def is_right(episode: Episode) -> bool:
    """The environment's verdict, or whether the return is full."""
    return episode.success if episode.success is not None else episode.reward >= FULL_RETURN
