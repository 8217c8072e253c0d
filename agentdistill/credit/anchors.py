"""Turns compared at the same state: the anchors of a group's episodes as one graph.

    episode a   start ──look──> hall ──left───> kitchen ──...        start   a, b, b     three visits to compare
    episode b   start ──look──> start ──look──> hall ──right──> …    hall    a, b        two
                                                                     kitchen a           alone: 0

Nodes are anchors, the hashable keys with which an environment says "this is the same state"; edges are turns, with their ``episode``,
``turn`` and ``reward``. A state without anchor (``None``) has a node of its own, :class:`Unanchored`, and is never compared.

Siblings that pass the same state have the same future open to them, so what each earned from there on is a fair comparison of what each did
there: GiGPO's step advantage, "Group-in-Group Policy Optimization for LLM Agent Training", Feng et al., arXiv 2505.10978.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
import numpy.typing as npt

from agentdistill.credit.turns import returns_to_go
from agentdistill.errors import AlignmentError, ConfigError, UsageError, unknown

Values = npt.NDArray[np.float64]
Visit = tuple[Hashable | None, Hashable | None, float]
"""A turn: anchor before it, anchor after it, reward."""
if TYPE_CHECKING:
    Graph = nx.MultiDiGraph[Hashable]
else:
    Graph = nx.MultiDiGraph
MODES = ("mean", "mean_std")
STD_FLOOR = 1e-6


@dataclass(frozen=True)
class Unanchored:
    """Node of a state for which the environment gave no anchor: the one before turn ``turn`` of ``episode``, or after the turn before."""

    episode: int
    turn: int


def anchor_graph(episodes: Sequence[Sequence[Visit]]) -> Graph:
    """The graph of one group's episodes, merged at equal anchors. Its attribute ``turns`` is the number of turns of each episode.

    Args:
        episodes: of one task, each a sequence of turns (anchor before, anchor after, reward). ``None``: no anchor; after the last turn it
            also says that the episode is over.

    Raises:
        UsageError: an anchor that cannot be hashed, or a reward that is not finite.
    """
    graph: Graph = nx.MultiDiGraph(turns=[len(turns) for turns in episodes])
    for episode, turns in enumerate(episodes):
        for index, (before, after, reward) in enumerate(turns):
            if not np.isfinite(reward):
                raise UsageError(f"the reward of turn {index} of episode {episode} is {reward}; leave failed episodes out")
            ends = (_node(graph, before, episode, index), _node(graph, after, episode, index + 1))
            graph.add_edge(*ends, episode=episode, turn=index, reward=float(reward))
    return graph


def step_advantages(group: Graph | Sequence[Sequence[Visit]], gamma: float = 0.95, mode: str = "mean") -> list[Values]:
    """Advantage of each turn over the other visits of its anchor: [K_i] each.

    A = G − mean(G), or (G − mean(G)) / (std(G) + 1e-6) with ``mean_std``, over all visits of the anchor in the group, where
    G = Σ_{j≥k} γ^{j−k} r_j is the discounted return from the visit on. A visit that has no other to compare with has 0: no comparison is
    not a success. The mean includes the visit itself, as in the paper, and an episode that passes a state twice counts twice.

    Args:
        group: a graph of :func:`anchor_graph`, or the episodes that it is made of.
        gamma: discount between turns.
        mode: one of :data:`MODES`.

    Raises:
        ConfigError: unknown mode, or ``gamma`` outside [0, 1].
    """
    if mode not in MODES:
        raise ConfigError(unknown("normalisation at an anchor", mode, MODES))
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma={gamma:g} is a discount between turns; it must be within [0, 1]")
    graph = group if isinstance(group, nx.MultiDiGraph) else anchor_graph(group)
    returns = [returns_to_go(rewards, gamma) for rewards in _rewards(graph)]
    found = [np.zeros(len(row)) for row in returns]
    for visits in _visits(graph).values():
        values = np.array([returns[episode][turn] for episode, turn in visits])
        if len(values) < 2:
            continue
        centred = values - values.mean()
        if mode == "mean_std":
            centred = centred / (values.std(ddof=1) + STD_FLOOR)
        for (episode, turn), value in zip(visits, centred, strict=True):
            found[episode][turn] = value
    return found


def coverage(group: Graph | Sequence[Sequence[Visit]]) -> float:
    """Share of turns at whose anchor another episode was too; 0 without turns. Where it is low, the step part says little."""
    graph = group if isinstance(group, nx.MultiDiGraph) else anchor_graph(group)
    shared = sum(len(visits) for visits in _visits(graph).values() if len({episode for episode, _ in visits}) > 1)
    return shared / total if (total := graph.number_of_edges()) else 0.0


def gigpo(outcome: npt.ArrayLike, step: Sequence[npt.ArrayLike], omega: float = 1.0) -> list[Values]:
    """Â_k = A_episode + ω A_step,k of each turn: [K_i] each (arXiv 2505.10978).

    The paper's code leaves the episode part of a group of one uncentred, so an episode without siblings is praised with its raw reward.
    Here ``outcome`` comes from :func:`agentdistill.credit.group_advantages` with baseline ``group`` or ``group_std``, which give it 0.

    Args:
        outcome: advantage of each episode, [G].
        step: of each episode's turns, as :func:`step_advantages` returns them.

    Raises:
        AlignmentError: as many outcomes as episodes are needed.
    """
    outcomes = np.asarray(outcome, np.float64)
    if outcomes.shape != (len(step),):
        raise AlignmentError(f"{len(step)} episodes have step advantages, but outcome has shape {outcomes.shape}")
    return [float(each) + omega * np.asarray(row, np.float64) for each, row in zip(outcomes, step, strict=True)]


def _node(graph: Graph, anchor: Hashable | None, episode: int, turn: int) -> Hashable:
    node = Unanchored(episode, turn) if anchor is None else anchor
    try:
        graph.add_node(node, anchored=anchor is not None)
    except TypeError as error:
        raise UsageError(f"the anchor {anchor!r} cannot be hashed; make it a string, a number or a tuple of those") from error
    return node


def _visits(graph: Graph) -> dict[Hashable, list[tuple[int, int]]]:
    """(episode, turn) of each turn that began at each anchor."""
    found: dict[Hashable, list[tuple[int, int]]] = {}
    for before, _, turn in graph.edges(data=True):
        if graph.nodes[before]["anchored"]:
            found.setdefault(before, []).append((turn["episode"], turn["turn"]))
    return found


def _rewards(graph: Graph) -> list[Values]:
    rewards = [np.zeros(length) for length in graph.graph["turns"]]
    for *_, turn in graph.edges(data=True):
        rewards[turn["episode"]][turn["turn"]] = turn["reward"]
    return rewards
