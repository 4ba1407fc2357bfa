"""How a swap in the SQLite file is prepared: a statement or two a step. Used by `SqliteRebuilds`, inside its transactions."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from syncd.ids import ChannelName
from syncd.ports_state import KeyName, TaggedKey
from syncd.store.preparing import MAX_LATE, MAX_LISTED, Steps
from syncd.store.rebuilds import SwapPlan
from syncd.store.sqlite_generations import Generation, Generations, keys_text
from syncd.store.sqlite_rows import ChannelRows

__all__ = ["Preparing"]

_KEYS_A_STEP = 500
"""Looked at by one statement, which takes some 0.5 to 1 ms."""

_CHANNELS = """SELECT name FROM channel WHERE num_entries > 0
    AND (name = ?1 OR name BETWEEN ?1 || '/' AND ?1 || '/' || char(1114111)) ORDER BY name"""
_IS_MISSING = """NOT EXISTS (SELECT 1 FROM entry n WHERE n.generation = ?2 AND n.key = o.key)
    AND NOT EXISTS (SELECT 1 FROM touched t WHERE t.generation = ?2 AND t.key = o.key)"""
_SWEEP = f"""SELECT max(key), json_group_array(key) FILTER (WHERE is_missing) FROM (SELECT key, {_IS_MISSING} AS is_missing
    FROM entry o WHERE o.generation = ?1 AND o.key > ?3 ORDER BY key LIMIT {_KEYS_A_STEP})"""  # noqa: S608 - constants
_MISSING_AMONG = f"""SELECT json_group_array(key) FROM entry o
    WHERE o.generation = ?1 AND o.key IN (SELECT value FROM json_each(?3)) AND {_IS_MISSING}"""  # noqa: S608 - constants
_TOUCHED = f"""SELECT max(key), json_group_array(key) FROM (
    SELECT key FROM touched WHERE generation = ? AND key > ? ORDER BY key LIMIT {_KEYS_A_STEP})"""  # noqa: S608 - constants
_TOUCHED_AMONG = """SELECT json_group_array(key) FROM touched
    WHERE generation = ? AND key IN (SELECT value FROM json_each(?))"""
_ARE_MIXED = "UPDATE rebuild SET is_mixed = 1 WHERE collection = ?"


class Preparing(Steps):
    """Prepares one swap."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        rows: ChannelRows,
        generations: Generations,
        collection: str,
        plan: SwapPlan,
    ) -> None:
        """Begin with nothing done."""
        super().__init__(plan)
        self._connection = connection
        self._rows = rows
        self._generations = generations
        self._collection = collection
        self._late: dict[ChannelName, set[KeyName]] = {}
        """Touched since this was begun, or about to be by a transaction that was undone."""

    def touch(self, places: Iterable[TaggedKey]) -> None:
        """Served entries have changed."""
        for channel, key in places:
            self._late.setdefault(channel, set()).add(key)

    def finish(self) -> None:
        """Do all that is left, in what is to be the swap's transaction."""
        self._finish_steps()
        while self.is_whole and self._late:
            self._copy_late()

    def changes(self) -> dict[ChannelName, int]:
        """Return how many entries change, by channel, in order; those that were touched count until they are copied."""
        opened = self._generations.of(self._collection).of_channel
        found = {
            channel: opened[channel].num_changed + self._num_missing.get(channel, 0)
            for channel in sorted(opened)
        }
        return {channel: count for channel, count in found.items() if count}

    # -------------------------------------------------------------------------------------------- steps

    def _run(self) -> Iterator[None]:
        """Stop after each step."""
        plan = self._plan
        if plan.deletes_missing:
            yield from self._find_missing()
        # More may be listed than change: what was scanned again.
        num_listed = self._generations.of(self._collection).num_listed
        self.is_whole = sum(self.changes().values()) > plan.max_events or num_listed > MAX_LISTED
        if not self.is_whole:
            return
        if self.keeps_unscanned:
            self._connection.execute(_ARE_MIXED, (self._collection,))
            for channel in self.changes():
                yield from self._copy_kept(channel)
        for channel in self.changes():
            yield from self._copy_touched(channel)
        while sum(map(len, self._late.values())) > MAX_LATE:
            self._copy_late()
            yield

    def _find_missing(self) -> Iterator[None]:
        if self._among is not None:
            for channel, keys in self._among.items():
                for start in range(0, len(keys), _KEYS_A_STEP):
                    self._find_missing_among(channel, keys[start : start + _KEYS_A_STEP])
                    yield
            return
        for (channel,) in self._connection.execute(_CHANNELS, (self._collection,)).fetchall():
            for keys in self._not_scanned(channel):
                self._note_missing(channel, keys)
                yield

    def _not_scanned(self, channel: ChannelName) -> Iterator[list[KeyName]]:
        """Yield, step by step, served entries that are neither in the generation nor touched."""
        row = self._rows.find(channel)
        if row is None:
            return
        generation = self._generation(channel)
        after: KeyName | None = KeyName("")
        while True:
            span = (row.generation, generation.id, after)
            after, text = self._connection.execute(_SWEEP, span).fetchone()
            if after is None:
                return
            yield json.loads(text)

    def _find_missing_among(self, channel: ChannelName, keys: Sequence[KeyName]) -> None:
        row = self._rows.find(channel)
        if row is not None:
            generation = self._generation(channel)
            about = (row.generation, generation.id, keys_text(keys))
            (text,) = self._connection.execute(_MISSING_AMONG, about).fetchone()
            self._note_missing(channel, json.loads(text))

    def _copy_kept(self, channel: ChannelName) -> Iterator[None]:
        """Let a generation have what is kept although it was not scanned."""
        for keys in self._not_scanned(channel):
            self._copy(channel, self._kept(channel, keys))
            yield

    def _copy_touched(self, channel: ChannelName) -> Iterator[None]:
        """Let a generation have what was touched as it is now."""
        after: KeyName | None = KeyName("")
        while True:
            span = (self._generation(channel).id, after)
            after, text = self._connection.execute(_TOUCHED, span).fetchone()
            if after is None:
                return
            self._copy(channel, json.loads(text))
            yield

    def _copy_late(self) -> None:
        """Copy some of what was touched since; of a channel that stays as it is nothing has to be copied."""
        channel, keys = self._late.popitem()
        if channel in self.changes():
            some = list(itertools.islice(keys, _KEYS_A_STEP))
            here = (self._generation(channel).id, keys_text(some))
            (text,) = self._connection.execute(_TOUCHED_AMONG, here).fetchone()
            self._copy(channel, json.loads(text))
            keys.difference_update(some)
            if keys:
                self._late[channel] = keys

    def _copy(self, channel: ChannelName, keys: Sequence[KeyName]) -> None:
        if keys:
            self._generations.copy_served(self._generation(channel), keys)

    def _generation(self, channel: ChannelName) -> Generation:
        return self._generations.of_channel(self._collection, channel)
