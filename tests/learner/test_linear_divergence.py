"""The kernel against autograd through whole logits, in float64 unless a test is about less."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agentdistill.config.schema import DivergenceTerm, SupervisedTerm
from agentdistill.errors import AlignmentError, ConfigError, IncompatibleError, UsageError
from agentdistill.learner import Head, Hidden, TopK, kernel, linear_divergence
from agentdistill.learner.kernel import token_losses
from agentdistill.learner.plan import WORKING_SET, Part, Plan, Wanted
from agentdistill.losses import divergence, fused

EVERY = [("forward_kl", {}), ("reverse_kl", {}), ("jsd", {"beta": 0.5}), ("jsd", {"beta": 0.2})]
N, V, H = 11, 37, 6


def numbers(dtype: torch.dtype = torch.float64, count: int = N, vocab: int = V) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "hidden": normal(count, H),
        "weight": normal(vocab, H),
        "bias": normal(vocab),
        "states": normal(count, 9),
        "theirs": normal(vocab, 9),
        "rows": normal(count).abs(),
    }


def leaves(x: dict[str, Tensor]) -> list[Tensor]:
    return [x[name].clone().requires_grad_() for name in ("hidden", "weight", "bias")]


def plain(
    x: dict[str, Tensor], name: str, parameters: dict[str, float], scale: float = 1.0, softcap: float | None = None
) -> tuple[Any, ...]:
    """Loss, values and gradients by whole logits."""
    hidden, weight, bias = leaves({key: value.double() for key, value in x.items()})
    student = scale * (hidden @ weight.T + bias)
    if softcap is not None:
        student = softcap * torch.tanh(student / softcap)
    values = divergence(name, x["states"].double() @ x["theirs"].double().T, student, **parameters)
    loss = (x["rows"].double() * values).sum()
    return loss.detach(), values.detach(), torch.autograd.grad(loss, (hidden, weight, bias))


def close(found: Any, expected: Any, tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=["fast", "general"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast forms, and the way of every other divergence."""
    if request.param == "general":
        monkeypatch.setattr(fused, "_FUSED", {})


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("chunk", [None, 1, 4, 11, 100])
@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_loss_values_and_gradients_are_those_of_whole_logits(name: str, parameters: dict[str, float], chunk: int | None) -> None:
    x = numbers()
    hidden, weight, bias = leaves(x)
    teacher = Hidden(x["states"], x["theirs"])
    found = linear_divergence(
        hidden, weight, teacher, divergence=name, bias=bias, row_weights=x["rows"], chunk=chunk, entropy=True, **parameters
    )
    loss, values, gradients = plain(x, name, parameters)
    close((found.loss, found.values), (loss, values), 1e-9)
    close(torch.autograd.grad(found.loss, (hidden, weight, bias)), gradients, 1e-9)
    logprobs = (x["hidden"] @ x["weight"].T + x["bias"]).log_softmax(-1)
    assert found.entropy is not None
    torch.testing.assert_close(found.entropy, -(logprobs.exp() * logprobs).sum(-1))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("block", [1, 3 * V, 100 * V])
@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_float32_is_right_to_five_digits_in_blocks_of_any_size(
    name: str, parameters: dict[str, float], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernel.BLOCK, "cpu", block)
    x = numbers(torch.float32)
    hidden, weight, bias = leaves(x)
    teacher = Hidden(x["states"], x["theirs"])
    found = linear_divergence(hidden, weight, teacher, divergence=name, bias=bias, row_weights=x["rows"], chunk=7, **parameters)
    loss, values, gradients = plain(x, name, parameters)
    close((found.loss, found.values), (loss, values), 1e-5)
    close(torch.autograd.grad(found.loss, (hidden, weight, bias)), gradients, 2e-5)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_scale_and_softcap_have_their_gradients(name: str, parameters: dict[str, float]) -> None:
    x = numbers()
    hidden, weight, bias = leaves(x)
    teacher = Hidden(x["states"], x["theirs"])
    options: dict[str, Any] = {"scale": 0.7, "softcap": 2.5}
    found = linear_divergence(hidden, weight, teacher, divergence=name, bias=bias, row_weights=x["rows"], chunk=3, **options, **parameters)
    loss, values, gradients = plain(x, name, parameters, **options)
    close((found.loss, found.values), (loss, values), 1e-9)
    close(torch.autograd.grad(found.loss, (hidden, weight, bias)), gradients, 1e-9)


