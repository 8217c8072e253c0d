"""An episode becomes parallel per-token streams: one Sample a segment, ids exactly as they were sampled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from agentdistill.types import AUTHORS, NO_AUTHOR, Author, Episode, Feedback, Sample, Turn, require_length


def rows(
    episodes: Iterable[Episode],
    feedback: Mapping[str, Feedback] | None = None,
    reviewed: Mapping[str, Sequence[bool]] | None = None,
) -> list[Sample]:
    """Samples of every trainable episode with at least one completed turn, in order, without masks, weights and advantages.

    Args:
        feedback: by episode id; its ``token_logprobs`` become ``teacher_logprobs``. An episode that is absent stays unreviewed (NaN).
        reviewed: by episode id, whether the teacher reviews each turn. ``None``, or an episode that is absent: it reviews all.

    Raises:
        AlignmentError: a feedback, or the count of reviewed turns, does not fit its episode.
    """
    found: list[Sample] = []
    for episode in episodes:
        if episode.status.trainable and episode.turns:
            found.extend(_episode_rows(episode, (feedback or {}).get(episode.id), (reviewed or {}).get(episode.id)))
    return found


def _episode_rows(episode: Episode, feedback: Feedback | None, reviewed: Sequence[bool] | None) -> list[Sample]:
    if feedback is not None:
        require_length("feedback.episode", int(feedback.episode == episode.id), 1, episode.id)
        feedback.check(episode)
    teacher = None if feedback is None else feedback.token_logprobs
    segments: dict[int, list[tuple[int, Turn]]] = {}
    for index, turn in enumerate(episode.turns):
        segments.setdefault(turn.segment, []).append((index, turn))
    found = [_segment_row(episode, segment, turns, teacher) for segment, turns in segments.items()]
    if reviewed is None:
        return found
    require_length("reviewed turns", len(reviewed), len(episode.turns), episode.id)
    verdicts = np.array([*reviewed, False])  # the last one is that of tokens which nobody sampled, whose turn is −1
    return [replace(sample, reviewed=verdicts[sample.turn]) for sample in found]


def _segment_row(episode: Episode, segment: int, turns: list[tuple[int, Turn]], teacher: tuple[tuple[float, ...], ...] | None) -> Sample:
    length = sum(len(turn.context_ids) + len(turn.completion.token_ids) for _, turn in turns)
    token_ids = np.empty(length, np.int32)
    author = np.full(length, NO_AUTHOR, np.uint8)
    turn_index = np.full(length, -1, np.int32)
    version = np.zeros(length, np.int32)
    rollout = np.full(length, np.nan, np.float32)
    teacher_logprobs = None if teacher is None else np.full(length, np.nan, np.float32)
    position = 0
    for index, turn in turns:
        completion = turn.completion
        start = position + len(turn.context_ids)
        stop = start + len(completion.token_ids)
        token_ids[position:start] = turn.context_ids
        token_ids[start:stop] = completion.token_ids
        _fill_authors(author[start:stop], turn)
        turn_index[start:stop] = index
        version[start:stop] = completion.policy_version[1]
        if completion.logprobs is not None:
            rollout[start:stop] = completion.logprobs
        if teacher is not None and teacher_logprobs is not None:
            teacher_logprobs[start:stop] = teacher[index]
        position = stop
    return Sample(
        episode=episode.id,
        segment=segment,
        token_ids=token_ids,
        author=author,
        turn=turn_index,
        policy_version=version,
        rollout_logprobs=rollout,
        teacher_logprobs=teacher_logprobs,
    )


def _fill_authors(codes: np.ndarray[tuple[int], np.dtype[np.uint8]], turn: Turn) -> None:
    codes[:] = _code(turn.author)
    for span in turn.completion.authors or ():
        codes[span.start : span.stop] = _code(span.author)


def _code(author: Author) -> int:
    return AUTHORS.index(author)
