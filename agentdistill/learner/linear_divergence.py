"""A divergence between two linear heads as a loss of its own: the learner's kernel, for those who have their own training loop.

    hidden [N, H], weight [V, H]  ──┐
                                    ├──> loss, values [N], entropy [N]     no [N, V] anywhere, neither here nor in the backward pass
    teacher: Hidden | TopK | any ───┘

See agentdistill.learner.kernel for how it works; this module only describes the work to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from agentdistill.errors import AlignmentError, ConfigError, UsageError, unknown
from agentdistill.learner.head import Head
from agentdistill.learner.kernel import token_losses
from agentdistill.learner.packing import Index
from agentdistill.learner.plan import Part, Plan, Wanted
from agentdistill.losses import DIVERGENCES
from agentdistill.policy.products import accumulated

if TYPE_CHECKING:
    from agentdistill.teacher.protocol import DenseTarget, SparseTarget


@dataclass(frozen=True, eq=False)
class Hidden:
    """A teacher by its final hidden states and its head; its logits exist for a chunk at a time."""

    states: Tensor
    """[N, H′]; H′ need not be the student's."""
    weight: Tensor
    """[V, H′], of the states' dtype."""
    bias: Tensor | None = None
    """[V]."""
    temperature: float = 1.0
    """Logits are divided by it."""
    scale: float = 1.0
    softcap: float | None = None

    def __post_init__(self) -> None:
        if self.states.ndim != 2 or self.weight.ndim != 2 or self.states.shape[1] != self.weight.shape[1]:
            raise UsageError(
                f"teacher states {tuple(self.states.shape)} and weight {tuple(self.weight.shape)} do not fit; expected [N, H] and [V, H]"
            )
        if not self.temperature > 0:
            raise UsageError(f"temperature={self.temperature:g} of the teacher is not above 0")

    def __len__(self) -> int:
        return len(self.states)

    @torch.no_grad()
    def logits(self, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Logits of positions ``start:stop``, [stop−start, V], in ``out`` where it fits."""
        weight, shape = self.weight.detach(), (stop - start, self.weight.shape[0])
        if out is None or out.shape != shape or out.device != weight.device:
            out = weight.new_empty(shape, dtype=accumulated(weight.dtype))
        head = Head(weight=weight, bias=self.bias, scale=self.scale, softcap=self.softcap)
        head.fill(self.states[start:stop].detach().to(weight.dtype), weight, out)
        return out if self.temperature == 1.0 else out.div_(self.temperature)

    def log_probs(self, start: int, stop: int) -> Tensor:
        """Normalised, [stop−start, V]."""
        return self.logits(start, stop).log_softmax(-1)


@dataclass(frozen=True, eq=False)
class TopK:
    """A teacher by its k most likely tokens a position, for instance what a server returned."""

    ids: Tensor
    """[N, k]; −1 is padding."""
    logprobs: Tensor
    """[N, k], normalised over the whole vocabulary; −inf is padding."""
    tail: bool | None = None
    """One more symbol for the rest of the mass, on both sides. ``None``: unless ``renormalise``."""
    renormalise: bool | str = False
    """True: both sides are normalised over the k tokens; ``teacher``: the teacher alone."""
    form: str = "pathwise"
    """As :func:`agentdistill.losses.divergence` takes it."""

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.logprobs.shape:
            raise UsageError(f"ids {tuple(self.ids.shape)} and logprobs {tuple(self.logprobs.shape)} differ or are not [N, k]")

    def __len__(self) -> int:
        return len(self.ids)

    def sparse(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Ids and log-probabilities of positions ``start:stop``."""
        return self.ids[start:stop], self.logprobs[start:stop]


@dataclass(frozen=True, kw_only=True)
class LinearDivergence:
    """What :func:`linear_divergence` found."""

    loss: Tensor
    """Σ weights · D, a scalar; differentiable in ``hidden``, ``weight`` and ``bias``."""
    values: Tensor
    """D at each position in nats, [N], no gradient; 0 at positions of weight 0."""
    entropy: Tensor | None
    """The student's, in nats, [N], no gradient; 0 at positions of weight 0. ``None``: it was not asked for."""


def linear_divergence(
    hidden: Tensor,
    weight: Tensor,
    teacher: Hidden | TopK | DenseTarget | SparseTarget,
    *,
    divergence: str = "jsd",
    bias: Tensor | None = None,
    row_weights: Tensor | Sequence[float] | None = None,
    chunk: int | None = None,
    entropy: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    **parameters: float,
) -> LinearDivergence:
    """Σ_t w_t D(p_t, q_t) with q = softmax(cap(scale · (hidden Wᵀ + b))), formed a chunk of positions at a time together with its gradient.

    Half-precision inputs stay what they are; logits, loss and the sum over chunks of ∂D/∂W are float32.

    Args:
        hidden: [N, H].
        weight: W, [V, H].
        teacher: :class:`Hidden`, :class:`TopK`, or any target of the teacher protocol with N positions over the same vocabulary.
        divergence: a key of :data:`agentdistill.losses.DIVERGENCES`. ``jsd``, ``forward_kl`` and ``reverse_kl`` are the fast ones.
        bias: b, [V].
        row_weights: w, [N]. A position of weight 0 is left out of all arithmetic, whatever it holds. ``None``: the mean, 1/N each.
        chunk: positions whose logits exist at the same time. ``None``: as many as fit into the bytes that the head's weight takes, or
            into 32 MiB where that is more; into half of that for a half-precision head.
        entropy: measure the student's too, at the price of two more passes over the logits.
        scale, softcap: of the student's logits; softcap · tanh(scale · z / softcap).
        **parameters: of the divergence.

    Raises:
        ConfigError: an unknown divergence or parameter.
        UsageError: shapes that do not fit, or a chunk below 1.
        AlignmentError: teacher or row weights of another length than ``hidden``.
        IncompatibleError: the teacher's vocabulary has another size than the student's.
    """
    wanted = _wanted(divergence, parameters, teacher)
    _check(hidden, weight, bias, chunk)
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
    count = len(hidden)
    weights = torch.full((count,), 1 / max(count, 1), dtype=dtype) if row_weights is None else torch.as_tensor(row_weights)
    weights = weights.detach().to(device=hidden.device, dtype=dtype)
    if weights.shape != (count,) or len(teacher) != count:
        raise AlignmentError(f"{count} hidden states, {len(teacher)} positions of the teacher, row weights {tuple(weights.shape)}")
    kept = np.flatnonzero((weights != 0).cpu().numpy())
    where = torch.as_tensor(kept, device=hidden.device)
    if len(kept) < count:
        hidden, weights, teacher = hidden[where], weights[where], _select(teacher, kept)
    plan = Plan(
        head=Head(weight=weight, bias=bias, scale=scale, softcap=softcap),
        targets=torch.zeros(len(kept), dtype=torch.long, device=hidden.device),
        parts=(Part(name="d", term=wanted, index=np.arange(len(kept)), weights=weights),),
        dense=teacher,
        dense_index=np.arange(len(kept)),
        chunk=chunk,
        working_set=None if chunk is None else chunk * 2 * dtype.itemsize * weight.shape[0],
        entropy=entropy,
    )
    loss = token_losses(plan, hidden)

    def spread(name: str) -> Tensor:
        found = weights.new_zeros(count)
        return found.index_copy_(0, where, plan.arrays[name]) if name in plan.arrays else found

    return LinearDivergence(loss=loss, values=spread("loss/d"), entropy=spread("entropy") if entropy else None)


def _wanted(name: str, parameters: dict[str, float], teacher: Any) -> Wanted:
    if name not in DIVERGENCES:
        raise ConfigError(unknown("divergence", name, DIVERGENCES))
    DIVERGENCES[name].parameters(parameters)
    if isinstance(teacher, TopK):
        return Wanted(name=name, parameters=parameters, tail=teacher.tail, renormalise=teacher.renormalise, form=teacher.form)
    return Wanted(name=name, parameters=parameters)


def _check(hidden: Tensor, weight: Tensor, bias: Tensor | None, chunk: int | None) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise UsageError(f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)} do not fit; expected [N, H] and [V, H]")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UsageError(f"bias {tuple(bias.shape)} does not fit weight {tuple(weight.shape)}; expected [V]")
    if chunk is not None and chunk < 1:
        raise UsageError(f"chunk={chunk} is below 1; give the positions whose logits may exist at the same time, or None")


class Selected:
    """Some positions of another target, ascending."""

    def __init__(self, target: Any, kept: Index) -> None:
        self._target = target
        self._kept = kept
        if hasattr(target, "sparse"):
            self.sparse = self._sparse

    def __len__(self) -> int:
        return len(self._kept)

    def log_probs(self, start: int, stop: int) -> Tensor:
        low, rows = self._range(start, stop)
        found: Tensor = self._target.log_probs(low, low + int(rows[-1]) + 1)
        return found[torch.as_tensor(rows, device=found.device)]

    def _sparse(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        low, rows = self._range(start, stop)
        ids, logprobs = self._target.sparse(low, low + int(rows[-1]) + 1)
        at = torch.as_tensor(rows, device=ids.device)
        return ids[at], logprobs[at]

    def _range(self, start: int, stop: int) -> tuple[int, Index]:
        kept = self._kept[start:stop]
        return int(kept[0]), kept - kept[0]


def _select(teacher: Any, kept: Index) -> Any:
    if isinstance(teacher, Hidden):
        rows = torch.as_tensor(kept, device=teacher.states.device)
        return Hidden(teacher.states[rows], teacher.weight, teacher.bias, teacher.temperature, teacher.scale, teacher.softcap)
    return Selected(teacher, kept)
