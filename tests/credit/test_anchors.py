"""Anchors: a group's episodes as one graph, and turns compared where siblings stood in the same place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentdistill.credit.anchors import Unanchored, anchor_graph, coverage, gigpo, step_advantages
from agentdistill.credit.outcome import group_advantages
from agentdistill.errors import AlignmentError, ConfigError, UsageError

A = [("start", "hall", 0.0), ("hall", "kitchen", 0.0), ("kitchen", None, 1.0)]
B = [("start", "start", 0.0), ("start", "hall", 0.0), ("hall", "cellar", 0.0), ("cellar", None, 0.0)]


def test_episodes_meet_at_equal_anchors_and_each_turn_is_an_edge():
    graph = anchor_graph([A, B])
    anchored = {node for node, anchored in graph.nodes(data="anchored") if anchored}
    assert anchored == {"start", "hall", "kitchen", "cellar"}
    assert set(graph) - anchored == {Unanchored(0, 3), Unanchored(1, 4)}
    assert graph.number_of_edges() == 7
    assert graph.has_edge("start", "start")
    assert sorted((turn["episode"], turn["turn"]) for *_, turn in graph.out_edges("start", data=True)) == [(0, 0), (1, 0), (1, 1)]
    (last,) = (turn for *_, turn in graph.out_edges("kitchen", data=True))
    assert last == {"episode": 0, "turn": 2, "reward": 1.0}


def test_a_visit_is_worth_what_was_earned_from_it_less_the_mean_of_its_anchor():
    first, second = step_advantages([A, B], gamma=0.9)
    mean = 0.81 / 3
    assert first == pytest.approx([0.81 - mean, 0.9 - 0.45, 0.0])
    assert second == pytest.approx([-mean, -mean, -0.45, 0.0])


def test_dividing_by_the_spread_is_over_the_visits_of_the_anchor():
    (one,), (other,), (third,) = step_advantages([[("s", None, reward)] for reward in (1.0, 0.0, 0.5)], mode="mean_std")
    assert [one, other, third] == pytest.approx([1, -1, 0], abs=1e-5)
    same = step_advantages([[("s", None, 0.7)], [("s", None, 0.7)]], mode="mean_std")
    assert np.concatenate(same).tolist() == [0, 0]


def test_the_discount_is_the_papers_unless_told():
    ((early, _), (late,)) = step_advantages([[("s", "t", 0.0), ("t", None, 1.0)], [("s", None, 0.0)]])
    assert early == pytest.approx(0.95 / 2)
    assert late == pytest.approx(-0.95 / 2)


def test_an_anchor_with_one_visit_says_nothing():
    assert [row.tolist() for row in step_advantages([[("a", "b", 1.0), ("b", None, 1.0)], [("c", None, 0.0)]])] == [[0, 0], [0]]


def test_states_without_anchor_are_never_compared_with_each_other():
    unanchored = [[(None, None, 1.0), (None, None, 0.5)], [(None, None, 0.0)]]
    assert [row.tolist() for row in step_advantages(unanchored)] == [[0, 0], [0]]
    assert coverage(unanchored) == 0


def test_an_anchor_that_looks_like_the_place_of_a_state_without_one_is_not_taken_for_it():
    """Episode 0 ends without anchor after its turn 0; episode 1 begins at an anchor that is the pair (0, 1)."""
    graph = anchor_graph([[("x", None, 0.0)], [((0, 1), None, 0.0)]])
    assert sum(anchored for _, anchored in graph.nodes(data="anchored")) == 2
    assert len(graph) == 4


def test_a_group_of_one_has_neither_an_episode_part_nor_a_step_part():
    """The trap: kept uncentred, an episode without siblings would be praised with its raw reward."""
    for baseline in ("group", "group_std"):
        (alone,) = gigpo(group_advantages([1.0], baseline), step_advantages([A]))
        assert alone.tolist() == [0, 0, 0]


def test_episode_and_step_parts_add_up():
    first, second = gigpo([1.0, -1.0], [[0.5, 0.0], [-0.5]], omega=0.4)
    assert first == pytest.approx([1.2, 1.0])
    assert second == pytest.approx([-1.2])
    assert gigpo([1.0], [[0.5]])[0].tolist() == [1.5]


def test_coverage_counts_turns_at_which_another_episode_was_too():
    assert coverage([A, B]) == pytest.approx(5 / 7)
    assert coverage([A]) == 0
    assert coverage([[("s", "s", 0.0), ("s", None, 0.0)]]) == 0
    assert coverage([[], []]) == 0


anchors = st.sampled_from(["a", "b", "c", None])
groups = st.lists(st.lists(st.tuples(anchors, anchors, st.floats(-5, 5)), max_size=6), max_size=5)


@given(groups, st.sampled_from([0.0, 0.95, 1.0]), st.sampled_from(["mean", "mean_std"]))
def test_the_advantages_at_an_anchor_sum_to_zero_and_the_rest_are_zero(episodes, gamma, mode):
    found = step_advantages(episodes, gamma, mode)
    assert [len(row) for row in found] == [len(turns) for turns in episodes]
    sums: dict[str | None, float] = {}
    for row, turns in zip(found, episodes, strict=True):
        for value, (before, _, _) in zip(row, turns, strict=True):
            assert np.isfinite(value)
            assert value == 0 or before is not None
            sums[before] = sums.get(before, 0.0) + value
    assert list(sums.values()) == pytest.approx([0.0] * len(sums), abs=1e-6)


@given(groups)
def test_the_graph_holds_all_that_the_episodes_said(episodes):
    again = anchor_graph(episodes)
    for from_graph, from_episodes in zip(step_advantages(again), step_advantages(episodes), strict=True):
        assert from_graph.tolist() == from_episodes.tolist()
    assert again.number_of_edges() == sum(map(len, episodes))
    assert coverage(again) == coverage(episodes)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: step_advantages([A], mode="std"), ConfigError, "available: mean, mean_std"),
        (lambda: step_advantages([A], gamma=-0.1), ConfigError, r"within \[0, 1\]"),
        (lambda: anchor_graph([[(["list"], None, 0.0)]]), UsageError, "cannot be hashed"),
        (lambda: anchor_graph([[("a", None, float("nan"))]]), UsageError, "turn 0 of episode 0 is nan"),
        (lambda: gigpo([1.0], [[0.0], [0.0]]), AlignmentError, "2 episodes"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
