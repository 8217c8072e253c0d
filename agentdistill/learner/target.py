"""What the teacher says about one chunk, and the divergences from it, a block of positions at a time.

logits(start, stop, out)       raw logits in memory that is used again     StatesTarget, linear_divergence.Hidden
log_probs(start, stop)         any other target
sparse(start, stop)            ids and log-probabilities of the likeliest tokens
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agentdistill.config.schema import DivergenceTerm
from agentdistill.config.weights import DenseWeight
from agentdistill.errors import IncompatibleError
from agentdistill.learner.packing import Index
from agentdistill.learner.plan import Part, Plan, Wanted, nonempty, rows_of
from agentdistill.learner.terms import dense_loss
from agentdistill.losses import sparse_pathwise
from agentdistill.losses.fused import Scratch, fused_pathwise


class ChunkTarget:
    """The m positions of a chunk that the teacher answers."""

    def __init__(self, plan: Plan, known: Index, answer: tuple[Tensor, ...], scratch: Scratch, reference: Tensor | None = None) -> None:
        self._plan = plan
        self._known = known
        """The positions, ascending: [m]."""
        self._answer = answer
        """Logits [m, V]; or ids and log-probabilities, both [m, k]."""
        self._scratch = scratch
        self._reference = reference
        """ln of the student as it began, [m, V], where a target needs it."""

    @classmethod
    def of(cls, plan: Plan, start: int, stop: int, logits: Tensor, buffer: Tensor | None, scratch: Scratch) -> ChunkTarget | None:
        """Ask the teacher about positions ``start:stop``. ``None``: there are no divergences there.

        Args:
            logits: the student's, for its vocabulary, dtype and device.
            buffer: memory for the teacher's logits.

        Raises:
            IncompatibleError: the teacher's vocabulary has another size than the student's.
        """
        low, high = (int(bound) for bound in np.searchsorted(plan.dense_index, (start, stop)))
        if low == high or plan.dense is None:
            return None
        dense: Any = plan.dense
        vocab, known = logits.shape[-1], plan.dense_index[low:high]
        if hasattr(dense, "sparse"):
            _require_sparse(plan)
            ids, logprobs = dense.sparse(low, high)
            if bool((ids >= vocab).any()):
                raise IncompatibleError(
                    f"the teacher names token {int(ids.max())}, the student's logits are over {vocab} tokens: "
                    "teacher and student must share one vocabulary"
                )
            return cls(plan, known, (ids.to(logits.device), logprobs.to(device=logits.device, dtype=logits.dtype)), scratch)
        target = dense.log_probs(low, high) if buffer is None else dense.logits(low, high, buffer[: high - low])
        if target.shape != (high - low, vocab):
            raise IncompatibleError(
                f"the teacher's target is {tuple(target.shape)}, the student's logits are {(high - low, vocab)} "
                "(positions, vocabulary): teacher and student must share one vocabulary"
            )
        reference = None if plan.reference is None else plan.reference.log_probs(low, high).to(device=logits.device, dtype=logits.dtype)
        return cls(plan, known, (target.to(device=logits.device, dtype=logits.dtype),), scratch, reference)

    def block(self, logits: Tensor, lse: Tensor, probs: Tensor, start: int, stop: int) -> Tensor | None:
        """What the divergences at positions ``start:stop`` add to the loss; Σ weights · ∂D/∂z takes the place of ``logits``.

        Args:
            logits: the student's, [n, V].
            lse: ln Σ exp of them, [n, 1].
            probs: q, [n, V].

        Returns:
            ``None``: there are none, and ``logits`` are what they were.
        """
        parts = [(part, part.index[found]) for part in self._plan.parts if part.wanted and nonempty(found := part.within(start, stop))]
        if not parts:
            return None
        if len(parts) == 1 and len(parts[0][1]) == stop - start:
            return self._part(*parts[0], logits, lse, probs, start, logits)
        total, loss = torch.zeros_like(logits), logits.new_zeros(())
        for part, index in parts:
            rows = rows_of(index - start, stop - start, logits.device)
            gradient = torch.empty_like(logits[rows])
            loss += self._part(part, index, logits[rows], lse[rows], probs[rows], start, gradient)
            total[rows] += gradient
        logits.copy_(total)
        return loss

    def _part(self, part: Part, index: Index, logits: Tensor, lse: Tensor, probs: Tensor, start: int, out: Tensor) -> Tensor:
        """One divergence at positions ``index``: its loss; weights · ∂D/∂z goes into ``out``."""
        wanted, stop = part.wanted, int(index[-1]) + 1
        assert wanted is not None
        at = torch.as_tensor(index, device=logits.device)
        weights, targets = part.weights[part.within(int(index[0]), stop)], self._plan.targets[at]
        theirs = rows_of(np.searchsorted(self._known, index), len(self._known), logits.device)
        if len(self._answer) == 2:
            ids, logprobs = _likeliest(self._answer[0][theirs], self._answer[1][theirs], wanted)
            value, gradient = sparse_pathwise(
                wanted.name,
                ids,
                logprobs,
                logits - lse,
                wanted.parameters,
                tail=wanted.tail,
                renormalise=wanted.renormalise,
                form=wanted.form,
                student_probs=probs,
            )
            torch.mul(gradient, weights[:, None], out=out)
            chosen = logprobs.masked_fill(ids != targets[:, None], -torch.inf).amax(-1)
            chosen.masked_fill_(chosen.isneginf(), torch.nan)  # below the k-th: not known
        else:
            teacher = self._answer[0][theirs]
            chosen = teacher.gather(-1, targets[:, None])[:, 0]
            if wanted.term is not None:
                return self._general(part.name, wanted.term, teacher, weights, theirs, at, targets, logits - lse, probs, out)
            value, teacher_lse = fused_pathwise(
                wanted.name,
                teacher,
                logits,
                wanted.parameters,
                student_lse=lse,
                student_probs=probs,
                weights=weights,
                scratch=self._scratch,
                out=out,
            )
            chosen -= teacher_lse
        self._record_norm(part.name, at, out)
        self._plan.record(f"loss/{part.name}", 0, at, value, len(self._plan.targets))
        self._plan.record("teacher_logprobs", 0, at, chosen, len(self._plan.targets))
        return (weights * value).sum()

    def _general(
        self,
        name: str,
        term: DivergenceTerm,
        teacher: Tensor,
        weights: Tensor,
        theirs: Tensor | slice,
        at: Tensor,
        targets: Tensor,
        student_logprobs: Tensor,
        probs: Tensor,
        out: Tensor,
    ) -> Tensor:
        """A divergence over a support, or to another target, or weighed by what the distributions say: from log-probabilities."""
        teacher_logprobs = log_probabilities(teacher)
        reference = None if self._reference is None else self._reference[theirs]
        dense = dense_loss(term, teacher_logprobs, student_logprobs, probs, reference)
        if dense.weight is not None:
            weights = weights * dense.weight
            self._plan.record(f"weight/{name}", 0, at, dense.weight, len(self._plan.targets))
        torch.mul(dense.gradient, weights[:, None], out=out)
        if dense.weight is not None:
            out.masked_fill_((weights == 0)[:, None], 0.0)  # where nothing is asked, the gradient may be infinite
        self._record_norm(name, at, out)
        chosen = teacher_logprobs.gather(-1, targets[:, None])[:, 0]
        self._plan.record(f"loss/{name}", 0, at, dense.value, len(self._plan.targets))
        self._plan.record("teacher_logprobs", 0, at, chosen, len(self._plan.targets))
        return (weights * dense.value).masked_fill(weights == 0, 0.0).sum()

    def _record_norm(self, name: str, at: Tensor, gradient: Tensor) -> None:
        """‖weights · ∂D/∂z‖ of each position, where somebody asks how terms share the gradient."""
        if self._plan.shares:
            self._plan.record(f"norm/{name}", 0, at, torch.linalg.vector_norm(gradient, dim=-1), len(self._plan.targets))


def _require_sparse(plan: Plan) -> None:
    """Raise :class:`IncompatibleError` for a term that asks more of the teacher than its likeliest tokens."""
    for part in plan.parts:
        term = None if part.wanted is None else part.wanted.term
        if term is not None and (term.target.kind != "teacher" or term.support != "teacher" or any(map(_is_dense, term.token_weights))):
            raise IncompatibleError(
                f"term {part.name!r} needs the teacher's whole distribution (for its target, support or weights), and this teacher knows "
                "only its most likely tokens; use support=teacher with the plain target, or a white-box teacher"
            )


def _is_dense(weight: object) -> bool:
    return isinstance(weight, DenseWeight)


def _likeliest(ids: Tensor, logprobs: Tensor, wanted: Wanted) -> tuple[Tensor, Tensor]:
    """No more than the term's k of them."""
    k = None if wanted.term is None else wanted.term.k
    if k is None or k >= ids.shape[-1]:
        return ids, logprobs
    logprobs, places = logprobs.topk(k, -1)
    return ids.gather(-1, places), logprobs


def log_probabilities(logits: Tensor) -> Tensor:
    """[n, V] normalised; a row of nothing but −inf, which has no target, stays so."""
    empty = logits.amax(-1, keepdim=True).isneginf()
    return logits.masked_fill(empty, 0.0).log_softmax(-1).masked_fill_(empty, -torch.inf)
