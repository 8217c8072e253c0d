"""The in-process teacher: a frozen causal LM that says how likely each sampled token was, or its whole distribution.

    review(episodes)            one feedback each, with token_logprobs [turn][token]
    dense(samples, positions)   a DenseTarget for the learner's divergences
    session()                   the same numbers as an episode goes on, each token read once

Rows are sorted by length and padded on the right, where causal attention needs no mask. The head sees only completion positions, a chunk
at a time: logits never exist for a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from transformers import PreTrainedModel

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.errors import AlignmentError, IncompatibleError, TeacherError, boundary
from agentdistill.policy.loading import load_model
from agentdistill.teacher.batches import by_length, padded
from agentdistill.teacher.dense import RowsTarget, StatesTarget
from agentdistill.teacher.halves import Halves, Lent, halves_of
from agentdistill.teacher.protocol import DenseTarget
from agentdistill.teacher.session import TeacherSession
from agentdistill.types import Access, Cost, Episode, Feedback, FloatArray, ModelPath, PluginConfig, Sample, turn_ranges


class LogprobConfig(PluginConfig):
    """An in-process teacher that the learner can look into."""

    path: ModelPath = "nano"
    """``nano``, a directory in Hugging Face form, a GGUF file, or a hub id."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the weights. ``auto``: bfloat16 on CUDA, float32 elsewhere."""


