"""Chance for task sets that are made by rule and committed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Chance that is the same in every version of Python: only ``random()`` of a seeded generator is promised to be."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def below(self, n: int) -> int:
        return int(self._random() * n)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def weighted(self, options: Sequence[tuple[int, float]]) -> int:
        draw = self._random()
        for option, weight in options:
            draw -= weight
            if draw < 0:
                return option
        return options[-1][0]
