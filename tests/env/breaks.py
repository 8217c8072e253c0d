"""The gallery of environments that break a promise, each with the sentence that check_env must say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K", bound=type)

BROKEN: dict[type, str] = {}


def breaks(sentence: str) -> Callable[[K], K]:
    """``check_env`` refuses the class with a message that ``sentence``, a regular expression, is found in."""

    def enter(kind: K) -> K:
        BROKEN[kind] = sentence
        return kind

    return enter
