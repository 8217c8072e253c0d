"""Head and losses, a chunk of positions at a time, with the gradient formed in the forward pass.

    for each chunk of n positions:
        z = head(hidden), t = the teacher's logits         [n, V]   the only large things; they are used again for the next chunk
        for each block of a few rows, small enough for the cache:
            q = softmax z, ln Σ exp z, entropy, ln q(y)
            divergences:          ∂/∂z = w · (q Σ pull − pull)      (losses.fused)
            sampled-token losses: ∂/∂z = ∂ℓ/∂ln q(y) · (1[y] − q)   (∂ℓ/∂ln q(y) by autograd over n numbers, before the blocks)
            ∂/∂z takes the place of z
        ∂hidden = ∂z W        ∂W += ∂zᵀ hidden

No [N, V] of the whole batch ever exists, neither the student's nor the teacher's, and no product is computed twice. Autograd sees one
function from hidden states and head weights to the loss; where embeddings are tied it adds this gradient to theirs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agentdistill.learner.plan import Plan, Wanted, nonempty, rows_of
from agentdistill.learner.target import ChunkTarget
from agentdistill.learner.terms import sampled_loss
from agentdistill.losses.fused import Scratch, log_normaliser
from agentdistill.policy.products import accumulated, add_outer, narrowed, pull

BLOCK = {"cpu": 2**18}
"""Entries of a block's tensors, by device: five of them stay in the cache."""
BLOCK_ELSEWHERE = 2**24
"""Enough to hide the start of a CUDA kernel."""


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
            grad_hidden = torch.empty_like(hidden) if wants_hidden else None
            loss, grad_weight, grad_bias = _sweep(plan, hidden, weight.to(dtype), grad_hidden, wants_weight, wants_bias)
        cast_weight = None if grad_weight is None else narrowed(grad_weight, weight.dtype)
        cast_bias = None if grad_bias is None or bias is None else grad_bias.to(bias.dtype)
        ctx.save_for_backward(grad_hidden, cast_weight, cast_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        if float(upstream) == 1.0:  # the usual case: the gradients as they are, which autograd takes over without a copy
            return (*saved, None)
        return (*(None if tensor is None else tensor * upstream.to(tensor.dtype) for tensor in saved), None)


def _sweep(
    plan: Plan, hidden: Tensor, weight: Tensor, grad_hidden: Tensor | None, wants_weight: bool, wants_bias: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Loss and the head's gradients; ``grad_hidden`` is filled. Memory for a chunk is gone when gradients are turned into their dtype."""
    pass_ = _Pass(plan, weight, grad_hidden, wants_weight, wants_bias)
    for rows in plan.chunks(weight):
        pass_.chunk(hidden[rows].to(weight.dtype), rows.start, rows.stop)
    return pass_.loss, pass_.grad_weight, pass_.grad_bias


class _Pass:
    """The state of one sweep over the chunks: loss and head gradients, summed in float32 at least, and memory for a chunk."""

    def __init__(self, plan: Plan, weight: Tensor, grad_hidden: Tensor | None, wants_weight: bool, wants_bias: bool) -> None:
        self.plan = plan
        self.weight = weight
        dtype, vocab = accumulated(weight.dtype), weight.shape[0]
        rows = max((rows.stop - rows.start for rows in plan.chunks(weight)), default=0)
        self.loss = torch.zeros((), dtype=dtype, device=weight.device)
        self.grad_hidden = grad_hidden
        self.grad_weight = weight.new_empty(weight.shape, dtype=dtype) if wants_weight else None
        self.grad_bias = weight.new_zeros(vocab, dtype=dtype) if wants_bias else None
        self.wants_grad = grad_hidden is not None or wants_weight or wants_bias
        self.block = max(min(BLOCK.get(weight.device.type, BLOCK_ELSEWHERE) // max(vocab, 1), rows), 1)
        self.student = weight.new_empty((rows, vocab), dtype=dtype)
        self.teacher = self.student.new_empty((rows, vocab)) if hasattr(plan.dense, "logits") else None
        self.probs = self.student.new_empty((self.block, vocab))
        self.scratch = Scratch(self.block, self.student)
        self.untouched = True
        """Nothing is in ``grad_weight`` yet."""
        if self.grad_weight is not None and not len(plan.targets):
            self.grad_weight.zero_()

    def chunk(self, hidden: Tensor, start: int, stop: int) -> None:
        """Add positions ``start:stop`` to the sums."""
        plan = self.plan
        logits = plan.head.fill(hidden, self.weight, self.student[: stop - start])
        targets = plan.targets[start:stop, None]
        chosen_logits = logits.gather(-1, targets)
        lse = self._normalisers(logits) if self._has_sampled(start, stop) else None
        slope = None if lse is None else self._sampled((chosen_logits - lse)[:, 0], start, stop)
        teacher = ChunkTarget.of(plan, start, stop, logits, self.teacher, self.scratch)
        found = logits.new_empty((stop - start, 1)) if lse is None else lse
        busy = slope is not None or teacher is not None
        for low in range(0, stop - start, self.block):
            rows = slice(low, min(low + self.block, stop - start))
            self._block(logits[rows], found[rows], lse is not None, start + low, teacher, None if slope is None else slope[rows])
        plan.record("student_logprobs", start, slice(None), (chosen_logits - found)[:, 0], stop - start)
        if self.wants_grad:
            self._pull_back(logits, hidden, start, stop, busy)

    def _has_sampled(self, start: int, stop: int) -> bool:
        return any(part.wanted is None and nonempty(part.within(start, stop)) for part in self.plan.parts)

    def _normalisers(self, logits: Tensor) -> Tensor:
        """ln Σ exp, [n, 1]."""
        pieces = [logits[low : low + self.block] for low in range(0, len(logits), self.block)]
        return torch.cat([log_normaliser(piece, probs=self.probs[: len(piece)]) for piece in pieces])

    def _block(self, logits: Tensor, lse: Tensor, known: bool, start: int, teacher: ChunkTarget | None, slope: Tensor | None) -> None:
        """A few rows: what they add to the loss, and ∂/∂z in the place of z. Fills ``lse`` unless it is ``known``."""
        count, stop = len(logits), start + len(logits)
        probs = self.probs[:count]
        if known:
            torch.sub(logits, lse, out=probs).exp_()
        else:
            lse.copy_(log_normaliser(logits, probs=probs))
        if self.plan.entropy:
            work = self.scratch.rows(count)[0]
            self.plan.record("entropy", start, slice(None), entropy(torch.sub(logits, lse, out=work), probs), count)
        if self.plan.shares:
            self.plan.record("probs_norm", start, slice(None), torch.linalg.vector_norm(probs, dim=-1), count)
        capped = logits.clone() if self.plan.head.softcap is not None and self.wants_grad else logits
        added = None if teacher is None else teacher.block(logits, lse, probs, start, stop)
        if added is not None:
            self.loss += added
        if not self.wants_grad:
            return
        if slope is not None:
            if added is not None:
                logits.addcmul_(probs, slope[:, None], value=-1)
            else:
                torch.mul(probs, -slope[:, None], out=logits)
            logits.scatter_add_(-1, self.plan.targets[start:stop, None], slope[:, None])
        elif added is None:
            logits.zero_()
        self.plan.head.pull_back(logits, capped)

    def _pull_back(self, gradient: Tensor, hidden: Tensor, start: int, stop: int, busy: bool) -> None:
        """∂/∂hidden and ∂/∂W from ∂/∂z."""
        if not busy:
            if self.grad_hidden is not None:
                self.grad_hidden[start:stop] = 0
            if self.grad_weight is not None and self.untouched:
                self.grad_weight.zero_()
                self.untouched = False
            return
        if self.grad_bias is not None:
            self.grad_bias += gradient.sum(0)
        if self.grad_hidden is not None:
            self.grad_hidden[start:stop] = pull(gradient, self.weight)
        if self.grad_weight is not None:
            add_outer(self.grad_weight, gradient, hidden, first=self.untouched)
            self.untouched = False

    def _sampled(self, chosen: Tensor, start: int, stop: int) -> Tensor:
        """Add the sampled-token losses; ∂/∂ln q(y), [n]."""
        with torch.enable_grad():
            leaf = chosen.detach().requires_grad_()
            slope = torch.zeros_like(leaf)
            for part in self.plan.parts:
                found = part.within(start, stop)
                if part.wanted is not None or not nonempty(found):
                    continue
                rows = rows_of(part.index[found] - start, stop - start, leaf.device)
                streams = {name: stream[start:stop][rows] for name, stream in self.plan.streams.items()}
                assert not isinstance(part.term, Wanted)
                results = sampled_loss(part.term, leaf[rows], streams, **part.numbers(found))
                for name, values in results.items():
                    self.plan.record(f"{name}/{part.name}", start, rows, values.detach().to(chosen.dtype), stop - start)
                total = (part.weights[found] * results["loss"]).sum()
                self.loss += total.detach()
                (one,) = torch.autograd.grad(total, leaf)
                slope += one
                if self.plan.shares:
                    self.plan.record(f"slope/{part.name}", start, rows, one[rows].abs(), stop - start)
        return slope


def entropy(logprobs: Tensor, probs: Tensor) -> Tensor:
    """−Σ q ln q, [n, V] -> [n], nats. ``logprobs`` are overwritten."""
    found = -logprobs.mul_(probs).sum(-1)
    if bool(found.isnan().any()):  # a masked vocabulary: 0 · −inf
        found = -logprobs.masked_fill_(probs == 0, 0.0).sum(-1)
    return found
