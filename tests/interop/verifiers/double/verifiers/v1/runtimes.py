from __future__ import annotations

from pydantic import BaseModel


class SubprocessConfig(BaseModel):
    type: str = "subprocess"