class LogprobTeacher:
    """White-box teacher over a causal LM with the student's tokenizer.

    Args:
        model: on its device; it is frozen here and put in evaluation mode, so it must not be the module that trains.
        chunk_tokens: positions whose logits exist at the same time.
        batch_tokens: padded tokens of one forward pass.
        vocab_size: ids that student and teacher share. A head that is padded beyond is cut there before it is normalised. ``None``: the
            head's own size.
        lent: the model belongs to somebody else: it is left as it is, and computes only inside ``lent()``.

    Raises:
        IncompatibleError: the head is smaller than ``vocab_size``.
    """

    Config: ClassVar[type[PluginConfig]] = LogprobConfig
    access: Access = "white"

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        name: str = "teacher",
        version: str = "",
        chunk_tokens: int = 1024,
        batch_tokens: int = 8192,
        vocab_size: int | None = None,
        lent: Callable[[], AbstractContextManager[Any]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.version = version
        self.chunk_tokens = chunk_tokens
        self.batch_tokens = batch_tokens
        self.model = model.eval().requires_grad_(False) if lent is None else model
        self._clock = clock
        with boundary(TeacherError, f"teacher {name!r}"):
            halves, head = halves_of(self.model)
        self.halves: Halves = halves if lent is None else Lent(halves, lent)
        if vocab_size is not None and vocab_size > head:
            raise IncompatibleError(
                f"teacher {name!r} has logits for {head} tokens and the student's vocabulary has {vocab_size}; "
                "choose a teacher of the student's model family"
            )
        self.vocab_size: int = head if vocab_size is None else vocab_size
        """Ids over which the distribution is normalised."""
        config = model.config.get_text_config()
        self.context_window: int | None = getattr(config, "max_position_embeddings", None)

    @classmethod
    def from_config(
        cls,
        config: PluginConfig,
        *,
        env: str,
        device: str | torch.device = "auto",
        chunk_tokens: int = 1024,
        vocab_size: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Self:
        """Load the configured model. Its path is the teacher's version.

        Raises:
            ConfigError: there is no such model.
            IncompatibleError: as the constructor.
        """
        chosen = config if isinstance(config, LogprobConfig) else LogprobConfig.model_validate(config.model_dump())
        model = load_model(chosen.path, env=env, role="teacher", dtype=chosen.dtype, device=device)
        name = chosen.name or "teacher"
        return cls(model, name=name, version=chosen.path, chunk_tokens=chunk_tokens, vocab_size=vocab_size, clock=clock)

    def review(self, episodes: Sequence[Episode]) -> list[Feedback]:
        """The log-probability of every sampled token, given all that came before it in its segment.

        Raises:
            TeacherError: an episode is longer than the model's positions, has ids outside its vocabulary, or a completion without context;
                or the model failed. None of the episodes is then reviewed.
        """
        began = self._clock.now()
        rows = [_segments(episode) for episode in episodes]
        flat = [(index, segment) for index, segments in enumerate(rows) for segment in segments]
        scored = self.score([rows[i][s].ids for i, s in flat], [rows[i][s].positions for i, s in flat], [episodes[i].id for i, _ in flat])
        found = dict(zip(flat, scored, strict=True))
        seconds = self._clock.now() - began
        total = sum(len(segment.ids) for segments in rows for segment in segments.values()) or 1
        return [
            self._feedback(episode, index, segments, found, seconds / total)
            for index, (episode, segments) in enumerate(zip(episodes, rows, strict=True))
        ]

    def _feedback(
        self,
        episode: Episode,
        index: int,
        segments: dict[int, _Segment],
        found: dict[tuple[int, int], FloatArray],
        seconds_per_token: float,
    ) -> Feedback:
        used = dict.fromkeys(segments, 0)
        logprobs = []
        for turn in episode.turns:
            begin = used[turn.segment]
            used[turn.segment] = begin + len(turn.completion.token_ids)
            logprobs.append(tuple(found[index, turn.segment][begin : used[turn.segment]].tolist()))
        tokens = sum(len(segment.ids) for segment in segments.values())
        feedback = Feedback(
            episode=episode.id,
            teacher=self.name,
            teacher_version=self.version,
            access=self.access,
            token_logprobs=tuple(logprobs),
            cost=Cost(tokens=tokens, calls=len(segments), seconds=seconds_per_token * tokens),
        )
        feedback.check(episode)
        return feedback

    def score(self, rows: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], names: Sequence[str]) -> list[FloatArray]:
        """ln p(``rows[i][t]`` | ``rows[i][:t]``) for each t ≥ 1 in ``positions[i]``; ``names`` are for messages.

        Raises:
            TeacherError: as :meth:`review`.
        """
        for row, wanted, name in zip(rows, positions, names, strict=True):
            self._check(row, wanted, name)
        result = [np.zeros(len(wanted), np.float32) for wanted in positions]
        lengths = [max(wanted, default=0) for wanted in positions]
        budget = self.chunk_tokens if self.halves.whole else self.batch_tokens
        with boundary(TeacherError, f"teacher {self.name!r}"), torch.no_grad():
            for batch in by_length(lengths, budget):
                states = self._states([rows[index][: lengths[index]] for index in batch], [positions[index] for index in batch])
                targets = [rows[index][position] for index in batch for position in positions[index]]
                logprobs = self.gathered(states, targets)
                for index, piece in zip(batch, np.split(logprobs, np.cumsum([len(positions[index]) for index in batch])[:-1]), strict=True):
                    result[index] = piece
        return result

    def _states(self, rows: Sequence[Sequence[int]], positions: Sequence[Sequence[int]]) -> torch.Tensor:
        """States [N, S] that predict the positions, flattened in order."""
        states = self.halves.states(padded(rows, self.model.device))[0]
        row = [index for index, wanted in enumerate(positions) for _ in wanted]
        column = [position - 1 for wanted in positions for position in wanted]
        chosen: torch.Tensor = states[torch.tensor(row, device=states.device), torch.tensor(column, device=states.device)]
        return chosen

    def gathered(self, states: torch.Tensor, targets: Sequence[int]) -> FloatArray:
        """Log-probability [N] of target n after state n; the head works a chunk at a time."""
        wanted = torch.tensor(targets, dtype=torch.int64, device=states.device)
        pieces = []
        for start in range(0, len(targets), self.chunk_tokens):
            logits = self.halves.logits(states[start : start + self.chunk_tokens])[:, : self.vocab_size]
            chosen = logits.gather(1, wanted[start : start + self.chunk_tokens, None])[:, 0]
            pieces.append(chosen - logits.logsumexp(dim=-1))
        result: FloatArray = torch.cat(pieces).cpu().numpy() if pieces else np.zeros(0, np.float32)
        if np.isnan(result).any():
            raise TeacherError(f"teacher {self.name!r} gave logits that are not numbers; are its weights sound?")
        return result

    def dense(self, samples: Sequence[Sample], positions: Sequence[Sequence[int]]) -> DenseTarget:
        """The target for predicting ``samples[i].token_ids[t]`` for each t in ``positions[i]`` (every t ≥ 1), flattened in that order.

        Raises:
            TeacherError: as :meth:`review`.
            AlignmentError: not as many position lists as samples.
        """
        if len(samples) != len(positions):
            raise AlignmentError(f"{len(positions)} lists of positions for {len(samples)} samples")
        return self.dense_rows([sample.token_ids.tolist() for sample in samples], positions, [sample.episode for sample in samples])

    def dense_rows(self, rows: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], names: Sequence[str]) -> DenseTarget:
        """The same for rows of tokens; ``names`` are for messages.

        Raises:
            TeacherError: as :meth:`review`.
        """
        for row, wanted, name in zip(rows, positions, names, strict=True):
            self._check(row, wanted, name)
        lengths = [max(wanted, default=0) for wanted in positions]
        if self.halves.whole:
            return RowsTarget(
                [len(wanted) for wanted in positions], lambda index: self._row_logits(rows[index][: lengths[index]], positions[index])
            )
        counts = [len(wanted) for wanted in positions]
        offsets = np.cumsum([0, *counts]).tolist()
        gathered: torch.Tensor | None = None
        with boundary(TeacherError, f"teacher {self.name!r}"), torch.no_grad():
            for batch in by_length(lengths, self.batch_tokens):
                states = self._states([rows[index][: lengths[index]] for index in batch], [positions[index] for index in batch])
                if gathered is None:
                    gathered = states.new_empty((offsets[-1], states.shape[-1]))
                order = [place for index in batch for place in range(offsets[index], offsets[index + 1])]
                gathered[torch.tensor(order, device=states.device)] = states
        if gathered is None:
            gathered = torch.empty(
                (0, self.model.get_output_embeddings().weight.shape[1]), dtype=self.model.dtype, device=self.model.device
            )
        return StatesTarget(self.halves, gathered, self.vocab_size)

    def _row_logits(self, row: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        return self.halves.logits(self._states([row], [positions]))[:, : self.vocab_size]

    def session(self) -> TeacherSession:
        """Scores episodes as they go on, with a cache of its own."""
        return TeacherSession(self)

    def _check(self, row: Sequence[int], positions: Sequence[int], name: str) -> None:
        if not positions:
            return
        if min(positions) < 1:
            raise TeacherError(f"the first token of episode {name!r} has no context, so no model can score it")
        if max(positions) >= len(row):
            raise TeacherError(f"position {max(positions)} is asked for in episode {name!r}, whose row has {len(row)} tokens")
        self.check_ids(row, name)

    def check_ids(self, row: Sequence[int], name: str) -> None:
        """Raise :class:`TeacherError` unless the model can read the row."""
        if row and not 0 <= min(row) <= max(row) < self.vocab_size:
            raise TeacherError(
                f"episode {name!r} has token ids outside the vocabulary of teacher {self.name!r}, which has {self.vocab_size}"
            )
        if self.context_window is not None and len(row) > self.context_window:
            raise TeacherError(f"episode {name!r} has {len(row)} tokens; teacher {self.name!r} reads at most {self.context_window}")


class _Segment:
    """One segment of an episode: its tokens, and where its sampled ones are."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []


def _segments(episode: Episode) -> dict[int, _Segment]:
    segments: dict[int, _Segment] = {}
    for turn, (number, start, stop) in zip(episode.turns, turn_ranges(episode), strict=True):
        segment = segments.setdefault(number, _Segment())
        segment.ids += [*turn.context_ids, *turn.completion.token_ids]
        segment.positions += range(start, stop)
    return segments
