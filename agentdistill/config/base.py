"""What all parts of the configuration share."""

from __future__ import annotations

from pydantic import ConfigDict

from agentdistill.types import Record

FINITE = ConfigDict(allow_inf_nan=False)


class Settings(Record):
    """Base of a part of the configuration: its numbers are finite."""

    model_config = FINITE
