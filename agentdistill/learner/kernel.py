"""Head and losses, a chunk of positions at a time, with the gradient formed in the forward pass.

    for each chunk of n positions:
        z = head(hidden)                     [n, V]   the only large thing; three or four of them live at once
        ln q, q, entropy, ln q(y)
        divergences:          ∂/∂z = w · (q Σ pull − pull)      (losses.pathwise)
        sampled-token losses: ∂/∂z = ∂ℓ/∂ln q(y) · (1[y] − q)    (∂ℓ/∂ln q(y) by autograd over n numbers)
        ∂hidden = ∂z W        ∂W += ∂zᵀ hidden

No [N, V] of the whole batch ever exists, neither the student's nor the teacher's, and nothing is computed twice. Autograd sees one
function from hidden states and head weights to the loss; where embeddings are tied it adds this gradient to theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agentdistill.config.schema import DivergenceTerm
from agentdistill.errors import IncompatibleError
from agentdistill.learner.plan import Plan
from agentdistill.learner.terms import dense_loss, sampled_loss

if TYPE_CHECKING:
    from agentdistill.learner.packing import Index


def token_losses(plan: Plan, hidden: Tensor) -> Tensor:
    """Σ_c Σ_t weights · ℓ, differentiable in ``hidden`` [N, H] and in the head's weight and bias. Fills ``plan.arrays``.

    Raises:
        IncompatibleError: the teacher's vocabulary has another size than the student's.
    """
    loss: Tensor = _TokenLosses.apply(hidden, *plan.head.shared, plan)  # type: ignore[no-untyped-call]  # torch
    return loss


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
        wants_hidden, wants_weight, wants_bias, _ = ctx.needs_input_grad
        with torch.autocast(hidden.device.type, enabled=False):
            dtype = plan.product_dtype or torch.promote_types(hidden.dtype, weight.dtype)
            pass_ = _Pass(plan, weight.to(dtype), wants_weight, wants_bias)
            grad_hidden = torch.empty_like(hidden) if wants_hidden else None
            for start in range(0, len(hidden), plan.chunk):
                rows = slice(start, min(start + plan.chunk, len(hidden)))
                back = pass_.chunk(hidden[rows].to(dtype), rows.start, rows.stop, bool(wants_hidden or wants_weight or wants_bias))
                if grad_hidden is not None and back is not None:
                    grad_hidden[rows] = back
        cast_weight = None if pass_.grad_weight is None else pass_.grad_weight.to(weight.dtype)
        cast_bias = None if pass_.grad_bias is None or bias is None else pass_.grad_bias.to(bias.dtype)
        ctx.save_for_backward(grad_hidden, cast_weight, cast_bias)
        return pass_.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if saved is None else saved * upstream.to(saved.dtype) for saved in ctx.saved_tensors), None)


class _Pass:
    """The state of one sweep over the chunks: loss and head gradients, summed in float32 at least."""

    def __init__(self, plan: Plan, weight: Tensor, wants_weight: bool, wants_bias: bool) -> None:
        self.plan = plan
        self.weight = weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.loss = torch.zeros((), dtype=dtype, device=weight.device)
        self.grad_weight = torch.zeros(weight.shape, dtype=dtype, device=weight.device) if wants_weight else None
        self.grad_bias = torch.zeros(weight.shape[0], dtype=dtype, device=weight.device) if wants_bias else None

    def chunk(self, hidden: Tensor, start: int, stop: int, wants_grad: bool) -> Tensor | None:
        """Add positions ``start:stop`` to the sums; their gradient with respect to ``hidden`` [n, H], where wanted."""
        plan = self.plan
        logits = plan.head.logits(hidden, self.weight)
        lse = logits.logsumexp(-1, keepdim=True)
        logprobs = logits.sub_(lse)
        probs = logprobs.exp()
        targets = plan.targets[start:stop, None]
        chosen = logprobs.gather(-1, targets)[:, 0]
        every = slice(None)
        plan.record("student_logprobs", start, every, chosen, stop - start)
        if plan.entropy:
            plan.record("entropy", start, every, entropy(logprobs, probs), stop - start)
        grad_chosen = self._sampled(chosen, start, stop)
        grad = self._divergences(logprobs, probs, start, stop)
        if not wants_grad:
            return None
        if grad_chosen is not None:
            grad = probs.mul_(-grad_chosen[:, None]) if grad is None else grad.addcmul_(probs, grad_chosen[:, None], value=-1)
            grad.scatter_add_(-1, targets, grad_chosen[:, None])
        if grad is None:
            return torch.zeros_like(hidden)
        grad = plan.head.pull_back(grad, logprobs + lse if plan.head.softcap is not None else logprobs)
        if self.grad_bias is not None:
            self.grad_bias += grad.sum(0)
        grad = grad.to(self.weight.dtype)
        if self.grad_weight is not None:
            if self.grad_weight.dtype == grad.dtype:
                self.grad_weight.addmm_(grad.T, hidden)
            else:
                self.grad_weight += grad.T @ hidden
        return grad @ self.weight

    def _sampled(self, chosen: Tensor, start: int, stop: int) -> Tensor | None:
        """Add the sampled-token losses; ∂/∂ln q(y), [n]. ``None``: there are none here."""
        with torch.enable_grad():
            leaf = chosen.detach().requires_grad_()
            total: Tensor | None = None
            for part in self.plan.parts:
                found = part.within(start, stop)
                if isinstance(part.term, DivergenceTerm) or found.start == found.stop:
                    continue
                rows = _rows(part.index[found] - start, stop - start, leaf.device)
                streams = {name: stream[start:stop][rows] for name, stream in self.plan.streams.items()}
                results = sampled_loss(part.term, leaf[rows], streams, **part.numbers(found))
                for name, values in results.items():
                    self.plan.record(f"{name}/{part.name}", start, rows, values.detach().to(chosen.dtype), stop - start)
                summed = (part.weights[found] * results["loss"]).sum()
                total = summed if total is None else total + summed
        if total is None:
            return None
        self.loss += total.detach()
        (gradient,) = torch.autograd.grad(total, leaf)
        return gradient

    def _divergences(self, logprobs: Tensor, probs: Tensor, start: int, stop: int) -> Tensor | None:
        """Add the divergences; ∂/∂z, [n, V]. ``None``: there are none here."""
        plan = self.plan
        low, high = (int(bound) for bound in np.searchsorted(plan.dense_index, (start, stop)))
        if low == high or plan.dense is None:
            return None
        target = plan.dense.log_probs(low, high).to(device=logprobs.device, dtype=logprobs.dtype)
        if target.shape != (high - low, logprobs.shape[-1]):
            raise IncompatibleError(
                f"the teacher's target is {tuple(target.shape)}, the student's logits are {(high - low, logprobs.shape[-1])} "
                "(positions, vocabulary): teacher and student must share one vocabulary"
            )
        reference = None if plan.reference is None else plan.reference.log_probs(low, high).to(device=logprobs.device, dtype=logprobs.dtype)
        total: Tensor | None = None
        for part in plan.parts:
            found = part.within(start, stop)
            if not isinstance(part.term, DivergenceTerm) or found.start == found.stop:
                continue
            index = part.index[found]
            rows = _rows(index - start, stop - start, logprobs.device)
            theirs = _rows(np.searchsorted(plan.dense_index[low:high], index), high - low, logprobs.device)
            dense = dense_loss(part.term, target[theirs], logprobs[rows], probs[rows], None if reference is None else reference[theirs])
            value, gradient = dense.value, dense.gradient
            weights = part.weights[found] if dense.weight is None else part.weights[found] * dense.weight
            if dense.weight is not None:
                plan.record(f"weight/{part.name}", start, rows, dense.weight, stop - start)
            plan.record(f"loss/{part.name}", start, rows, value, stop - start)
            plan.record(
                "teacher_logprobs", start, rows, target[theirs].gather(-1, plan.targets[start:stop][rows][:, None])[:, 0], stop - start
            )
            self.loss += (weights * value).sum()
            gradient.mul_(weights[:, None])
            if total is None and isinstance(rows, slice):
                total = gradient
            else:
                total = torch.zeros_like(logprobs) if total is None else total
                total[rows] += gradient
        return total


def _rows(index: Index, length: int, device: torch.device) -> Tensor | slice:
    """The index as a tensor, or the whole slice where it covers everything, which spares a copy."""
    return slice(None) if len(index) == length else torch.as_tensor(index, device=device)


def entropy(logprobs: Tensor, probs: Tensor) -> Tensor:
    """−Σ q ln q, [n, V] -> [n], nats."""
    found = -torch.einsum("nv,nv->n", probs, logprobs)
    if bool(found.isnan().any()):  # a masked vocabulary: 0 · −inf
        found = -(probs * logprobs).masked_fill_(probs == 0, 0.0).sum(-1)
    return found
