"""The shape of a line in a nano file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentdistill.types import Record


class NanoData(Record):
    """What the student does not see of a task."""

    kind: Literal["expression", "story"]
    expression: str
    calls: int = Field(ge=2, le=4)
    """Operations, and so the calls of optimal play."""


class NanoRow(Record):
    """One line of a nano file; ``schema.json`` beside the files is made from it."""

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    data: NanoData
