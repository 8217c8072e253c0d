"""What flawed experts share."""

from __future__ import annotations

from pydantic import Field

from agentdistill.types import Record

Probability = Field(default=0.0, ge=0, le=1)


class Habits(Record):
    """Bad habits: the probability of each, whenever there is an occasion for it."""

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return any(probability > 0 for probability in self.model_dump().values())
