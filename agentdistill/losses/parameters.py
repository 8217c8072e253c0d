"""The parameters of divergences: what each one means and which values it may have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from agentdistill.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number that a divergence takes, with the range where it is defined."""

    default: float
    low: float = -math.inf
    high: float = math.inf
    closed: str = ""
    """Which ends belong to the range: any of ``low``, ``high``, ``both``; empty: neither, so that infinite ends mean any finite number."""
    meaning: str
    note: str = ""
    """What to do instead where a value is refused; empty: nothing to add."""

    def holds(self, value: float) -> bool:
        """Whether ``value`` is in the range; NaN never is."""
        above = value >= self.low if self.closed in ("low", "both") else value > self.low
        below = value <= self.high if self.closed in ("high", "both") else value < self.high
        return above and below

    @property
    def range(self) -> str:
        """The range in words, to follow "is not"."""
        if math.isinf(self.low) and math.isinf(self.high) and not self.closed:
            return "a finite number"
        if not self.closed:
            return f"strictly between {self.low:g} and {self.high:g}" if math.isfinite(self.high) else f"greater than {self.low:g}"
        left = "[" if self.closed in ("low", "both") else "("
        right = "]" if self.closed in ("high", "both") else ")"
        return f"in {left}{self.low:g}, {self.high:g}{right}"

    def check(self, owner: str, name: str, value: object) -> float:
        """``value`` as a float.

        Raises:
            ConfigError: no number, or outside the range; the message says the range.
        """
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ConfigError(f"{owner}: {name}={value!r} is not a number; expected {self.range}")
        if not self.holds(float(value)):
            raise ConfigError(f"{owner}: {name}={float(value):g} is not {self.range}{'; ' + self.note if self.note else ''}")
        return float(value)
