"""A batch over two processes (gloo) against the same batch in one."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).with_name("two_ranks.py")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_ranks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one_process(script: Any, tools: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    learner = script.learner_of(dtype)
    samples = tools.samples(tuple(script.TERMS), count=7)
    learner.accumulate(learner.pack(samples, script.TERMS, 0), script.TERMS, 0, tools.teacher())
    found: dict[str, torch.Tensor] = tools.gradients(learner)
    return found


@pytest.mark.ci
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
def test_two_ranks_have_the_gradient_of_one(script: Any, tools: Any, tmp_path: Path, dtype: str, tolerance: float) -> None:
    """Relative to each parameter's largest entry. Normalisers are summed before packing, gradients after the backward pass."""
    file = tmp_path / "meeting"
    ranks = [subprocess.Popen([sys.executable, str(SCRIPT), str(rank), str(file), dtype]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    expected = one_process(script, tools, getattr(torch, dtype))
    with np.load(file.with_suffix(".npz")) as found:
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert np.abs(found[name] - value.numpy()).max() <= tolerance * float(value.abs().max()), name
    assert float(max(value.abs().max() for value in expected.values())) > 1e-3


def test_a_rank_that_divides_by_its_own_counts_has_another_gradient(script: Any, tools: Any) -> None:
    """What the sum of the normalisers is for."""
    samples, terms = tools.samples(tuple(script.TERMS), count=7), script.TERMS
    learner = script.learner_of(torch.float64)
    for half in script.HALVES:
        learner.accumulate(learner.pack(samples[half], terms, 0), terms, 0, tools.teacher())
    wrong, right = tools.gradients(learner), one_process(script, tools, torch.float64)
    assert max(float((wrong[name] / 2 - right[name]).abs().max()) for name in right) > 1e-3
