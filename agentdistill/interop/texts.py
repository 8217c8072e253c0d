"""What a foreign world hands over, as text that a model can read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

MAX_ITEMS = 400
"""Of an array; a larger one is summed up."""

_PAINTED = re.compile(r"\x1b\[([\d;]*)m((?:(?!\x1b\[).)*)\x1b\[0?m", re.DOTALL)
_ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
_COLOURS = dict(zip(range(30, 38), ("gray", "red", "green", "yellow", "blue", "magenta", "cyan", "white"), strict=True))


def readable(value: Any, depth: int = 0) -> str:
    """Text as it is, bytes decoded, numbers plain, arrays as rows, mappings and sequences item by item."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", errors="replace")
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        return _array(value, depth)
    if isinstance(value, np.generic):
        return readable(value.item(), depth)
    if isinstance(value, float):
        return f"{value:.6g}"
    if depth > 8:
        return "…"
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _mapping(value._asdict(), depth)
    if isinstance(value, Sequence | Set):
        return _sequence(list(value), depth)
    return str(value)


def _mapping(value: Mapping[Any, Any], depth: int) -> str:
    if set(value) == {"role", "content"}:  # a chat message
        return readable(value["content"], depth + 1)
    if depth:
        return "{" + ", ".join(f"{key}: {readable(item, depth + 1)}" for key, item in value.items()) + "}"
    lines = []
    for key, item in value.items():
        text = readable(item, depth + 1)
        lines.append(f"{key}:\n{text}" if "\n" in text else f"{key}: {text}")
    return "\n".join(lines)


def _sequence(value: list[Any], depth: int) -> str:
    texts = [readable(item, depth + 1) for item in value[:MAX_ITEMS]]
    if len(value) > MAX_ITEMS:
        texts.append(f"… {len(value) - MAX_ITEMS} more")
    blocks = any(isinstance(item, str | Mapping | np.ndarray) for item in value)
    return "\n".join(texts) if blocks and not depth else f"[{', '.join(texts)}]"


def _array(value: np.ndarray, depth: int) -> str:
    if value.ndim == 0:
        return readable(value.item(), depth)
    if value.size > MAX_ITEMS:
        numbers = f", from {value.min():.6g} to {value.max():.6g}" if value.dtype.kind in "iuf" else ""
        return f"array of shape {'×'.join(map(str, value.shape))}{numbers}"
    if value.ndim == 1:
        return f"[{', '.join(readable(item, depth + 1) for item in value.tolist())}]"
    return "\n".join(readable(row, depth + 1) for row in value)


def unpainted(text: str) -> str:
    """A terminal's drawing without its escapes: what lay on a coloured ground stands in brackets, coloured letters name their colour.

    Worlds mark things by colour alone: where the agent stands, who waits.
    """

    def plain(match: re.Match[str]) -> str:
        codes = [int(code) for code in match[1].split(";") if code]
        if not match[2].strip() and not any(40 <= code <= 48 for code in codes):
            return match[2]
        if any(40 <= code <= 48 for code in codes):
            return f"[{match[2]}]"
        colour = next((_COLOURS[code] for code in codes if code in _COLOURS), None)
        return f"{match[2]}{{{colour}}}" if colour else match[2]

    return _ESCAPE.sub("", _PAINTED.sub(plain, text))
