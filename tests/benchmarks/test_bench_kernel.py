"""The kernel's benchmark itself: that it notices what is not equal, and that its own side is the learner's kernel."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench() -> Any:
    return load("bench_kernel")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("beta", [0.5, 0.0, 1.0])
def test_our_side_computes_the_mean_divergence(beta: float) -> None:
    sides = load("kernel_sides")
    inputs = sides.Inputs.make((64, 300, 16, 24), torch.float32, "cpu")
    found = sides.measure(sides.ours("16"), inputs, beta)
    student = (inputs.hidden @ inputs.weight.T).log_softmax(-1)
    teacher = (inputs.teacher_hidden @ inputs.teacher_weight.T).log_softmax(-1)
    mixture = (beta * teacher.exp() + (1 - beta) * student.exp()).log()
    first, second = teacher.exp() * (teacher - mixture), student.exp() * (student - mixture)
    loss = {0.0: first, 1.0: second}.get(beta, beta * first + (1 - beta) * second).sum(-1).mean()
    assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    (gradient,) = torch.autograd.grad(loss, inputs.hidden)
    torch.testing.assert_close(torch.tensor(found["hidden"]), gradient[::8, :32].flatten(), rtol=1e-3, atol=1e-6)
    assert found["bytes"] >= 0


def passes(bench: Any, seconds: dict[str, list[float]], **changed: Any) -> dict[tuple[str, float], list[dict[str, Any]]]:
    one = {"bytes": 1e6, "loss": 2.0, "hidden": [1.0, 0.5], "weight": [1.0, -1.0]}
    return {
        (side, beta): [{**one, **(changed if side == "ours" else {}), "seconds": each} for each in seconds[side]]
        for side in bench.SIDES
        for beta in bench.BETAS
    }


@pytest.mark.parametrize("changed", [{"loss": 2.1}, {"hidden": [1.0, 0.6]}, {"weight": [1.0, -0.9]}], ids=["loss", "hidden", "weight"])
def test_a_loss_or_gradient_that_is_not_equal_is_named(bench: Any, changed: dict[str, Any]) -> None:
    seconds = {side: [1.0] for side in bench.SIDES}
    assert bench.disagreements("1024x32k/float32", passes(bench, seconds)) == []
    found = bench.disagreements("1024x32k/float32", passes(bench, seconds, **changed))
    assert len(found) == 3 * len(bench.BETAS)
    assert all(next(iter(changed)) in problem for problem in found)


def test_the_ratio_is_the_median_of_the_rounds_and_not_of_the_medians(bench: Any) -> None:
    seconds = {"ours": [1.0, 10.0, 2.0], "naive": [2.0, 20.0, 3.0], "trl": [3.0, 3.0, 3.0], "liger": [5.0]}
    lines = bench.table("1024x32k/float32", passes(bench, seconds), {"trl": "1x2", "liger": "3"}).splitlines()
    assert "| JSD, β = .5 | naive | 3.00 | 2.00 | 1 | 1.0 | 3 |" in lines
    assert "| JSD, β = .5 | liger | 5.00 | 5.00 | 1 | 1.0 | 1 |" in lines


@pytest.mark.ci
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("dtype", "bar"), [("float32", 196e6), ("bfloat16", 130e6)])
def test_peak_memory_at_32k_stays_where_it_was_measured(bench: Any, dtype: str, bar: float) -> None:
    """196 MB is a sixth of what the plain implementation was measured to take in float32; see docs/kernel.md."""
    (found,) = bench.run("ours", f"1024x32k/{dtype}", betas=(0.0,))
    assert 65e6 < found["bytes"] < bar
