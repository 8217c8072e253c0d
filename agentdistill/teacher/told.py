"""From an episode to what a privileged teacher reads: the same tokens behind another beginning.

    student reads   question                    │ completion₀ │ reply │ completion₁ …
    teacher reads   question + "Hint: <view>"   │ completion₀ │ reply │ completion₁ …      the same ids from the first completion on

What may be told was recorded with each turn while the environment still existed (:class:`~agentdistill.types.Views`). Consecutive turns
that are told the same share a row; where the view changes from turn to turn (a hint does), each has a row of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Literal

from agentdistill.errors import AlignmentError, TeacherError
from agentdistill.teacher.views import with_hint
from agentdistill.types import Episode, Message, Turn

if TYPE_CHECKING:
    from agentdistill.render import Renderer

View = Literal["answer", "hint", "feedback", "none"]
VIEWS: tuple[View, ...] = ("answer", "hint", "feedback")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Turns of a segment that are told the same, as one row of tokens."""

    ids: tuple[int, ...]
    """Up to the last of the turns."""
    shift: int
    """Position in this row minus position in what the student saw; the same for every completion."""
    places: dict[int, range]
    """By turn: where its completion stands in ``ids``."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """An episode as the teacher reads it."""

    episode: Episode
    rows: tuple[Row, ...]
    lengths: dict[int, int]
    """Tokens of each segment, as the student saw it."""

    def row_of(self, turn: int) -> Row | None:
        """``None``: the turn is not reviewed."""
        return next((row for row in self.rows if turn in row.places), None)


@dataclass(frozen=True, kw_only=True)
class Teller:
    """Puts a view in front of episodes.

    Args:
        renderer: that of the student, which the episodes were played with.
        window: positions of the teacher's model. ``None``: unbounded. A turn that no longer fits once it is told is not reviewed.
    """

    renderer: Renderer
    view: View
    window: int | None
    teacher: str

    def tell(self, episode: Episode) -> Told:
        """
        Raises:
            AlignmentError: the episode was not rendered as ``renderer`` does.
            TeacherError: nobody asked anything, so there is no place for the view.
        """
        rows, lengths = [], {}
        for number, found in groupby(enumerate(episode.turns), key=lambda pair: pair[1].segment):
            turns = dict(found)
            sizes = [len(turn.context_ids) + len(turn.completion.token_ids) for turn in turns.values()]
            stops = dict(zip(turns, accumulate(sizes), strict=True))
            lengths[number] = stops[max(stops)]
            texts = {index: text for index, turn in turns.items() if (text := self._text(turn)) is not None}
            for text, alike in groupby(texts, key=texts.__getitem__):
                if (row := self._row(episode, turns, stops, list(alike), text)) is not None:
                    rows.append(row)
        return Told(episode=episode, rows=tuple(rows), lengths=lengths)

    def _text(self, turn: Turn) -> str | None:
        """What is told at this turn; empty under the view ``none``. ``None``: there is nothing to tell."""
        if self.view == "none":
            return ""
        return (getattr(turn.views, self.view) or None) if turn.views is not None else None

    def _row(self, episode: Episode, turns: dict[int, Turn], stops: dict[int, int], chosen: list[int], text: str) -> Row | None:
        first = min(turns)
        ours = turns[first].context_ids
        context = ours if self.view == "none" else self._context(episode, first, text)
        shift = len(context) - len(ours)
        fits = [index for index in chosen if self.window is None or stops[index] + shift <= self.window]
        if len(fits) < len(chosen):
            warnings.warn(
                f"teacher {self.teacher!r} reads {self.window} positions: turns that do not fit them once they are told are not reviewed",
                RuntimeWarning,
                stacklevel=5,
            )
        if not fits:
            return None
        said = [token for turn in turns.values() for token in (*turn.context_ids, *turn.completion.token_ids)]
        places = {index: range(stops[index] + shift - len(turns[index].completion.token_ids), stops[index] + shift) for index in fits}
        return Row(ids=(*context, *said[len(ours) : stops[fits[-1]]]), shift=shift, places=places)

    def _context(self, episode: Episode, turn: int, text: str) -> tuple[int, ...]:
        """The beginning of a segment whose first turn this is, with ``text`` in it."""
        said = [message for each in episode.turns[:turn] for message in (each.completion.message, *each.reply)]
        messages = (*episode.prompt, *said)
        theirs, again = episode.turns[turn].context_ids, self._render(episode, messages)
        if theirs != again:
            raise AlignmentError(
                f"turn {turn} of episode {episode.id!r} has {len(theirs)} tokens of context, and teacher {self.teacher!r} renders "
                f"{len(again)} other ones from the same messages; it needs the renderer that the episode was played with"
            )
        try:
            return self._render(episode, with_hint(messages, text))
        except ValueError as error:
            raise TeacherError(f"teacher {self.teacher!r} cannot tell episode {episode.id!r} its {self.view}: {error}") from error

    def _render(self, episode: Episode, messages: Sequence[Message]) -> tuple[int, ...]:
        return self.renderer.start(messages, episode.tools).context()


def tellable(episodes: Sequence[Episode]) -> list[str]:
    """The views that some turn of the episodes has."""
    turns = [turn for episode in episodes for turn in episode.turns if turn.views is not None]
    return [view for view in VIEWS if any(getattr(turn.views, view) for turn in turns)]
