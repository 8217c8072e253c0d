"""What all records share."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict

from agentdistill.errors import AlignmentError

SCHEMA_VERSION = 1

Author = Literal["student", "teacher", "expert", "data"]
AUTHORS: tuple[Author, ...] = ("student", "teacher", "expert", "data")
NO_AUTHOR = 255
"""Author code, in :attr:`Sample.author`, of a token that nobody sampled: template, prompt, tool output."""

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class Record(BaseModel):
    """Base of every record and every plug-in configuration: frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="null")


class PluginConfig(Record):
    """Base of a plug-in's configuration. The plug-in's class names its own subclass as ``Config``; its defaults live there."""

    name: str = ""
    """The option the user chose, for instance ``opd`` in ``method=opd``. Filled in by the composer."""
    plugin: str = ""
    """Entry point that implements it. Empty: the one called ``name``."""

    @property
    def entry_point(self) -> str:
        """What implements it, and for an environment what its nano models are called by: presets of one plug-in share both."""
        return self.plugin or self.name


def _anchored(value: str, *, words: bool) -> str:
    """A relative path to something that is there, made absolute, so that a saved configuration means the same from every folder."""
    try:
        path = Path(value).expanduser()
    except RuntimeError:  # ~nobody
        return value
    looks_like_one = len(path.parts) > 1 or bool(path.suffix) or (words and path.is_dir() and value != "nano")
    return str(path.absolute()) if looks_like_one and path.exists() else value


NameOrPath = Annotated[str, AfterValidator(partial(_anchored, words=False))]
"""A name, or the path of a file or folder. A bare word is always a name."""
ModelPath = Annotated[str, AfterValidator(partial(_anchored, words=True))]
"""``nano``, a hub id, or the path of a folder, for which a bare word will do."""


def require_length(what: str, got: int, expected: int, episode: str) -> None:
    """Raise :class:`AlignmentError`, naming both lengths and the episode, unless they are equal."""
    if got != expected:
        raise AlignmentError(f"{what} has length {got}, expected {expected}, in episode {episode!r}")
