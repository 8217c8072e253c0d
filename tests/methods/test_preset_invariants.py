"""What must not matter does not: for every preset, how the batch is cut, in which order it comes, and who failed in it."""

from __future__ import annotations

import numpy as np
import pytest

from agentdistill.types import EpisodeGroup, Sample

from .preset_batch import batch, groups
from .preset_run import by_the_library, credited, distance, method_of
from .presets import PRESETS

every_preset = pytest.mark.parametrize("name", PRESETS)


def assert_same(found: list[Sample], expected: list[Sample]) -> None:
    """Same streams of same rows, in any order."""
    rows = {(sample.episode, sample.segment): sample for sample in found}
    assert len(rows) == len(found) == len(expected)
    for sample in expected:
        streams = rows[sample.episode, sample.segment].streams()
        assert streams.keys() == sample.streams().keys()
        for key, stream in sample.streams().items():
            np.testing.assert_allclose(streams[key], stream, rtol=1e-6, atol=1e-7, err_msg=f"{key} of {sample.episode}")


@every_preset
def test_cutting_into_micro_batches_changes_no_gradient(name: str) -> None:
    whole, pieces = (by_the_library(name, micro_batch_tokens=tokens) for tokens in (4096, 8))
    assert distance(pieces, whole) < 1e-9


@every_preset
def test_the_order_of_groups_episodes_and_segments_does_not_matter(name: str) -> None:
    turned = [group.model_copy(update={"episodes": group.episodes[::-1]}) for group in groups()[::-1]]
    samples = [batch()[i] for i in np.random.default_rng(0).permutation(len(batch()))]
    found = method_of(name).credit(samples, turned, 0).samples
    assert [sample.episode for sample in found] == [sample.episode for sample in samples], "rows come back in the order in which they came"
    assert_same(found, credited(name))
    assert distance(by_the_library(name, samples=found), by_the_library(name)) < 1e-6


@every_preset
def test_an_episode_that_failed_is_as_if_it_had_never_been(name: str) -> None:
    """NeMo-Gym#3351, open-instruct#1887: rows of a broken world are masked, and still pull their siblings' baseline."""
    assert any(not episode.status.trainable for group in groups() for episode in group.episodes)
    without = [EpisodeGroup(id=group.id, task=group.task, episodes=group.trainable) for group in groups()]
    assert_same(method_of(name).credit(batch(), without, 0).samples, credited(name))


@every_preset
def test_masks_weights_and_advantages_agree_with_each_other_and_with_who_spoke(name: str) -> None:
    terms = method_of(name).terms_at(0)
    trained = 0
    for sample in credited(name):
        assert sample.masks.keys() == sample.weights.keys() == terms.keys()
        for key, mask in sample.masks.items():
            assert mask.dtype == np.bool_
            np.testing.assert_array_equal(mask, sample.weights[key] != 0)
            assert not mask[~sample.sampled].any()
            if terms[key].tokens != "all":
                assert not mask[(sample.author == 0) != (terms[key].tokens == "student")].any()
            if key in sample.advantages:
                assert np.isfinite(sample.advantages[key]).all()
                assert not sample.advantages[key][sample.author != 0].any()
            trained += int(mask.sum())
    assert trained
