"""What is trained on: rows of tokens, and what the learner found at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from agentdistill.types.base import BoolArray, FloatArray, IntArray, Record, require_length
from agentdistill.types.episodes import Episode


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One segment of one episode as parallel per-token streams of length L.

    A two-turn episode (``c`` context, ``s`` sampled by the student; here the tool's answer is the context of turn 1)::

        token_ids         c  c  c  s  s  s  c  c  s  s        one row, in the order the model saw it
        author            -  -  -  0  0  0  -  -  0  0        index into AUTHORS, or NO_AUTHOR
        turn             -1 -1 -1  0  0  0 -1 -1  1  1        -1: nobody sampled it
        masks["teacher"]  F  F  F  T  T  T  F  F  T  T        per loss component
        weights[...]      0  0  0  1  1  1  0  0  .5 .5       per loss component, non-negative
        advantages[...]   0  0  0  a  a  a  0  0  b  b        per policy-gradient component

    Position t of every stream belongs to ``token_ids[t]``; the logits that predicted it are those of position t−1.
    Log-probability streams are NaN where nobody sampled or the teacher did not review; they are never zero there.
    """

    episode: str
    segment: int = 0
    token_ids: IntArray
    author: npt.NDArray[np.uint8]
    turn: IntArray
    policy_version: IntArray
    rollout_logprobs: FloatArray
    """ln q at sampling, from the rollout engine."""
    old_logprobs: FloatArray | None = None
    """ln q of the policy before this update, from the trainer's own forward. ``None``: the update is the first one, so it equals the
    current policy."""
    ref_logprobs: FloatArray | None = None
    teacher_logprobs: FloatArray | None = None
    entropy: FloatArray | None = None
    """−Σ q ln q of the student at each sampled token, nats. ``None``: nothing needs it."""
    divergences: Mapping[str, FloatArray] = field(default_factory=dict)
    """Per policy-gradient component whose signal wants it: D of teacher and student over the whole vocabulary at each sampled token."""
    expected_advantages: Mapping[str, FloatArray] = field(default_factory=dict)
    """Likewise E_q A, the mean of the teacher's signal over what might have been sampled instead."""
    values: Mapping[str, FloatArray] = field(default_factory=dict)
    """Per learned value: V of the state before each sampled token."""
    values_after: Mapping[str, float] = field(default_factory=dict)
    """Likewise V of the state after the last token, with which an episode that was cut bootstraps."""
    returns: Mapping[str, FloatArray] = field(default_factory=dict)
    """Likewise the targets of its regression, at sampled tokens and where a turn has ended. NaN where there is none."""
    reviewed: BoolArray | None = None
    """Where the teacher has an opinion: a privileged one has none in turns where there was nothing to tell it. ``None``: everywhere."""
    masks: Mapping[str, BoolArray] = field(default_factory=dict)
    weights: Mapping[str, FloatArray] = field(default_factory=dict)
    advantages: Mapping[str, FloatArray] = field(default_factory=dict)
    kappas: Mapping[str, FloatArray] = field(default_factory=dict)
    """Per policy-gradient component: the weight that corrects π_old/π_rollout. Absent: not corrected, or of each token by itself."""
    advantage_parts: Mapping[str, FloatArray] = field(default_factory=dict)
    """``outcome``, ``critic``, ``teacher``: what each contributed to the advantages, for the viewer."""
    pair: str | None = None
    """For preference terms: samples of one pair share it."""

    def __post_init__(self) -> None:
        for name, stream in self.streams().items():
            require_length(name, len(stream), len(self.token_ids), self.episode)

    def __len__(self) -> int:
        return len(self.token_ids)

    def streams(self) -> dict[str, npt.NDArray[Any]]:
        """Every stream that is present, by name (``masks/teacher`` and so on for the mappings)."""
        found: dict[str, npt.NDArray[Any]] = {}
        for name in ("token_ids", "author", "turn", "policy_version", *(f"{who}_logprobs" for who in ("rollout", "old", "ref", "teacher"))):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        for name in ("entropy", "reviewed"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        for name in _BY_NAME:
            found.update({f"{name}/{key}": value for key, value in getattr(self, name).items()})
        return found

    @property
    def sampled(self) -> BoolArray:
        """Where somebody sampled the token."""
        return self.turn >= 0


_BY_NAME = (
    "divergences", "expected_advantages", "values", "returns", "masks", "weights", "advantages", "kappas", "advantage_parts",
)  # fmt: skip
"""Fields of :class:`Sample` that hold several streams."""


class Annotation(Record):
    """What one update made of one segment of one episode: per-token arrays of length L, for the viewer."""

    step: int
    episode: str
    segment: int = 0
    arrays: dict[str, tuple[float, ...]]
    """Named as the streams of :class:`Sample`, and ``student_logprobs``, ``entropy``, ``divergence``, ``loss/<component>``."""

    def lengths(self) -> dict[str, int]:
        return {name: len(values) for name, values in self.arrays.items()}


def turn_ranges(episode: Episode) -> Sequence[tuple[int, int, int]]:
    """(segment, start, stop) of each turn's completion inside its segment's token row."""
    ranges: list[tuple[int, int, int]] = []
    segment, position = None, 0
    for turn in episode.turns:
        if turn.segment != segment:
            segment, position = turn.segment, 0
        start = position + len(turn.context_ids)
        position = start + len(turn.completion.token_ids)
        ranges.append((turn.segment, start, position))
    return ranges
