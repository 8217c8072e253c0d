"""What an episode is to credit: whose play, and whether it did all it could."""

from __future__ import annotations

from agentdistill.types import Episode

FULL_RETURN = 1.0
"""Return of an episode that did all it could, where the environment gives no verdict."""


def is_right(episode: Episode) -> bool:
    """The environment's verdict, or whether the return is full."""
    return episode.success if episode.success is not None else episode.reward >= FULL_RETURN


def is_students(episode: Episode) -> bool:
    """Whether the student played some of it, so that it is compared with its siblings."""
    return any(turn.author == "student" for turn in episode.turns)
