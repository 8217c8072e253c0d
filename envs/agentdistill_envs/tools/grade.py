"""Whether a last word tells what was asked."""

from __future__ import annotations

import re
from collections.abc import Set

_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")


def tells(text: str, answer: str, rivals: Set[str]) -> bool:
    """Whether ``text`` names the answer and none of what it could be confused with: no other number where a number was asked, and none of
    the ``rivals``, which are what the same field says of other records. Case and punctuation do not matter."""
    words = [word.lower() for word in _WORD.findall(text)]
    wanted = answer.lower()
    if wanted not in words:
        return False
    others = {rival.lower() for rival in rivals} - {wanted}
    return not any(word in others or (wanted.isdigit() and word != wanted and word[0].isdigit()) for word in words)
