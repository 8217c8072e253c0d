"""The student as its own teacher, under a view that the student does not have: p^c(y_t) = p(y_t | h_t, c), the same weights, more context.

"Self-Distilled Reasoner: On-Policy Self-Distillation for Large Language Models" (OPSD), arXiv 2601.18734, tells the answer to the frozen
initial policy; "Reinforcement Learning via Self-Distillation" (SDPO), arXiv 2601.20802, tells the environment's feedback.

A turn whose view is missing is not reviewed: its log-probabilities are NaN, and no term that only hears the teacher covers it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.errors import AlignmentError
from agentdistill.teacher.protocol import DenseTarget
from agentdistill.teacher.told import Row, Teller, Told, View, tellable
from agentdistill.types import Access, Cost, Episode, Feedback, FloatArray, PluginConfig, Sample, require_length

if TYPE_CHECKING:
    from agentdistill.render import Renderer
    from agentdistill.teacher.logprob import LogprobTeacher


class SelfConfig(PluginConfig):
    """The student as its own teacher."""

    view: View = "answer"
    """What the teacher is told: the task's ``answer``, the ``hint`` for the present turn, or the environment's ``feedback`` on what went
    before. ``none``: nothing, which makes it the student as it began."""
    weights: Literal["frozen"] = "frozen"
    """Whose: ``frozen`` is the student as it was before training; with LoRA the base under disabled adapters, else a copy."""


class Weights(Protocol):
    """Lends the model that the teacher computes with."""

    def __call__(self) -> AbstractContextManager[Any]:
        """The model, in evaluation mode and usable inside the block."""
        ...


class SelfTeacher:
    """White-box teacher over the student's own weights and a privileged context.

    Args:
        scorer: over those weights.
        renderer: the student's.
        view: what is told.

    :meth:`prepare` comes before :meth:`dense`, since samples do not carry what may be told.
    """

    Config: ClassVar[type[PluginConfig]] = SelfConfig
    access: Access = "self"

    def __init__(
        self, scorer: LogprobTeacher, renderer: Renderer, *, view: View, name: str = "self", version: str = "", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.name, self.version, self.view = name, version, view
        self._scorer, self._clock = scorer, clock
        self._teller = Teller(renderer=renderer, view=view, window=scorer.context_window, teacher=name)
        self._known: dict[str, Told] = {}

    @classmethod
    def of(
        cls, config: PluginConfig, renderer: Renderer, weights: Weights, *, version: str, chunk_tokens: int, batch_tokens: int
    ) -> SelfTeacher:
        """The teacher of a run, over what ``weights`` lends.

        Raises:
            IncompatibleError: the head is smaller than the vocabulary.
        """
        from agentdistill.teacher.logprob import LogprobTeacher

        chosen = config if isinstance(config, SelfConfig) else SelfConfig.model_validate(config.model_dump())
        name = chosen.name or "self"
        with weights() as model:
            scorer = LogprobTeacher(
                model,
                name=name,
                version=version,
                chunk_tokens=chunk_tokens,
                batch_tokens=batch_tokens,
                vocab_size=renderer.vocab_size,
                lent=weights,
            )
        return cls(scorer, renderer, view=chosen.view, name=name, version=version)

    def prepare(self, episodes: Sequence[Episode]) -> dict[str, tuple[bool, ...]]:
        """Read the episodes that the coming samples are of, and forget others; by episode id, which of its turns are reviewed.

        Raises:
            AlignmentError: an episode was not rendered as this teacher renders.
            TeacherError: nobody asked anything, so nothing can be told.
        """
        self._known = {episode.id: self._tell(episode) for episode in episodes}
        reviewed = {id: tuple(told.row_of(turn) is not None for turn in range(len(told.episode.turns))) for id, told in self._known.items()}
        if episodes and not any(map(any, reviewed.values())):
            there = ", ".join(tellable(episodes)) or "nothing"
            warnings.warn(
                f"teacher {self.name!r} is to be told {self.view!r}, and no turn of {len(episodes)} episodes says it, so none is reviewed; "
                f"their environment tells: {there} (teacher.view=…)",
                RuntimeWarning,
                stacklevel=2,
            )
        return reviewed

    def _tell(self, episode: Episode) -> Told:
        known = self._known.get(episode.id)
        return known if known is not None and known.episode is episode else self._teller.tell(episode)

    def review(self, episodes: Sequence[Episode]) -> list[Feedback]:
        """The log-probability of every sampled token under the view; NaN in turns that are not reviewed.

        Raises:
            AlignmentError: as :meth:`prepare`.
            TeacherError: as :meth:`prepare`, and as :meth:`LogprobTeacher.score`.
        """
        began = self._clock.now()
        self.prepare(episodes)
        told = [self._known[episode.id] for episode in episodes]
        rows = [(each, row) for each in told for row in each.rows]
        scored = iter(
            self._scorer.score(
                [row.ids for _, row in rows],
                [[place for places in row.places.values() for place in places] for _, row in rows],
                [each.episode.id for each, _ in rows],
            )
        )
        found = [[next(scored) for _ in each.rows] for each in told]
        per_token = (self._clock.now() - began) / (sum(len(row.ids) for _, row in rows) or 1)
        return [self._feedback(each, values, per_token) for each, values in zip(told, found, strict=True)]

    def _feedback(self, told: Told, scored: list[FloatArray], seconds_per_token: float) -> Feedback:
        logprobs = [(float("nan"),) * len(turn.completion.token_ids) for turn in told.episode.turns]
        for row, values in zip(told.rows, scored, strict=True):
            begin = 0
            for turn, places in row.places.items():
                logprobs[turn] = tuple(values[begin : begin + len(places)].tolist())
                begin += len(places)
        tokens = sum(len(row.ids) for row in told.rows)
        feedback = Feedback(
            episode=told.episode.id,
            teacher=self.name,
            teacher_version=self.version,
            view="same" if self.view == "none" else self.view,
            access=self.access,
            token_logprobs=tuple(logprobs),
            cost=Cost(tokens=tokens, calls=len(told.rows), seconds=seconds_per_token * tokens),
        )
        feedback.check(told.episode)
        return feedback

    def dense(self, samples: Sequence[Sample], positions: Sequence[Sequence[int]]) -> DenseTarget:
        """The target for predicting ``samples[i].token_ids[t]`` for each t in ``positions[i]`` (every t ≥ 1), flattened in that order.

        Raises:
            AlignmentError: a sample is of no prepared episode, has another length than its segment, or a position is in a turn that is
                not reviewed; or there are not as many position lists as samples.
            TeacherError: as :meth:`LogprobTeacher.score`.
        """
        if len(samples) != len(positions):
            raise AlignmentError(f"{len(positions)} lists of positions for {len(samples)} samples")
        rows: list[Sequence[int]] = []
        wanted: list[list[int]] = []
        names: list[str] = []
        for sample, places in zip(samples, positions, strict=True):
            told = self._told(sample)
            for row, run in groupby(places, key=lambda place: self._row(told, sample, place)):
                rows.append(row.ids)
                wanted.append([place + row.shift for place in run])
                names.append(sample.episode)
        return self._scorer.dense_rows(rows, wanted, names)

    def _told(self, sample: Sample) -> Told:
        told = self._known.get(sample.episode)
        if told is None:
            raise AlignmentError(f"teacher {self.name!r} was not told of episode {sample.episode!r}; prepare() comes before dense()")
        require_length(f"segment {sample.segment} of a sample", len(sample), told.lengths.get(sample.segment, 0), sample.episode)
        return told

    def _row(self, told: Told, sample: Sample, place: int) -> Row:
        turn = int(sample.turn[place])
        row = told.row_of(turn)
        if row is None:
            what = f"turn {turn}, which is not reviewed" if turn >= 0 else "its context, which nobody sampled"
            raise AlignmentError(f"position {place} of {len(sample)} in episode {sample.episode!r} belongs to {what}")
        return row
