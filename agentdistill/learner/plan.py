"""What the kernel works through: one micro-batch's components, streams and teacher, on the device; and how much of it at a time.

    positions of a chunk = the fewest of  N,  ``chunk``,  working set / (2 · V · 4 bytes)

A chunk's logits, the student's and the teacher's, are the only large tensors beside the gradient of the head. They may take as much as
the head's weight does (V H numbers of the product's dtype), or :data:`WORKING_SET`, whichever is more, and half of that where the
product's dtype has two bytes: larger chunks read the weight and its gradient less often, and the products are faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agentdistill.config.schema import DivergenceTerm, Term, at
from agentdistill.config.weights import DenseWeight
from agentdistill.errors import ConfigError
from agentdistill.learner.device import Precision
from agentdistill.learner.head import Head
from agentdistill.learner.packing import Index, MicroBatch

if TYPE_CHECKING:
    from agentdistill.teacher.protocol import DenseTarget, DenseTeacher, SparseTarget

WORKING_SET = 32 * 2**20
"""Bytes that a chunk's logits may take, whatever the size of the head."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A divergence as the losses take it."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    tail: bool | None = None
    """Of a teacher that knows its most likely tokens only: one more symbol for the rest. ``None``: unless ``renormalise``."""
    renormalise: bool | str = False
    """Of such a teacher: both sides (or, with ``teacher``, that one alone) are normalised over its tokens."""
    form: str = "pathwise"
    term: DivergenceTerm | None = None
    """Where it is more than the teacher's distribution against the student's: a support, another target, weights that look at both."""

    @classmethod
    def of(cls, term: DivergenceTerm) -> Wanted:
        """What a term of the configuration asks for."""
        plain = term.route == "full" and term.target.kind == "teacher" and not any(isinstance(w, DenseWeight) for w in term.token_weights)
        return cls(
            name=term.divergence,
            parameters=term.numbers(),
            tail=term.tail,
            renormalise=term.renormalise,
            form=term.form,
            term=None if plain else term,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One component of the loss over the N positions of a micro-batch."""

    name: str
    term: Term | Wanted
    index: Index
    """Its positions among the N, ascending: [n]."""
    weights: Tensor
    """Coefficient · w / N_c: [n]."""
    advantages: Tensor | None = None
    kappa: Tensor | None = None
    sequence_log_ratio: Tensor | None = None

    @cached_property
    def wanted(self) -> Wanted | None:
        """The divergence between whole distributions. ``None``: a loss of sampled tokens."""
        if isinstance(self.term, Wanted):
            return self.term
        return Wanted.of(self.term) if isinstance(self.term, DivergenceTerm) else None

    def numbers(self, found: slice) -> dict[str, Tensor | None]:
        """What a policy gradient is told of the entries ``found``, beside log-probabilities."""
        named = {"advantages": self.advantages, "kappa": self.kappa, "sequence_log_ratio": self.sequence_log_ratio}
        return {name: None if values is None else values[found] for name, values in named.items()}

    def within(self, start: int, stop: int) -> slice:
        """Its entries for positions ``start:stop``."""
        low, high = np.searchsorted(self.index, (start, stop))
        return slice(int(low), int(high))


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Everything but hidden states and weights. Log-probability streams are [N], NaN where unknown."""

    head: Head
    targets: Tensor
    """[N] ids."""
    parts: tuple[Part, ...]
    streams: Mapping[str, Tensor] = field(default_factory=dict)
    """``old``, ``rollout``, ``ref``, ``teacher``. ``old`` is NaN where it equals the current policy."""
    dense: DenseTarget | SparseTarget | None = None
    reference: DenseTarget | None = None
    """The student as it began at the same positions as ``dense``, where a term's target needs it."""
    dense_index: Index = field(default_factory=lambda: np.zeros(0, np.int64))
    """Positions that ``dense`` answers, ascending."""
    chunk: int | None = 1024
    """Positions whose logits exist at the same time: an upper bound. ``None``: only ``working_set`` bounds them."""
    working_set: int | None = None
    """Bytes for the logits of a chunk. ``None``: as the head above says."""
    product_dtype: torch.dtype | None = None
    """Of the matrix products. ``None``: that of the hidden states."""
    entropy: bool = True
    shares: bool = False
    """Measure each component's gradient with respect to the logits by itself."""
    arrays: dict[str, Tensor] = field(default_factory=dict)
    """Filled by the pass: per-position results [N], NaN where a quantity does not exist."""

    def chunks(self, weight: Tensor) -> list[slice]:
        """The N positions in runs of nearly equal length, for a head with this weight [V, H], in the dtype of the product."""
        total, vocab = len(self.targets), weight.shape[0]
        room = max(WORKING_SET, weight.element_size() * weight.numel()) if self.working_set is None else self.working_set
        if self.working_set is None and weight.element_size() < 4:  # beside such a head even half of that is as much as the weight itself
            room //= 2
        rows = max(min(room // (2 * max(weight.element_size(), 4) * vocab), self.chunk or total), 1)
        rows = -(-total // -(-total // rows)) if total else 1
        return [slice(start, min(start + rows, total)) for start in range(0, total, rows)]

    def record(self, name: str, start: int, rows: Tensor | slice, values: Tensor, length: int) -> None:
        """Put ``values`` at ``rows`` of the chunk that begins at ``start``."""
        if name not in self.arrays:
            self.arrays[name] = values.new_full((len(self.targets),), torch.nan)
        self.arrays[name][start : start + length][rows] = values

    def to_host(self) -> dict[str, npt.NDArray[np.float64]]:
        """``arrays``, in one copy off the device."""
        if not self.arrays:
            return {}
        return dict(zip(self.arrays, torch.stack(list(self.arrays.values())).cpu().double().numpy(), strict=True))


def nonempty(found: slice) -> bool:
    """Whether a part has entries there."""
    return bool(found.start < found.stop)


def rows_of(index: Index, length: int, device: torch.device) -> Tensor | slice:
    """The index as a tensor, or as a slice where it is one run, which spares a copy. ``length``: of what is indexed."""
    if len(index) == length:
        return slice(None)
    if len(index) and index[-1] - index[0] + 1 == len(index):
        return slice(int(index[0]), int(index[-1]) + 1)
    return torch.as_tensor(index, device=device)


def make_plan(
    micro: MicroBatch,
    terms: Mapping[str, Term],
    step: int,
    dense: DenseTeacher | None,
    *,
    head: Head,
    precision: Precision,
    chunk: int,
    reference: Callable[[Index], DenseTarget] | None = None,
) -> Plan:
    """Put a micro-batch on the device, and ask the teacher for the positions that divergence terms cover.

    Args:
        reference: whole distributions of the student as it began, at some of the micro-batch's positions.

    Raises:
        ConfigError: a divergence term, and no teacher that has whole distributions; or a target against the reference, and none is kept.
    """
    dtype = torch.promote_types(head.weight.dtype, torch.float32)

    def tensor(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=dtype).to(precision.device)

    parts = tuple(
        Part(
            name=name,
            term=terms[name],
            index=component.index,
            weights=tensor(component.weights * at(terms[name].weight, step)),
            advantages=None if component.advantages is None else tensor(component.advantages),
            kappa=None if component.kappa is None else tensor(component.kappa),
            sequence_log_ratio=None if component.sequence_log_ratio is None else tensor(component.sequence_log_ratio),
        )
        for name, component in micro.components.items()
    )
    covered = [part for part in parts if isinstance(part.term, DivergenceTerm)]
    if covered and dense is None:
        raise ConfigError(
            f"term {covered[0].name!r} is a divergence over the whole vocabulary and needs a white-box teacher; none was given"
        )
    index = np.unique(np.concatenate([part.index for part in covered])) if covered else np.zeros(0, np.int64)
    geometric = [part for part in covered if isinstance(part.term, DivergenceTerm) and part.term.target.kind == "geometric"]
    if geometric and reference is None:
        raise ConfigError(f"term {geometric[0].name!r} has a target against the reference policy, which this learner does not keep")
    return Plan(
        head=head,
        targets=torch.as_tensor(micro.targets).to(precision.device),
        parts=parts,
        streams={
            who: tensor(micro.gather([getattr(sample, f"{who}_logprobs") for sample in micro.samples]))
            for who in ("old", "rollout", "ref", "teacher")
        },
        dense=dense.dense(micro.samples, [cols.tolist() for cols in micro.positions(index)]) if covered and dense is not None else None,
        reference=reference(index) if geometric and reference is not None else None,
        dense_index=index,
        shares=len(terms) > 1,
        chunk=chunk,
        product_dtype=precision.product_dtype,
    )
