"""One forward pass for many rows of different lengths: with a cache where the architecture allows it, without one where it does not.

engine.next_logits(rows) ──> the rows whose tokens are all fed, and the logits after them
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from agentdistill.policy.caches import cache_argument
from agentdistill.policy.masks import MaskMaker
from agentdistill.policy.ragged_cache import Feed, RaggedCache
from agentdistill.policy.rows import Row


class Engine(Protocol):
    """Turns pending tokens into logits."""

    def next_logits(self, rows: Sequence[Row]) -> tuple[list[Row], torch.Tensor]:
        """Feed every row at least one pending token; answer with those that have none left (one at least) and their logits [R, V]."""
        ...

    def release(self, row: Row) -> None:
        """Forget what is cached of ``row``."""
        ...

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        ...


def keep_last(model: PreTrainedModel) -> dict[str, int]:
    """Argument that spares the head all positions but the last, where the model has it."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # under an adapter
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; every module's mode is as before afterwards.

    ``no_grad`` and not ``inference_mode``: the learner trains this same module, and a buffer that a forward pass leaves behind must
    stay usable in its graph.
    """
    training = [module for module in model.modules() if module.training] if model.training else []
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


class CachedEngine:
    """Lock-step forward passes over a :class:`RaggedCache`.

    Each pass feeds every row one token: sampled tokens and forced context tokens side by side. Where many context tokens are pending
    they are prefilled first, all but the last one, in batches of their own. Both ways give the same numbers.

    Args:
        prefill_tokens: prefill when this many context tokens are pending over all rows, or when no row could sample otherwise.
        prefill_batch: padded tokens of one prefill pass.
        spare: share of idle rows that a pass may carry along before busy rows are moved to the front. Carrying one costs its share
            of the pass; moving one costs two copies of its cache.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        window: int | None = None,
        prefill_tokens: int = 256,
        prefill_batch: int = 16384,
        spare: float = 0.25,
    ) -> None:
        self.model = model
        self.prefill_tokens = prefill_tokens
        self.prefill_batch = prefill_batch
        self.spare = spare
        self._window = window
        self._cache = RaggedCache()
        self._slots: list[Row | None] = []
        self._masks = MaskMaker(model)
        self._keep_last = keep_last(model)
        self._cache_argument = cache_argument(model)

    def next_logits(self, rows: Sequence[Row]) -> tuple[list[Row], torch.Tensor]:
        for row in rows:
            if row.slot is None:
                self._place(row)
        waiting = [row for row in rows if row.pending > 1]
        if waiting and (len(waiting) == len(rows) or sum(row.pending - 1 for row in waiting) >= self.prefill_tokens):
            self._prefill(waiting)
        self._compact(rows)
        return self._decode(rows)

    def release(self, row: Row) -> None:
        if row.slot is not None:
            self._slots[row.slot] = None
            row.slot, row.cached = None, 0
        while self._slots and self._slots[-1] is None:
            self._slots.pop()

    def clear(self) -> None:
        for row in self._slots:
            if row is not None:
                row.slot, row.cached = None, 0
        self._slots.clear()
        self._cache.clear()

    # ---- where rows are ------------------------------------------------------------------------------------------------

    def _place(self, row: Row) -> None:
        """The lowest free row: where an episode is placed depends only on which others are there."""
        row.cached = 0
        try:
            row.slot = self._slots.index(None)
            self._slots[row.slot] = row
        except ValueError:
            row.slot = len(self._slots)
            self._slots.append(row)

    def _compact(self, rows: Sequence[Row]) -> None:
        """Move busy rows to the front once too many idle ones lie between them."""
        count = len(rows)
        if max(slot_of(row) for row in rows) + 1 - count <= self.spare * count:
            return
        busy = {id(row) for row in rows}
        holes = [slot for slot in range(count) if id(self._slots[slot]) not in busy]
        behind = [row for row in rows if slot_of(row) >= count]
        for hole, row in zip(holes, behind, strict=True):
            other, slot = self._slots[hole], slot_of(row)
            self._cache.swap(hole, slot, max(row.cached, other.cached if other else 0))
            self._slots[hole], self._slots[slot], row.slot = row, other, hole
            if other is not None:
                other.slot = slot

    # ---- forward passes ------------------------------------------------------------------------------------------------

    def _decode(self, rows: Sequence[Row]) -> tuple[list[Row], torch.Tensor]:
        """One token a row, for rows 0 to the last busy one; idle rows in between compute something that nobody reads.

        What they write lies behind their length, so it is never attended to.
        """
        width = max(slot_of(row) for row in rows) + 1
        tokens, positions = [0] * width, [0] * width
        for slot, other in enumerate(self._slots[:width]):
            if other is not None:
                positions[slot] = other.cached
        for row in rows:
            tokens[slot_of(row)] = row.ids[row.cached]
        length = 1 + max(row.cached for row in rows)
        device = self.model.device
        feed = Feed(
            rows=torch.arange(width, device=device),
            in_front=True,
            positions=torch.tensor(positions, device=device).unsqueeze(1),
            length=length,
        )
        logits_BV = self._forward(torch.tensor(tokens, device=device).unsqueeze(1), feed, capacity=max(positions) + 1)
        for row in rows:
            row.cached += 1
        ready = [row for row in rows if not row.pending]
        slots = [slot_of(row) for row in ready]
        if slots == list(range(width)):
            return ready, logits_BV
        return ready, logits_BV[torch.tensor(slots, dtype=torch.int64, device=device)]

    def _prefill(self, rows: Sequence[Row]) -> None:
        """Feed all pending tokens but the last of each row. Rows without a past apart: they need no mask and no gathering."""
        fresh_rows, later_rows = [row for row in rows if not row.cached], [row for row in rows if row.cached]
        for chosen, fresh in ((fresh_rows, True), (later_rows, False)):
            chosen.sort(key=lambda row: row.pending)
            while chosen:
                longest = chosen[-1].pending - 1
                take = max(1, self.prefill_batch // longest)
                self._prefill_batch(chosen[-take:], longest, fresh)
                del chosen[-take:]

    def _prefill_batch(self, rows: Sequence[Row], longest: int, fresh: bool) -> None:
        device = self.model.device
        tokens = [row.ids[row.cached : -1] + [0] * (longest - row.pending + 1) for row in rows]
        starts = torch.tensor([row.cached for row in rows], device=device)
        length = 0 if fresh else max(len(row.ids) - 1 for row in rows)
        feed = Feed(
            rows=torch.tensor([slot_of(row) for row in rows], device=device),
            in_front=False,
            positions=starts.unsqueeze(1) + torch.arange(longest, device=device),
            length=length,
        )
        self._forward(torch.tensor(tokens, device=device), feed, capacity=longest + max(row.cached for row in rows))
        for row in rows:
            row.cached = len(row.ids) - 1

    def _forward(self, tokens: torch.Tensor, feed: Feed, *, capacity: int) -> torch.Tensor:
        self._cache.prepare(feed, rows=len(self._slots), capacity=capacity)
        positions = feed.positions if self._window is None else feed.positions.clamp(max=self._window - 1)
        output = self.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=None if feed.length == 0 else self._masks(feed.positions, feed.length),
            use_cache=True,
            **{self._cache_argument: self._cache},
            **self._keep_last,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits


class CachelessEngine:
    """Every pass reads every row from its beginning, padded on the right: slow, and right for any causal model."""

    def __init__(self, model: PreTrainedModel, *, batch_tokens: int = 16384) -> None:
        self.model = model
        self.batch_tokens = batch_tokens

    def next_logits(self, rows: Sequence[Row]) -> tuple[list[Row], torch.Tensor]:
        logits: list[torch.Tensor] = []
        longest = max(len(row.ids) for row in rows)
        size = max(1, self.batch_tokens // longest)
        for start in range(0, len(rows), size):
            logits.append(self._last_logits([row.ids for row in rows[start : start + size]]))
        return list(rows), torch.cat(logits)

    def release(self, row: Row) -> None:
        return

    def clear(self) -> None:
        return

    def _last_logits(self, ids: Sequence[list[int]]) -> torch.Tensor:
        longest = max(map(len, ids))
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids], device=self.model.device)
        arguments: dict[str, Any] = {}
        last = torch.tensor([len(row) - 1 for row in ids], device=self.model.device)
        kept, index = torch.unique(last, return_inverse=True)
        if keep_last(self.model):
            arguments, last = {"logits_to_keep": kept}, index
        logits_BLV = self.model(input_ids=tokens, use_cache=False, **arguments).logits
        chosen: torch.Tensor = logits_BLV[torch.arange(len(ids), device=last.device), last]
        return chosen


def slot_of(row: Row) -> int:
    """The row of the cache; the engine has placed it."""
    assert row.slot is not None
    return row.slot
