"""A white-box teacher's whole distribution at selected positions, formed a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from agentdistill.teacher.halves import Halves


class StatesTarget:
    """Holds the final hidden states of the N positions, [N, H], and applies the head when asked. A ``DenseTarget`` with ``logits``."""

    def __init__(self, halves: Halves, states: torch.Tensor, size: int) -> None:
        self._halves = halves
        self._states = states
        self._size = size

    def __len__(self) -> int:
        return len(self._states)

    @torch.no_grad()
    def logits(self, start: int, stop: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of positions ``start:stop``: [stop−start, V], float32. ``out`` is filled where it has the right shape and device."""
        states = self._states[start:stop]
        if out is None or out.shape != (stop - start, self._size) or out.device != states.device:
            return self._halves.logits(states)[..., : self._size]
        return self._halves.logits(states, out)

    def log_probs(self, start: int, stop: int) -> torch.Tensor:
        """Normalised log-probabilities of positions ``start:stop``: [stop−start, V], float32, no gradient."""
        return torch.log_softmax(self.logits(start, stop), dim=-1)


class RowsTarget:
    """For a model that does not come apart: runs it on a row when a position of the row is asked for. A ``DenseTarget``.

    The last row's logits are kept, so that a pass over consecutive chunks runs each row once.

    Args:
        counts: selected positions of each row, in order.
        logits_of: logits [counts[i], V] of row i.
    """

    def __init__(self, counts: Sequence[int], logits_of: Callable[[int], torch.Tensor]) -> None:
        self._stops = [sum(counts[: index + 1]) for index in range(len(counts))]
        self._counts = list(counts)
        self._logits_of = logits_of
        self._kept: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    @torch.no_grad()
    def log_probs(self, start: int, stop: int) -> torch.Tensor:
        """Normalised log-probabilities of positions ``start:stop``: [stop−start, V], float32, no gradient."""
        pieces = []
        for row, (count, end) in enumerate(zip(self._counts, self._stops, strict=True)):
            first = end - count
            if count and end > start and first < stop:
                pieces.append(self._row(row)[max(start - first, 0) : stop - first])
        return torch.log_softmax(torch.cat(pieces), dim=-1) if pieces else torch.empty((0, 0))

    def _row(self, row: int) -> torch.Tensor:
        if self._kept is None or self._kept[0] != row:
            self._kept = (row, self._logits_of(row))
        return self._kept[1]
