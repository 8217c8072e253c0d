"""From what a model wrote to an action of a Gymnasium space.

Text              the text as it is
Discrete          one number, or one name: the whole reply, what follows the last "action:", or the only one that is mentioned
MultiDiscrete,    as many numbers as there are entries
MultiBinary, Box
Tuple, Dict       JSON: a list, or an object, of the above
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from agentdistill.errors import ConfigError

MAX_ENTRIES = 64
"""Of an array action: more are not for text."""
MAX_READ = 4000
"""Characters of a reply, from its end, in which an action is looked for."""

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?(?![\w])")
_LABEL = re.compile(r"\baction\s*(?:is\b\s*:?|:|=)\s*", re.IGNORECASE)
_DECODER = json.JSONDecoder()


class NoAction(Exception):
    """The reply is no action; the text says what one is, for the model."""


class Speech:
    """Reads the actions of one space."""

    def __init__(self, space: spaces.Space[Any], names: Sequence[str] = ()) -> None:
        """
        Args:
            names: of a Discrete space's actions, in order.

        Raises:
            ConfigError: text cannot say this space's actions, or the names do not fit it.
        """
        _require_sayable(space)
        self.space = space
        self.names = tuple(names)
        if names and not isinstance(space, spaces.Discrete):
            raise ConfigError(f"env.actions names the actions of a Discrete space, and this one is {space}; leave it out")
        if isinstance(space, spaces.Discrete) and names and len(names) != space.n:
            raise ConfigError(f"env.actions has {len(names)} names, and the space {space} has {space.n} actions; give one name each")
        if len({name.casefold() for name in names}) != len(names):
            raise ConfigError(f"env.actions names two actions alike: {', '.join(names)}")

    @property
    def help(self) -> str:
        """What a reply must be; empty where any text will do."""
        return "" if isinstance(self.space, spaces.Text) else f"Reply with {_help(self.space, self.names)}."

    def read(self, text: str) -> Any:
        """The action.

        Raises:
            NoAction: there is none, or more than one.
        """
        if isinstance(self.space, spaces.Text):
            return text
        text = text[-MAX_READ:]
        labels = list(_LABEL.finditer(text))
        for part in ([text[labels[-1].end() :].split("\n", 1)[0]] if labels else []) + [text]:
            try:
                return self._read(part)
            except _Unfit:
                continue
        raise NoAction(f"That is no action. {self.help}")

    def _read(self, text: str) -> Any:
        if isinstance(self.space, spaces.Discrete):
            return _fit(self.space, _choice(self.space, self.names, text))
        if isinstance(self.space, spaces.Tuple | spaces.Dict):
            return _fit(self.space, _json(text, dict if isinstance(self.space, spaces.Dict) else list))
        return _fit(self.space, [float(found[0]) for found in _NUMBER.finditer(text)])


class _Unfit(Exception):
    """Not this one."""


def _require_sayable(space: spaces.Space[Any]) -> None:
    if isinstance(space, spaces.Tuple | spaces.Dict):
        for inner in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            _require_sayable(inner)
        return
    small = isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary) and int(np.prod(space.shape)) <= MAX_ENTRIES
    if not (small or isinstance(space, spaces.Text | spaces.Discrete)):
        raise ConfigError(
            f"text cannot say the actions of {space}; it can for Text, Discrete, Tuple, Dict, and for Box, MultiDiscrete and MultiBinary "
            f"of at most {MAX_ENTRIES} entries"
        )


def _help(space: spaces.Space[Any], names: Sequence[str] = ()) -> str:
    if isinstance(space, spaces.Discrete):
        low, high = int(space.start), int(space.start + space.n - 1)
        if names:
            return f"one action: {', '.join(names)} (or its number, {low} to {high})"
        return f"one whole number, {low} to {high}"
    if isinstance(space, spaces.Dict):
        return "a JSON object with " + ", ".join(f'"{key}": {_help(inner)}' for key, inner in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        return "a JSON list of " + "; ".join(_help(inner) for inner in space.spaces)
    if isinstance(space, spaces.Box):
        return f"{_count(space)} within {_bound(space.low)} to {_bound(space.high)}"
    if isinstance(space, spaces.MultiDiscrete):
        lowest, highest = space.start, space.start + space.nvec - 1
        return f"{_count(space)}, each a whole number within {_bound(lowest)} to {_bound(highest)}"
    if isinstance(space, spaces.MultiBinary):
        return f"{_count(space)}, each 0 or 1"
    return "a text"


def _count(space: spaces.Space[Any]) -> str:
    entries = int(np.prod(space.shape or ()))
    return "one number" if entries == 1 else f"{entries} numbers, like [{', '.join(f'{each:g}' for each in _example(space, entries))}],"


def _example(space: Any, entries: int) -> list[float]:
    low = space.low if isinstance(space, spaces.Box) else getattr(space, "start", np.zeros(space.shape))
    return [float(value) if np.isfinite(value) else 0.0 for value in np.broadcast_to(low, space.shape).reshape(-1)[:entries]]


def _bound(values: Any) -> str:
    flat = np.asarray(values).reshape(-1)
    return f"{flat[0]:g}" if (flat == flat[0]).all() else f"[{', '.join(f'{value:g}' for value in flat)}]"


def _choice(space: spaces.Discrete[Any], names: Sequence[str], text: str) -> int:
    """The number of the one action that the text names."""
    plain = text.strip().strip(".,;:!?\"'`*[](){}<>").casefold()
    start = int(space.start)
    folded = [name.casefold() for name in names]
    if plain in folded:
        return start + folded.index(plain)
    found = {start + index for index, name in enumerate(folded) if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text.casefold())}
    if not found:
        found = {int(float(each[0])) for each in _NUMBER.finditer(text) if float(each[0]).is_integer()}
    if len(found) != 1:
        raise _Unfit
    return found.pop()


def _json(text: str, kind: type) -> Any:
    """The last object or list of the text."""
    opening = "{" if kind is dict else "["
    found: Any = None
    place = text.find(opening)
    while place != -1:
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found = value if isinstance(value, kind) else found
        place = text.find(opening, end)
    if found is None:
        raise _Unfit
    return found


def _fit(space: spaces.Space[Any], value: Any) -> Any:
    """A plain value as a member of the space."""
    fitted = _convert(space, value)
    if not space.contains(fitted):
        raise _Unfit
    return fitted


def _convert(space: spaces.Space[Any], value: Any) -> Any:
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or set(value) != set(space.spaces):
            raise _Unfit
        return {key: _fit(inner, value[key]) for key, inner in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, list) or len(value) != len(space.spaces):
            raise _Unfit
        return tuple(_fit(inner, item) for inner, item in zip(space.spaces, value, strict=True))
    if isinstance(space, spaces.Text):
        return value
    if isinstance(space, spaces.Discrete):
        if isinstance(value, bool) or not isinstance(value, int):
            raise _Unfit
        return _integer(value, space.dtype)
    try:
        flat = np.asarray(value, dtype=np.float64).reshape(space.shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise _Unfit from error
    if np.issubdtype(space.dtype, np.integer) and not (
        np.isfinite(flat).all() and (flat == np.trunc(flat)).all() and _fits(flat, space.dtype)
    ):
        raise _Unfit
    return flat.astype(space.dtype)


def _integer(value: int, dtype: Any) -> Any:
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise _Unfit
    return np.dtype(dtype).type(value)


def _fits(flat: Any, dtype: Any) -> bool:
    limits = np.iinfo(dtype)
    return bool(((flat >= limits.min) & (flat <= limits.max)).all())
