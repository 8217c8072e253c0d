"""The episodes of a run on disk, with what teachers said of them and what each update made of them.

    store = EpisodeStore.create(path)
    store.append_episodes(episodes, step=3, kind="train")      # durable when it returns
    store.append_feedback(feedback); store.append_annotations(annotations)

    store = EpisodeStore.open(path)                            # read-only, also while another process writes
    store.heads(kind="train", reward=(None, 0.2), order="reward", limit=20)
    store.episode("math-0-3")                                  # the whole id, or a prefix that only one episode has

Every append may be repeated, as a resumed run does when it plays steps again:

* an episode that is stored already is left as it is, if it is equal in all but its seconds; a different one under the same id is refused,
  because ids are given before play and one id means one play. Where play is not repeatable (a GPU), the resumed run calls
  :meth:`EpisodeStore.discard_after` first;
* feedback and annotations replace what their key had: the later review of the same episode by the same teacher counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, Unpack

from agentdistill.clock import SYSTEM_CLOCK, Clock
from agentdistill.errors import StoreError, UsageError
from agentdistill.store import _schema, codec
from agentdistill.store.heads import ANY, COLUMNS, ORDERS, EpisodeHead, Filters, Order, Where, as_head, head_values
from agentdistill.types import Annotation, Episode, Feedback

FILE_NAME = "episodes.sqlite"

_BATCH = 64
"""Episodes that :meth:`EpisodeStore.stream` reads at a time."""


class EpisodeStore:
    """One SQLite file. One writer, any number of readers; a store belongs to the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Clock) -> None:
        self.path = path
        self._connection = connection
        self._clock = clock

    @classmethod
    def create(cls, path: Path, *, clock: Clock = SYSTEM_CLOCK) -> Self:
        """A new, empty store, open for writing.

        Raises:
            StoreError: the file exists, or cannot be written.
        """
        _schema.create(path)
        return cls.open(path, readonly=False, clock=clock)

    @classmethod
    def open(cls, path: Path, *, readonly: bool = True, clock: Clock = SYSTEM_CLOCK) -> Self:
        """An existing store.

        Raises:
            StoreError: no such file, damaged, or written by a newer version.
        """
        return cls(path, _schema.connect(path, readonly=readonly), clock)

    def close(self) -> None:
        with _schema.guarded(self.path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- appending -------------------------------------------------------------------------------------------------

    def append_episodes(self, episodes: Sequence[Episode], *, step: int, kind: str) -> int:
        """Store all of them in one transaction; how many were new.

        Raises:
            StoreError: an id is taken by a different episode (none of the batch is then stored), or the disk refused.
        """
        encoded = [(episode, codec.encode_episode(episode)) for episode in episodes]
        now, added = self._clock.wall(), 0
        with self._transaction() as connection:
            for episode, blobs in encoded:
                values = (*head_values(episode, step, kind, now), blobs.digest, blobs.head, blobs.arrays, blobs.clock)
                marks = ", ".join("?" * len(values))
                cursor = connection.execute(
                    f"INSERT INTO episodes ({COLUMNS}, digest, head, arrays, clock) VALUES ({marks}) ON CONFLICT (id) DO NOTHING", values
                )
                added += cursor.rowcount
                if not cursor.rowcount:
                    self._require_equal(episode.id, blobs.digest)
        return added

    def append_feedback(self, feedback: Sequence[Feedback]) -> None:
        """Store all of them in one transaction, each in place of what its key had."""
        now = self._clock.wall()
        rows = [(*item.key, item.access, now, *codec.encode_feedback(item)) for item in feedback]
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def append_annotations(self, annotations: Sequence[Annotation]) -> None:
        """Store all of them in one transaction, each in place of what its (step, episode, segment) had."""
        rows = [(item.step, item.episode, item.segment, codec.encode_annotation(item)) for item in annotations]
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO annotations VALUES (?, ?, ?, ?)", rows)

    def discard_after(self, step: int) -> int:
        """Forget what is played after a checkpoint at ``step``; how many episodes.

        Those are the ``train`` episodes of steps from ``step`` on, all others later than ``step``, and the final measurements
        (``after-…``) at ``step`` itself. Their feedback goes with them, and so do the annotations made from ``step`` on. −1 forgets
        everything.
        """
        late = "SELECT id FROM episodes WHERE step > :step OR (step = :step AND (kind = 'train' OR kind GLOB 'after-*'))"
        with self._transaction() as connection:
            connection.execute(f"DELETE FROM feedback WHERE episode IN ({late})", {"step": step})
            connection.execute(f"DELETE FROM annotations WHERE step >= :step OR episode IN ({late})", {"step": step})
            return connection.execute(f"DELETE FROM episodes WHERE id IN ({late})", {"step": step}).rowcount

    # ---- reading ---------------------------------------------------------------------------------------------------

    def heads(
        self,
        where: Where = ANY,
        *,
        order: Order = "created",
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
        **filters: Unpack[Filters],
    ) -> list[EpisodeHead]:
        """Index rows; ties keep the order of storing. ``heads(kind="train")`` is short for ``heads(Where(kind="train"))``."""
        condition, values = (replace(where, **filters) if filters else where).sql()
        way = "DESC" if descending else "ASC"
        rows = self._rows(
            f"SELECT {COLUMNS} FROM episodes WHERE {condition} ORDER BY {ORDERS[order]} {way}, seq {way} LIMIT ? OFFSET ?",
            [*values, -1 if limit is None else limit, offset],
        )
        return [as_head(row) for row in rows]

    def count(self, where: Where = ANY) -> int:
        condition, values = where.sql()
        return int(self._rows(f"SELECT COUNT(*) FROM episodes WHERE {condition}", values)[0][0])

    def resolve(self, id: str) -> str:
        """The whole id of the one episode whose id is, or begins with, ``id``.

        Raises:
            UsageError: none, or more than one.
        """
        if self._rows("SELECT 1 FROM episodes WHERE id = ?", [id]):
            return id
        found = [row[0] for row in self._rows("SELECT id FROM episodes WHERE substr(id, 1, ?) = ? ORDER BY seq LIMIT 6", [len(id), id])]
        if id and len(found) == 1:
            return str(found[0])
        if id and found:
            more = ", …" if len(found) > 5 else ""
            raise UsageError(f"{id!r} is the beginning of several episodes: {', '.join(found[:5])}{more}; write more of the id")
        raise UsageError(self._unknown(id))

    def head(self, id: str) -> EpisodeHead:
        """The index row of an episode, by id or unique prefix."""
        return as_head(self._rows(f"SELECT {COLUMNS} FROM episodes WHERE id = ?", [self.resolve(id)])[0])

    def find(self, id: str) -> Episode | None:
        """The episode with this whole id, or ``None``."""
        return self.episode(id) if self._rows("SELECT 1 FROM episodes WHERE id = ?", [id]) else None

    def episode(self, id: str, *, views: bool = True) -> Episode:
        """One episode, by id or unique prefix; ``views=False`` leaves privileged information out.

        Raises:
            UsageError: none, or more than one.
            StoreError: what is stored is damaged.
        """
        id = self.resolve(id)
        head, arrays, clock = self._rows("SELECT head, arrays, clock FROM episodes WHERE id = ?", [id])[0]
        with self._decoding(id):
            return codec.decode_episode(head, arrays, clock, views=views)

    def document(self, id: str, *, views: bool = True) -> dict[str, Any]:
        """The ATIF document of one episode: its text without its token arrays."""
        id = self.resolve(id)
        with self._decoding(id):
            return codec.decode_head(self._rows("SELECT head FROM episodes WHERE id = ?", [id])[0][0], views=views)

    def stream(self, where: Where = ANY, *, views: bool = True) -> Iterator[Episode]:
        """Whole episodes in the order of storing, a few in memory at a time."""
        condition, values = where.sql()
        query = f"SELECT seq, id, head, arrays, clock FROM episodes WHERE {condition} AND seq > ? ORDER BY seq LIMIT {_BATCH}"
        last = -1
        while rows := self._rows(query, [*values, last]):
            for _, id, head, arrays, clock in rows:
                with self._decoding(id):
                    episode = codec.decode_episode(head, arrays, clock, views=views)
                yield episode
            last = rows[-1][0]

    def feedback(self, episode: str) -> list[Feedback]:
        """All feedback on the episode with this whole id, in a fixed order."""
        rows = self._rows("SELECT head, arrays FROM feedback WHERE episode = ? ORDER BY teacher, teacher_version, view", [episode])
        with self._decoding(episode):
            return [codec.decode_feedback(head, arrays) for head, arrays in rows]

    def annotations(self, episode: str) -> list[Annotation]:
        """All annotations of the episode with this whole id, by step and segment."""
        rows = self._rows("SELECT step, segment, arrays FROM annotations WHERE episode = ? ORDER BY step, segment", [episode])
        with self._decoding(episode):
            return [codec.decode_annotation(step, episode, segment, arrays) for step, segment, arrays in rows]

    # ---- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _schema.guarded(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with _schema.guarded(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _decoding(self, id: str) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            raise StoreError(f"episode {id!r} in {self.path}: {error}") from error

    def _require_equal(self, id: str, digest: bytes) -> None:
        if self._rows("SELECT digest FROM episodes WHERE id = ?", [id])[0][0] != digest:
            raise StoreError(
                f"episode {id!r} in {self.path} is stored already with different content; "
                "a run that plays steps again without repeating them exactly must call discard_after first"
            )

    def _unknown(self, id: str) -> str:
        ids = [row[0] for row in self._rows("SELECT id FROM episodes ORDER BY seq DESC LIMIT 2000")]
        if not ids:
            return f"no episode {id!r}: {self.path} has none yet"
        shown = ", ".join(sorted(ids)[:3])
        message = f"no episode {id!r} among the {self.count()} in {self.path} ({shown}, …)"
        close = get_close_matches(id, ids, n=1, cutoff=0.5)
        return f"{message}; did you mean {close[0]!r}?" if close else message
