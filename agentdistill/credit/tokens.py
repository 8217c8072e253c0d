"""The tokens of one term as flat arrays, and back.

    samples (one a segment)  ──flatten──>  Tokens: n tokens, episode by episode, in the order in which they were said
                             <──spread──   values [n]

Weights and signals are functions of flat arrays: what they compare (an episode's tokens, a turn's, the whole batch's) may lie in several
segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agentdistill.errors import AlignmentError
from agentdistill.types import BoolArray, FloatArray, Sample

Values = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """n tokens; every array is [n]."""

    samples: Sequence[Sample]
    row: Index
    """Index of the token's sample."""
    column: Index
    """Its position there."""
    episode: Index
    """Number of its episode, ascending."""
    names: Sequence[str]
    """Of the episodes, by number."""

    @classmethod
    def of(cls, samples: Sequence[Sample], masks: Sequence[BoolArray]) -> Tokens:
        """The masked tokens. Segments of one episode follow each other in the order of their numbers."""
        names = list(dict.fromkeys(sample.episode for sample in samples))
        number = {name: index for index, name in enumerate(names)}
        order = sorted(range(len(samples)), key=lambda row: (number[samples[row].episode], samples[row].segment))
        columns = [np.flatnonzero(masks[row]) for row in order]
        counts = [len(found) for found in columns]
        return cls(
            samples=samples,
            row=np.repeat(np.asarray(order, np.int64), counts),
            column=np.concatenate([np.zeros(0, np.int64), *columns]),
            episode=np.repeat(np.asarray([number[samples[row].episode] for row in order], np.int64), counts),
            names=names,
        )

    def __len__(self) -> int:
        return len(self.row)

    def gather(self, streams: Sequence[npt.NDArray[np.generic] | None], what: str) -> Values:
        """One stream a sample into [n].

        Raises:
            AlignmentError: a sample with tokens has none, or has NaN at one of them; the message names ``what`` and the episode.
        """
        found = np.empty(len(self), np.float64)
        for row in np.unique(self.row):
            here, stream = self.row == row, streams[row]
            values = None if stream is None else np.asarray(stream[self.column[here]], np.float64)
            if values is None or np.isnan(values).any():
                raise AlignmentError(f"a term needs {what}, which some tokens of episode {self.samples[row].episode!r} lack")
            found[here] = values
        return found

    def take(self, kept: BoolArray) -> Tokens:
        """The tokens where ``kept``, [n]."""
        return replace(self, row=self.row[kept], column=self.column[kept], episode=self.episode[kept])

    def where(self, flags: Sequence[BoolArray | None]) -> BoolArray:
        """One flag a position of each sample into [n]; ``None``: true everywhere."""
        found = np.ones(len(self), np.bool_)
        for row in np.unique(self.row):
            if (flag := flags[row]) is not None:
                here = self.row == row
                found[here] = flag[self.column[here]]
        return found

    @property
    def turn(self) -> Index:
        """Index of each token's turn in its episode."""
        return np.asarray(self.gather([sample.turn for sample in self.samples], "turns"), np.int64)

    @property
    def ids(self) -> Index:
        return np.asarray(self.gather([sample.token_ids for sample in self.samples], "ids"), np.int64)

    @property
    def ends_completion(self) -> BoolArray:
        """Whether the token is the last one that was sampled in its turn."""
        last = np.zeros(len(self), np.bool_)
        for row in np.unique(self.row):
            sample, here = self.samples[row], self.row == row
            ends = sample.sampled & (np.append(sample.turn[1:], -1) != sample.turn)
            last[here] = ends[self.column[here]]
        return last

    def by_episode(self) -> Iterator[tuple[str, slice]]:
        """Each episode that has tokens, and where they are."""
        bounds = np.searchsorted(self.episode, np.arange(len(self.names) + 1))
        for name, start, stop in zip(self.names, bounds[:-1], bounds[1:], strict=True):
            if stop > start:
                yield name, slice(int(start), int(stop))

    def spread(self, values: npt.NDArray[np.generic], empty: float = 0.0) -> list[FloatArray]:
        """[n] into one float32 stream a sample, ``empty`` where the term has no token."""
        found = [np.full(len(sample), empty, np.float32) for sample in self.samples]
        for row in np.unique(self.row):
            here = self.row == row
            found[row][self.column[here]] = values[here]
        return found
