"""A Hugging Face causal LM as a player: lock-step sampling over many running episodes.

    submit(request) ─> row: ids … pending     advance(): one token for every queued row
                                              ├─ engine   pending tokens -> logits          (policy/engine.py)
                                              ├─ draw     logits, keyed numbers -> tokens   (policy/sampling.py)
    (id, completion) <── stop id or limit ────┘
    release(id) ─> the row's cache is free

The cache lives across turns, so a turn costs its own tokens and not the history's. The module may be the very one that the learner trains:
nothing is copied, and :meth:`HFPolicy.publish` only voids the caches and counts the revision up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from agentdistill.errors import PolicyError, boundary
from agentdistill.policy.choose import choose_engine
from agentdistill.policy.engine import evaluating
from agentdistill.policy.keys import key_of, uniforms
from agentdistill.policy.protocol import Request
from agentdistill.policy.rows import Row
from agentdistill.policy.sampling import draw, is_raw
from agentdistill.types import Completion

if TYPE_CHECKING:
    from agentdistill.render import Renderer


class HFPolicy:
    """Samples turns from a causal language model. Implements ``Policy`` and ``WeightSink``.

    Equal keys draw equal random numbers whatever else is in the batch; the logits they meet may differ in the last bits with the batch's
    shape, as on any hardware. An empty key stands for the request's id and turn.

    Args:
        model: on its device already; its training mode is left as found.
        renderer: gives the stop ids and parses completions.
        name: for messages and records.
        max_batch: rows of one forward pass; further turns wait, first come first served. ``None``: no bound.
        device: move the model there first. ``None``: it stays where it is.
        version: revision of the weights that the model holds.
        prefill_tokens: pending context tokens, over all rows, from which a prefill is cheaper than feeding them in lock-step.
        vocab_size: ids that may be sampled; a head that is padded beyond is cut there. ``None``: the head's own size.
        autocast: dtype to compute in where the weights are kept in another (the learner's own, for equal numbers). ``None``: the weights'.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        renderer: Renderer,
        *,
        name: str = "student",
        max_batch: int | None = 256,
        device: torch.device | str | None = None,
        version: int = 0,
        prefill_tokens: int = 256,
        vocab_size: int | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.name = name
        self.model = model if device is None else model.to(device)
        self.renderer = renderer
        self.max_batch = max_batch
        self._version = version
        self._autocast = autocast
        config = model.config.get_text_config()
        self._window: int | None = getattr(config, "max_position_embeddings", None)
        self._vocabulary = model.get_input_embeddings().weight.shape[0]
        self._sampled = vocab_size
        self._stop_ids = frozenset(renderer.stop_ids)
        self._engine = choose_engine(self.model, window=self._window, prefill_tokens=prefill_tokens)
        self._rows: dict[str, Row] = {}
        self._queue: dict[str, Row] = {}

    @property
    def version(self) -> int:
        """Revision of the weights in use."""
        return self._version

    @property
    def context_window(self) -> int | None:
        """Positions that the model has; ``None``: unbounded."""
        return self._window

    def submit(self, request: Request) -> None:
        """Queue one turn.

        Raises:
            PolicyError: the episode has a turn queued already, the tokens do not continue what is known of it, do not fit the model's
                positions, or are not in its vocabulary.
        """
        row = self._rows.get(request.id)
        if request.id in self._queue:
            raise PolicyError(f"episode {request.id!r} has a turn queued already; cancel it first")
        total = request.prefix_length + len(request.context_ids)
        self._check(request, row, total)
        if row is None or request.prefix_length == 0:
            self.release(request.id)
            row = self._rows[request.id] = Row(request.id)
        row.ids.extend(request.context_ids)
        row.cached = min(row.cached, total - 1)
        row.request, row.start = request, total
        row.limit = request.sampling.max_new_tokens
        if self._window is not None:
            row.limit = min(row.limit, self._window - total)
        row.uniforms = None if request.sampling.temperature == 0 else uniforms(key_of(request), row.limit)
        row.logprobs, row.behaviour = [], []
        self._queue[request.id] = row

    def _check(self, request: Request, row: Row | None, total: int) -> None:
        known = len(row.ids) if row is not None else 0
        turn = f"turn {request.turn} of episode {request.id!r}"
        if request.prefix_length not in (0, known):
            raise PolicyError(
                f"{turn} continues {request.prefix_length} tokens, but policy {self.name!r} has {known}; "
                "begin a new segment with prefix_length=0 and the whole context"
            )
        if total == 0:
            raise PolicyError(f"{turn} has no context to continue")
        if self._window is not None and total + 1 > self._window:
            raise PolicyError(f"{turn} needs {total + 1} positions, policy {self.name!r} has {self._window}; shorten the context")
        if request.context_ids and not 0 <= min(request.context_ids) <= max(request.context_ids) < self._vocabulary:
            raise PolicyError(
                f"{turn} has token ids outside the vocabulary of policy {self.name!r}, which has {self._vocabulary}; "
                "is its tokenizer the model's own?"
            )

    def advance(self) -> Sequence[tuple[str, Completion]]:
        """One token for every row that can be sampled; finished turns in the order in which they were queued.

        Raises:
            PolicyError: the engine failed, or the model gave non-finite logits.
        """
        if not self._queue:
            return []
        rows = list(itertools.islice(self._queue.values(), self.max_batch))
        autocast = torch.autocast(self.model.device.type, self._autocast, enabled=self._autocast is not None)
        with boundary(PolicyError, f"policy {self.name!r}"), evaluating(self.model), autocast:
            ready, logits = self._engine.next_logits(rows)
            samplings = [row.request.sampling for row in ready if row.request is not None]
            numbers = [0.0 if row.uniforms is None else row.uniforms[len(row.logprobs)] for row in ready]
            drawn = draw(logits[:, : self._sampled], samplings, numbers)
        if not all(map(math.isfinite, drawn.logprobs)):
            bad = next(row for row, value in zip(ready, drawn.logprobs, strict=True) if not math.isfinite(value))
            raise PolicyError(f"policy {self.name!r} gave non-finite logits in episode {bad.id!r}, revision {self._version}")
        finished: list[tuple[str, Completion]] = []
        for row, token, logprob, behaviour in zip(ready, drawn.ids, drawn.logprobs, drawn.behaviour, strict=True):
            if not row.logprobs:
                row.first_version = self._version
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.behaviour.append(behaviour)
            stopped = token in self._stop_ids
            if stopped or len(row.logprobs) >= row.limit:
                finished.append((row.id, self._complete(row, stopped)))
        return finished

    def _complete(self, row: Row, stopped: bool) -> Completion:
        request = self._queue.pop(row.id).request
        assert request is not None, "queued rows have a request"
        row.request = None
        token_ids = tuple(row.ids[row.start :])
        return Completion(
            message=self.renderer.parse(token_ids),
            token_ids=token_ids,
            logprobs=tuple(row.logprobs),
            behaviour_logprobs=None if is_raw(request.sampling) else tuple(row.behaviour),
            finish_reason="stop" if stopped else "length",
            policy_version=(row.first_version, self._version),
            sampling=request.sampling,
        )

    def cancel(self, id: str) -> None:
        """Forget a queued turn: the episode is again what it was before :meth:`submit`. Unknown ids are ignored."""
        row = self._queue.pop(id, None)
        if row is not None and row.request is not None:
            del row.ids[row.request.prefix_length :]
            row.cached = min(row.cached, len(row.ids))
            row.request = None

    def release(self, id: str) -> None:
        """Forget the episode. Unknown ids are ignored."""
        self._queue.pop(id, None)
        row = self._rows.pop(id, None)
        if row is not None:
            self._engine.release(row)

    def publish(self, version: int) -> None:
        """The model's weights are now those of revision ``version``: caches are void, and running turns go on under the new weights."""
        self._engine.clear()
        self._version = version
