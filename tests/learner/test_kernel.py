import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from agentdistill.config.schema import DivergenceTerm, SupervisedTerm, Term
from agentdistill.learner import Hidden, kernel, linear_divergence
from agentdistill.learner.head import Head
from agentdistill.learner.kernel import token_losses
from agentdistill.learner.plan import Part, Plan


def plan_of(head: Head, targets: torch.Tensor, term: Term, **kwargs: object) -> Plan:
    index = np.arange(len(targets))
    part = Part(name="t", term=term, index=index, weights=torch.ones(len(targets)))
    return Plan(head=head, targets=targets, parts=(part,), **kwargs)  # type: ignore[arg-type]  # forwarded


def test_head_gradients_of_bfloat16_products_are_summed_in_float32() -> None:
    """2048 equal contributions: a bfloat16 sum would stop growing at 256 of them."""
    torch.manual_seed(0)
    weight = torch.randn(5, 4, requires_grad=True)
    hidden = torch.randn(1, 4)
    gradients = []
    for count in (1, 2048):
        head, targets = Head(weight=weight), torch.ones(count, dtype=torch.long)
        loss = token_losses(plan_of(head, targets, SupervisedTerm(), chunk=1, product_dtype=torch.bfloat16), hidden.repeat(count, 1))
        gradients += torch.autograd.grad(loss, weight)
    torch.testing.assert_close(gradients[1], 2048 * gradients[0], rtol=1e-3, atol=1e-3)


class Watching:
    """A target that records the largest tensor of logits alive at once."""

    def __init__(self, count: int, vocab: int) -> None:
        self.count, self.vocab, self.asked = count, vocab, []  # type: ignore[var-annotated]

    def __len__(self) -> int:
        return self.count

    def log_probs(self, start: int, stop: int) -> torch.Tensor:
        self.asked.append((start, stop))
        return torch.zeros(stop - start, self.vocab).log_softmax(-1)


def test_the_teacher_is_read_once_and_a_chunk_at_a_time() -> None:
    target = Watching(10, 5)
    head, targets = Head(weight=torch.randn(5, 4, requires_grad=True)), torch.zeros(10, dtype=torch.long)
    plan = plan_of(head, targets, DivergenceTerm(), chunk=4, dense=target, dense_index=np.arange(10))
    token_losses(plan, torch.randn(10, 4)).backward()
    assert target.asked == [(0, 4), (4, 8), (8, 10)]


def test_memory_is_that_of_a_chunk_and_not_of_the_batch() -> None:
    """In the largest tensor that torch allocates: [chunk, V], where plain logits are [N, V]."""
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, list | tuple) else (result,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return result

    count, vocab, chunk = 512, 3000, 32
    head, hidden = Head(weight=torch.randn(vocab, 8, requires_grad=True)), torch.randn(count, 8, requires_grad=True)
    plan = plan_of(
        head,
        torch.zeros(count, dtype=torch.long),
        DivergenceTerm(),
        chunk=chunk,
        dense=Watching(count, vocab),
        dense_index=np.arange(count),
    )
    with Watch():
        token_losses(plan, hidden).backward()
    assert largest == chunk * vocab


class Allocated(TorchDispatchMode):
    """Elements of every floating-point tensor that an operation returns in new memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        known = {arg.untyped_storage().data_ptr() for arg in (*args, *(kwargs or {}).values()) if isinstance(arg, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.untyped_storage().data_ptr() not in known:
                self.sizes.append(tensor.numel())
        return result


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd"])
def test_two_tensors_of_a_chunks_logits_and_one_of_the_heads_gradient_are_all_there_is(divergence: str) -> None:
    """Everything else is a block, and none of it is copied in the backward pass."""
    count, vocab, width, chunk = 64, 3000, 16, 32
    weight, hidden = torch.randn(vocab, width, requires_grad=True), torch.randn(count, width, requires_grad=True)
    teacher = Hidden(torch.randn(count, 24), torch.randn(vocab, 24))
    with pytest.MonkeyPatch.context() as patch, Allocated() as allocated:
        patch.setitem(kernel.BLOCK, "cpu", 2 * vocab)
        patch.setattr("agentdistill.policy.products.TILE_BYTES", 4 * 24 * 64)
        linear_divergence(hidden, weight, teacher, divergence=divergence, chunk=chunk, entropy=True).loss.backward()
    large = [size for size in allocated.sizes if size > 2 * vocab]
    assert sorted(large) == [vocab * width, chunk * vocab, chunk * vocab]


def test_a_head_without_padding_is_handed_out_as_it_is() -> None:
    """The gradient of a view is a second tensor of the head's size."""
    weight = torch.randn(5, 4, requires_grad=True)
    assert Head(weight=weight, rows=5).shared[0] is weight
    assert Head(weight=weight).shared[0] is weight
    assert Head(weight=weight, rows=3).shared[0].shape == (3, 4)


def test_a_batch_without_positions_has_no_gradient() -> None:
    weight = torch.randn(5, 4, requires_grad=True)
    loss = token_losses(plan_of(Head(weight=weight), torch.zeros(0, dtype=torch.long), SupervisedTerm()), torch.zeros(0, 4))
    (gradient,) = torch.autograd.grad(loss, weight)
    assert float(loss.detach()) == 0
    assert not bool(gradient.any())


def test_positions_that_nothing_trains_on_leave_the_gradient_alone() -> None:
    """The first chunk has no loss, the second has; memory for the head's gradient is not zeroed beforehand."""
    torch.manual_seed(0)
    weight, hidden = torch.randn(5, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    part = Part(name="t", term=SupervisedTerm(), index=np.array([4, 5]), weights=torch.ones(2))
    plan = Plan(head=Head(weight=weight), targets=torch.arange(6) % 5, parts=(part,), chunk=2)
    found = torch.autograd.grad(token_losses(plan, hidden), (hidden, weight))
    wanted = torch.autograd.grad(-(hidden @ weight.T).log_softmax(-1)[[4, 5], [4, 0]].sum(), (hidden, weight))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    nothing = Plan(head=Head(weight=weight), targets=torch.arange(6) % 5, parts=(), chunk=2)
    for gradient in torch.autograd.grad(token_losses(nothing, hidden), (hidden, weight)):
        assert not bool(gradient.any())


def test_a_frozen_head_and_a_second_derivative() -> None:
    """No gradient is formed for a weight that is not trained; a second derivative is refused rather than wrong."""
    head, hidden = Head(weight=torch.randn(5, 4)), torch.randn(3, 4, requires_grad=True)
    plan = plan_of(head, torch.zeros(3, dtype=torch.long), SupervisedTerm())
    loss = token_losses(plan, hidden)
    (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
    assert head.weight.grad is None
    with pytest.raises(RuntimeError):
        gradient.sum().backward()
