"""Two processes that share a batch do what one does with the whole of it; and so does one that cuts it into small pieces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentdistill.errors import UsageError
from agentdistill.learner import shard

from .two_ranks import CASES, KINDS, NORMALISERS, Case, Outcome, batch, every, one_update

TESTS = Path(__file__).resolve().parent.parent
DEADLINE_S = 60
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
SOUND = [name for name in CASES if name not in ("no-episode", "spoilt")]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Outcome]]:
    """What each of two ranks made of every case."""
    out = tmp_path_factory.mktemp("ranks")
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), str(TESTS.parent / "envs")])
    environment = {**os.environ, "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "learner.two_ranks"]
    processes = [
        subprocess.Popen([*command, str(rank), "2", str(out / "store"), str(out)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=DEADLINE_S)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    return [read(out, rank) for rank in range(2)]


def read(out: Path, rank: int) -> dict[str, Outcome]:
    told = json.loads((out / f"{rank}.json").read_text())
    found = {name: Outcome(told=told[name]) for name in CASES}
    with np.load(out / f"{rank}.npz") as arrays:
        for path in arrays.files:
            name, kind, key = path.split("/", 2)
            getattr(found[name], kind)[key] = arrays[path]
    return found


def furthest(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """The largest difference in any tensor, relative to its largest entry."""
    assert found.keys() == expected.keys()
    assert found
    return max(float(np.abs(found[name] - expected[name]).max() / (np.abs(expected[name]).max() or 1.0)) for name in expected)


@pytest.mark.ci
@pytest.mark.parametrize("name", SOUND)
def test_the_gradients_of_two_ranks_are_those_of_one_process(both: list[dict[str, Outcome]], name: str) -> None:
    case = CASES[name]
    whole = one_update(case, batch(case), micro_batch_tokens=10_000)
    assert whole.told["norm"] > 1e-3
    for rank in both:
        assert furthest(rank[name].gradients, whole.gradients) < TOLERANCE[case.dtype]
        assert rank[name].told["norm"] == pytest.approx(whole.told["norm"], rel=TOLERANCE[case.dtype])
    for key, weights in both[0][name].weights.items():
        np.testing.assert_array_equal(weights, both[1][name].weights[key])


@pytest.mark.ci
@pytest.mark.parametrize("name", SOUND)
def test_both_ranks_report_the_whole_batch(both: list[dict[str, Outcome]], name: str) -> None:
    """Schedules answer to these figures, and must answer alike."""
    case = CASES[name]
    whole = one_update(case, batch(case), micro_batch_tokens=40).told
    padded = {"tokens/forward": both[0][name].told["metrics"]["tokens/forward"]}  # how rows are padded is a matter of who sits beside them
    for rank in both:
        told = rank[name].told
        assert told["metrics"] == pytest.approx(whole["metrics"] | padded, rel=1e-5 if case.dtype is torch.float32 else 1e-7)
        assert told["total"] == pytest.approx(whole["total"], rel=TOLERANCE[case.dtype])
    assert both[0][name].told["metrics"] == both[1][name].told["metrics"]


@pytest.mark.ci
def test_a_rank_without_a_sample_takes_part(both: list[dict[str, Outcome]]) -> None:
    held = sorted(rank["one-episode"].told["held"] for rank in both)
    assert held == [0, 1]
    assert not any(rank["one-episode"].told["skipped"] for rank in both)
    nothing = [rank["no-episode"] for rank in both]
    assert all(outcome.told["skipped"] and not outcome.gradients for outcome in nothing)


@pytest.mark.ci
def test_a_number_that_is_not_finite_on_one_rank_skips_the_step_on_all_and_only_its_episode_is_named(
    both: list[dict[str, Outcome]],
) -> None:
    fresh = one_update(Case(every("token"), episodes=0), [], micro_batch_tokens=40).weights
    for rank in both:
        assert rank["spoilt"].told["skipped"]
        assert rank["spoilt"].told["in_a_row"] == 1
        for key, weights in rank["spoilt"].weights.items():
            np.testing.assert_array_equal(weights, fresh[key])
    assert sorted(rank["spoilt"].told["episodes"] for rank in both) == [[], ["e3"]]


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["float64", "float32"])
def test_cutting_the_batch_into_small_pieces_changes_no_gradient(normaliser: str, dtype: torch.dtype) -> None:
    case = Case(every(normaliser), dtype)
    whole, pieces = (one_update(case, batch(case), micro_batch_tokens=tokens).gradients for tokens in (10_000, 1))
    assert furthest(pieces, whole) < TOLERANCE[dtype]


@pytest.mark.parametrize("name", KINDS)
def test_cutting_the_batch_changes_no_gradient_of_any_term_alone(name: str) -> None:
    case = CASES[f"{name}-sequence"]
    whole, pieces = (one_update(case, batch(case), micro_batch_tokens=tokens).gradients for tokens in (10_000, 40))
    assert furthest(pieces, whole) < 1e-9


# --- who has what ---------------------------------------------------------------------------------------------------


def test_every_episode_goes_whole_to_one_rank_and_the_load_is_even(tools: Any) -> None:
    samples = tools.samples(count=30)
    samples[29] = replace(samples[29], episode="e0", segment=1)
    parts = [shard(samples, rank, 3) for rank in range(3)]
    owners = [{sample.episode for sample in part} for part in parts]
    assert sum(len(part) for part in parts) == 30
    assert len(set.union(*owners)) == sum(map(len, owners)) == 29
    loads = [sum(map(len, part)) for part in parts]
    assert max(loads) - min(loads) <= max(map(len, samples))
    order = {id(sample): index for index, sample in enumerate(samples)}
    assert all([order[id(each)] for each in part] == sorted(order[id(each)] for each in part) for part in parts)


def test_a_rank_may_be_left_with_nothing_and_one_that_is_not_there_is_refused(tools: Any) -> None:
    samples = tools.samples(count=1)
    assert [len(shard(samples, rank, 2)) for rank in range(2)] == [1, 0]
    assert shard(samples, 0, 1) == samples
    for rank in (-1, 2):
        with pytest.raises(UsageError, match=f"rank {rank} of 2; expected 0 to 1"):
            shard(samples, rank, 2)
