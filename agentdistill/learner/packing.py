"""Samples into micro-batches.

    sample 0   c c c s s s c c s s                        row 0   c c c s s s c c s
    sample 1   c c s s                     ──pack──>      row 1   c c s 0 0 0 0 0 0      right-padded to its own longest

Rows are sorted by length and filled up to a budget of padded tokens. A row ends before its last trained token (nothing is predicted
from there on), and a sample without trained tokens has no row at all. Attention is causal and padding is on the right, so no real
token can see a padded one, and no mask is needed.

Each component's weights are divided here by its count N_c over *all* samples given: what a micro-batch adds to the gradient does
not depend on the company it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agentdistill.config.schema import KLTerm, PolicyGradientTerm, Term
from agentdistill.config.terms import learned_values
from agentdistill.errors import AlignmentError, ConfigError
from agentdistill.learner.counts import Weights, active_terms, component_weights, has_target, normalisers
from agentdistill.types import BoolArray, FloatArray, Sample

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """The tokens of one term inside a micro-batch."""

    index: Index
    """Which of the micro-batch's positions carry it, ascending: [n]."""
    weights: Weights
    """w / N_c: [n]."""
    advantages: FloatArray | None
    """Of a policy gradient: [n]. ``None``: the term has no advantage."""
    kappa: FloatArray | None = None
    """Weight for the mismatch of trainer and rollout engine: [n]. ``None``: not corrected, or of each token by itself."""
    sequence_log_ratio: FloatArray | None = None
    """Mean of ln π_θ − ln π_old over the token's episode: [n]. ``None``: the ratio is of each token by itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Regression:
    """The tokens inside a micro-batch before which a learned value is asked."""

    index: Index
    """Which of the micro-batch's positions, ascending: [n]."""
    targets: FloatArray
    """What it should say: [n]."""
    weight: float
    """1 / their number over the whole batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MicroBatch:
    """Rows that go through the model together. R rows, T padded length, N positions to predict."""

    samples: tuple[Sample, ...]
    """One a row."""
    input_ids: Index
    """[R, T], right-padded with 0."""
    rows: Index
    cols: Index
    """Position i predicts ``samples[rows[i]].token_ids[cols[i]]`` from the hidden state at ``cols[i] − 1``; sorted by row, then column."""
    components: Mapping[str, Component] = field(default_factory=dict)
    values: Mapping[str, Regression] = field(default_factory=dict)
    """By learned value."""

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    @property
    def carried(self) -> BoolArray:
        """Which positions carry a component, [N]; the others are only asked for their value."""
        found = np.zeros(len(self), np.bool_)
        for component in self.components.values():
            found[component.index] = True
        return found

    @property
    def hidden_index(self) -> Index:
        """Index of each position's hidden state in the flattened [R·T] of them."""
        found: Index = self.rows * self.input_ids.shape[1] + self.cols - 1
        return found

    @property
    def targets(self) -> Index:
        """[N]: the ids to predict."""
        return np.concatenate([sample.token_ids[cols] for sample, cols in zip(self.samples, self.positions(), strict=True)]).astype(
            np.int64
        )

    def gather(self, streams: Sequence[npt.NDArray[np.generic] | None]) -> npt.NDArray[np.generic]:
        """One stream a row into [N]; NaN where a row has none."""
        parts = [
            np.full(len(cols), np.nan, np.float32) if stream is None else stream[cols]
            for stream, cols in zip(streams, self.positions(), strict=True)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def positions(self, among: Index | None = None) -> list[Index]:
        """The columns of each row, for all positions or for those whose index is in ``among``."""
        rows, cols = (self.rows, self.cols) if among is None else (self.rows[among], self.cols[among])
        bounds = np.searchsorted(rows, np.arange(len(self.samples) + 1))
        return [cols[start:stop] for start, stop in pairwise(bounds)]


def pack(
    samples: Sequence[Sample],
    terms: Mapping[str, Term],
    step: int,
    *,
    micro_batch_tokens: int,
    totals: Mapping[str, float] | None = None,
) -> list[MicroBatch]:
    """Cut a batch into micro-batches, longest rows first.

    Args:
        samples: the whole batch. ``masks[name]`` says which tokens carry a term; ``weights[name]`` (1 where absent) their weight.
        terms: components by name; one whose coefficient is 0 at ``step`` is left out.
        micro_batch_tokens: R·T stays at or below it, except for a single row that is longer.
        totals: N_c by name. ``None``: counted over ``samples``.

    Raises:
        AlignmentError: a mask is missing, or covers position 0, which nothing predicts.
        ConfigError: a term lacks a stream that it is made of.
    """
    active = active_terms(terms, step)
    totals = normalisers(samples, active) if totals is None else totals
    weights = {name: component_weights(samples, name, term, totals[name]) for name, term in active.items()}
    values = {name: totals[f"value/{name}"] for name in learned_values(active)}
    selected = [
        np.any([weights[name][i] != 0 for name in active] + [has_target(s, name) for name in values], axis=0)
        if active
        else np.zeros(len(s), bool)
        for i, s in enumerate(samples)
    ]
    lengths = {i: int(np.flatnonzero(mask)[-1]) for i, mask in enumerate(selected) if mask.any()}
    for i in lengths:
        _check(samples[i], {name: term for name, term in active.items() if weights[name][i].any()}, selected[i])
    return [_micro_batch(chosen, samples, active, weights, selected, values) for chosen in fill(lengths, micro_batch_tokens)]


def fill(lengths: Mapping[int, int], budget: int) -> list[list[int]]:
    """Keys of rows grouped so that rows × longest stays within ``budget`` (a longer row alone), longest first, ties in order."""
    groups: list[list[int]] = []
    longest = 0
    for key in sorted(lengths, key=lambda key: (-lengths[key], key)):
        if groups and (len(groups[-1]) + 1) * longest <= budget:
            groups[-1].append(key)
        else:
            groups.append([key])
            longest = lengths[key]
    return groups


def pad(rows: Sequence[npt.NDArray[np.int32]]) -> Index:
    """Ids right-padded with 0 to the longest: [R, T]."""
    padded = np.zeros((len(rows), max(len(row) for row in rows)), np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def _check(sample: Sample, terms: Mapping[str, Term], selected: BoolArray) -> None:
    if selected[0]:
        raise AlignmentError(f"a term covers position 0 of episode {sample.episode!r}, which no token predicts")
    for name, term in terms.items():
        if isinstance(term, PolicyGradientTerm) and name not in sample.advantages:
            raise ConfigError(
                f"policy-gradient term {name!r} has no advantages in episode {sample.episode!r}; credit must assign them first"
            )
        if isinstance(term, KLTerm):
            stream = "teacher_logprobs" if term.against == "teacher" else "ref_logprobs"
            if getattr(sample, stream) is None:
                remedy = "the teacher must review the batch" if term.against == "teacher" else "score the batch with want={'ref'}"
                raise ConfigError(f"term {name!r} needs {stream}, which episode {sample.episode!r} lacks; {remedy} first")


def _micro_batch(
    chosen: Sequence[int],
    samples: Sequence[Sample],
    terms: Mapping[str, Term],
    weights: Mapping[str, Sequence[Weights]],
    selected: Sequence[BoolArray],
    values: Mapping[str, float],
) -> MicroBatch:
    cols = [np.flatnonzero(selected[i]) for i in chosen]
    micro = MicroBatch(
        samples=tuple(samples[i] for i in chosen),
        input_ids=pad([samples[i].token_ids[: found[-1]] for i, found in zip(chosen, cols, strict=True)]),
        rows=np.repeat(np.arange(len(chosen)), [len(found) for found in cols]),
        cols=np.concatenate(cols),
    )
    components: dict[str, Component] = {}
    for name in terms:
        found = np.asarray(micro.gather([weights[name][i] for i in chosen]), np.float64)
        index = np.flatnonzero(found)
        if len(index):
            components[name] = Component(
                index=index,
                weights=found[index],
                advantages=_stream(micro, index, [samples[i].advantages.get(name) for i in chosen]),
                kappa=_stream(micro, index, [samples[i].kappas.get(name) for i in chosen]),
            )
    regressions: dict[str, Regression] = {}
    for name, total in values.items():
        targets = np.asarray(micro.gather([samples[i].returns.get(name) for i in chosen]), np.float32)
        index = np.flatnonzero(~np.isnan(targets))
        if len(index):
            regressions[name] = Regression(index=index, targets=targets[index], weight=1.0 / (total or 1.0))
    return replace(micro, components=components, values=regressions)


def _stream(micro: MicroBatch, index: Index, streams: Sequence[FloatArray | None]) -> FloatArray | None:
    """A stream of one component, where its rows have one."""
    if all(stream is None for stream in streams):
        return None
    return np.asarray(micro.gather(streams), np.float32)[index]