@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_bfloat16_inputs_are_taken_as_the_numbers_they_are_and_summed_in_float32(
    name: str, parameters: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64 of the same bfloat16 numbers; only the results are rounded to bfloat16, once. On a machine that emulates them."""
    monkeypatch.setattr("agentdistill.policy.products.native", lambda dtype: dtype == torch.float32)
    x = numbers(torch.bfloat16, count=300)
    hidden, weight, bias = leaves(x)
    teacher = Hidden(x["states"], x["theirs"])
    found = linear_divergence(hidden, weight, teacher, divergence=name, bias=bias, row_weights=x["rows"], chunk=1, **parameters)
    loss, values, gradients = plain(x, name, parameters)
    assert found.loss.dtype == found.values.dtype == torch.float32
    close((found.loss, found.values), (loss, values), 1e-5)
    for one, other in zip(torch.autograd.grad(found.loss, (hidden, weight, bias)), gradients, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.double(), other, rtol=2**-8, atol=1e-3)


def test_a_row_of_weight_zero_is_left_out_whatever_it_holds() -> None:
    x = numbers()
    x["rows"][[0, 4, 10]] = 0
    loss, values, gradients = plain(x, "jsd", {})
    spoiled = {name: value.clone() for name, value in x.items()}
    spoiled["hidden"][[0, 4]] = torch.nan
    spoiled["states"][10] = torch.inf
    hidden, weight, bias = leaves(spoiled)
    found = linear_divergence(
        hidden, weight, Hidden(spoiled["states"], x["theirs"]), bias=bias, row_weights=x["rows"], chunk=2, entropy=True
    )
    close((found.loss,), (loss,), 1e-9)
    close((found.values[1:4],), (values[1:4],), 1e-9)
    assert found.entropy is not None
    assert found.values[[0, 4, 10]].tolist() == found.entropy[[0, 4, 10]].tolist() == [0.0, 0.0, 0.0]
    close(torch.autograd.grad(found.loss, (hidden, weight, bias)), gradients, 1e-9)


def test_without_row_weights_it_is_the_mean_and_any_target_will_do() -> None:
    class Table:
        def __init__(self, logprobs: Tensor) -> None:
            self.logprobs = logprobs

        def __len__(self) -> int:
            return len(self.logprobs)

        def log_probs(self, start: int, stop: int) -> Tensor:
            return self.logprobs[start:stop]

    x = numbers()
    table = Table((x["states"] @ x["theirs"].T).log_softmax(-1))
    found = linear_divergence(x["hidden"], x["weight"], table, divergence="forward_kl", chunk=3)
    wanted = divergence("forward_kl", table.logprobs, x["hidden"] @ x["weight"].T)
    torch.testing.assert_close(found.loss, wanted.mean())
    rows = torch.tensor([0.0, 1.0] * 5 + [0.0], dtype=torch.float64)
    some = linear_divergence(x["hidden"], x["weight"], table, divergence="forward_kl", row_weights=rows, chunk=2)
    torch.testing.assert_close(some.values, wanted * rows)


def test_the_teacher_has_a_temperature_a_bias_a_scale_and_a_cap() -> None:
    x = numbers()
    teacher = Hidden(x["states"], x["theirs"], bias=x["bias"], temperature=2.0, scale=0.5, softcap=3.0)
    found = linear_divergence(x["hidden"], x["weight"], teacher, divergence="reverse_kl")
    logits = 3 * torch.tanh(0.5 * (x["states"] @ x["theirs"].T + x["bias"]) / 3) / 2
    torch.testing.assert_close(found.values, divergence("reverse_kl", logits, x["hidden"] @ x["weight"].T))
    torch.testing.assert_close(teacher.log_probs(2, 5), logits[2:5].log_softmax(-1))


def test_tied_weights_get_both_gradients_and_the_loss_can_be_scaled_and_used_twice() -> None:
    x, ids = numbers(), torch.arange(N) % V
    found, wanted = [x["weight"].clone().requires_grad_() for _ in range(2)]
    loss = linear_divergence(torch.tanh(found[ids]), found, Hidden(x["states"], x["theirs"])).loss
    (3 * loss).backward(retain_graph=True)
    loss.backward()
    (4 * divergence("jsd", x["states"] @ x["theirs"].T, torch.tanh(wanted[ids]) @ wanted.T).mean()).backward()
    assert found.grad is not None
    assert wanted.grad is not None
    torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wants", [(True, False), (False, True)], ids=["frozen head", "frozen body"])
def test_only_what_is_trained_has_a_gradient(wants: tuple[bool, bool]) -> None:
    x = numbers()
    hidden, weight = x["hidden"].requires_grad_(wants[0]), x["weight"].requires_grad_(wants[1])
    linear_divergence(hidden, weight, Hidden(x["states"], x["theirs"]), row_weights=x["rows"]).loss.backward()
    gradients = plain({**x, "bias": torch.zeros(V)}, "jsd", {})[2]
    for leaf, wanted, expected in zip((hidden, weight), wants, gradients, strict=False):
        if wanted:
            torch.testing.assert_close(leaf.grad, expected)
        else:
            assert leaf.grad is None


@pytest.mark.parametrize(
    "options", [{}, {"tail": False}, {"renormalise": True}, {"renormalise": "teacher"}, {"tail": False, "form": "score"}], ids=str
)
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "hellinger"])
def test_a_teacher_of_k_tokens_is_the_topk_route_over_its_support(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernel.BLOCK, "cpu", 2 * V)
    x = numbers()
    logits = x["states"] @ x["theirs"].T
    logprobs, ids = logits.log_softmax(-1).topk(5)
    hidden, weight, bias = leaves(x)
    teacher = TopK(ids, logprobs, **options)
    found = linear_divergence(hidden, weight, teacher, divergence=name, bias=bias, row_weights=x["rows"], chunk=4)
    other = leaves(x)
    wanted = divergence(name, logits, other[0] @ other[1].T + other[2], route="topk", k=5, support="teacher", **options)
    close((found.values,), (wanted.detach(),), 1e-9)
    close(
        torch.autograd.grad(found.loss, (hidden, weight, bias)),
        torch.autograd.grad((x["rows"] * wanted).sum(), other),
        1e-9,
    )


def test_a_teacher_of_k_tokens_is_read_without_the_rows_of_weight_zero() -> None:
    x = numbers()
    x["rows"][[0, 5]] = 0
    logprobs, ids = (x["states"] @ x["theirs"].T).log_softmax(-1).topk(5)
    found = linear_divergence(x["hidden"], x["weight"], TopK(ids, logprobs), row_weights=x["rows"], chunk=3).values
    whole = linear_divergence(x["hidden"], x["weight"], TopK(ids, logprobs)).values
    torch.testing.assert_close(found, torch.where(x["rows"] == 0, 0.0, whole))


@pytest.mark.parametrize("name", ["hellinger", "jeffreys", "tvd", "renyi", "todi"])
def test_every_other_divergence_goes_the_general_way(name: str) -> None:
    x = numbers()
    hidden, weight, bias = leaves(x)
    found = linear_divergence(hidden, weight, Hidden(x["states"], x["theirs"]), divergence=name, bias=bias, row_weights=x["rows"], chunk=4)
    loss, values, gradients = plain(x, name, {})
    close((found.loss, found.values), (loss, values), 1e-9)
    close(torch.autograd.grad(found.loss, (hidden, weight, bias)), gradients, 1e-9)


def test_mistakes_are_named() -> None:
    x = numbers()
    hidden, weight, teacher = x["hidden"], x["weight"], Hidden(x["states"], x["theirs"])
    with pytest.raises(ConfigError, match="did you mean 'jsd'"):
        linear_divergence(hidden, weight, teacher, divergence="jds")
    with pytest.raises(ConfigError, match="btea"):
        linear_divergence(hidden, weight, teacher, btea=0.5)
    with pytest.raises(UsageError, match=r"expected \[N, H\] and \[V, H\]"):
        linear_divergence(hidden[:, :3], weight, teacher)
    with pytest.raises(UsageError, match="bias"):
        linear_divergence(hidden, weight, teacher, bias=x["rows"])
    with pytest.raises(UsageError, match="chunk=0"):
        linear_divergence(hidden, weight, teacher, chunk=0)
    with pytest.raises(AlignmentError, match="11 hidden states, 4 positions"):
        linear_divergence(hidden, weight, Hidden(x["states"][:4], x["theirs"]))
    with pytest.raises(AlignmentError, match=r"row weights \(3,\)"):
        linear_divergence(hidden, weight, teacher, row_weights=[1.0, 2.0, 3.0])
    with pytest.raises(IncompatibleError, match="share one vocabulary"):
        linear_divergence(hidden, weight[:30], teacher)
    with pytest.raises(IncompatibleError, match="names token 36"):
        linear_divergence(hidden, weight[:30], TopK(torch.full((N, 2), 36), torch.zeros(N, 2)))
    with pytest.raises(UsageError, match="temperature"):
        Hidden(x["states"], x["theirs"], temperature=0.0)
    with pytest.raises(UsageError, match="do not fit"):
        Hidden(x["states"], x["weight"])
    with pytest.raises(UsageError, match="differ"):
        TopK(torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 1))


def plan(count: int, vocab: int, width: int, **kwargs: Any) -> tuple[Plan, Tensor]:
    weight = torch.empty(vocab, width, device="meta")
    return Plan(head=Head(weight=weight), targets=torch.zeros(count, dtype=torch.long), parts=(), **kwargs), weight


@pytest.mark.parametrize(
    ("count", "vocab", "width", "chunk", "rows"),
    [
        (1024, 32_000, 512, None, 256),  # logits of student and teacher take what the head's weight takes
        (1024, 32_000, 512, 100, 94),
        (256, 151_936, 896, None, 256),
        (1024, 151_936, 896, None, 342),
        (1024, 1024, 64, None, 1024),  # a small head: WORKING_SET instead
        (1, 10**9, 64, None, 1),
    ],
)
def test_a_chunk_takes_what_the_heads_weight_takes_and_chunk_bounds_it(
    count: int, vocab: int, width: int, chunk: int | None, rows: int
) -> None:
    made, weight = plan(count, vocab, width, chunk=chunk)
    chunks = made.chunks(weight)
    sizes = [each.stop - each.start for each in chunks]
    assert max(sizes) == rows
    assert sum(sizes) == count
    assert [each.start for each in chunks[1:]] == [each.stop for each in chunks[:-1]]
    assert 2 * 4 * vocab * rows <= max(WORKING_SET, 4 * vocab * width) or rows == 1


def test_a_head_in_half_precision_has_a_quarter_of_the_positions_at_a_time() -> None:
    made, weight = plan(1024, 32_000, 512, chunk=None)
    assert {each.stop - each.start for each in made.chunks(weight.bfloat16())} == {64}


def test_parts_on_some_of_the_positions_and_sampled_ones_beside_them_add_up() -> None:
    """Rows with one divergence, with two, with none, with a sampled loss and with all of it, in blocks that cut through them."""
    x = numbers()
    targets = torch.arange(N) * 3 % V
    where = {"a": np.array([0, 1, 2, 5, 9]), "b": np.array([1, 2, 3, 4]), "s": np.array([2, 6, 9, 10])}
    terms = {"a": Wanted(name="reverse_kl"), "b": DivergenceTerm(divergence="jsd", beta=0.3), "s": SupervisedTerm()}
    dense = np.array([0, 1, 2, 3, 4, 5, 9])
    for chunk, block in ((2, V), (5, 2 * V), (11, 100 * V)):
        hidden, weight, bias = leaves(x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(kernel.BLOCK, "cpu", block)
            loss = token_losses(
                Plan(
                    head=Head(weight=weight, bias=bias),
                    targets=targets,
                    parts=tuple(Part(name=n, term=t, index=where[n], weights=x["rows"][where[n]]) for n, t in terms.items()),
                    dense=Hidden(x["states"][dense], x["theirs"]),
                    dense_index=dense,
                    chunk=chunk,
                ),
                hidden,
            )
        other = leaves(x)
        logits, teacher = other[0] @ other[1].T + other[2], x["states"] @ x["theirs"].T
        wanted = (x["rows"] * divergence("reverse_kl", teacher, logits))[where["a"]].sum()
        wanted = wanted + (x["rows"] * divergence("jsd", teacher, logits, beta=0.3))[where["b"]].sum()
        wanted = wanted - (x["rows"] * logits.log_softmax(-1)[torch.arange(N), targets])[where["s"]].sum()
        close((loss,), (wanted.detach(),), 1e-9)
        close(torch.autograd.grad(loss, (hidden, weight, bias)), torch.autograd.grad(wanted, other), 1e-9)


def test_the_example_of_the_page_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "kernel.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/kernel.md", "exec"), names)
    assert names["found"].values.shape == (64,)
    assert names["weight"].grad is not None
